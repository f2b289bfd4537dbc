"""Base models by name, full precision or NF4, and adapters on top of them (whose files `adapter_files` reads and writes).

A `LoadedModel` is a base model with its tokenizer; at most one adapter lies on it. Prompted and finetuned arms share it:
`without_adapter()` switches the adapter off instead of loading the base model a second time. One base model is in memory at a
time: loading another frees it.
"""

import contextlib
import gc
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse._base import hardware, hub, processes
from llmcourse._base.errors import CourseError
from llmcourse.models import attention, catalogue, embedded
from llmcourse.models.adapters import ADAPTER_MARK as ADAPTER_MARK
from llmcourse.models.adapters import identity as identity
from llmcourse.models.adapters import put_adapter as put_adapter
from llmcourse.models.adapters import read_card as read_card
from llmcourse.models.adapters import save_adapter as save_adapter
from llmcourse.models.adapters import shipped_adapter as shipped_adapter
from llmcourse.models.catalogue import EMBEDDED, Base

# at import bitsandbytes tells that it lacks a CPU kernel for 4-bit inference, which nothing here needs
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# PEFT asks a model about gradient checkpointing by the name that transformers 5.23 gave up
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)


@dataclass
class LoadedModel:
    """A causal language model in memory, in evaluation mode, with its tokenizer."""

    name: str
    base: dict[str, str]
    """What identifies the base model's weights: name and hash or commit. Adapters are bound to it."""
    model: Any
    """The transformers model, wrapped by PEFT while an adapter is on it."""
    tokenizer: Any
    note: str = ""
    """What the reader should know of how it was loaded, such as a stand-in; empty if nothing."""

    @property
    def has_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The base model as it came, whatever adapter lies on it."""
        with self.model.disable_adapter() if self.has_adapter else contextlib.nullcontext():
            yield

    def drop_adapter(self) -> None:
        """Take the adapter off; the base weights are untouched by it."""
        if self.has_adapter:
            self.model = self.model.unload()
        self.model.eval()


class _Freed:
    """Stands where a model was that has left the memory."""

    def __init__(self, name: str):
        self.__dict__["name"] = name

    def __getattr__(self, attribute: str):
        raise CourseError(
            f"{self.name} was freed when another model was loaded. Load it again: models.load({self.name!r})."
        )


_loaded: LoadedModel | None = None


def load(name: str = EMBEDDED) -> LoadedModel:
    """Load a base model; a second call with the same name gives the model that is in memory, without its adapter.

    On a GPU a model of the hub is loaded in NF4, as in QLoRA (Dettmers et al. 2023, arXiv:2305.14314). Any other model that
    is in memory is freed before. If the hub does not hand a gated model out, its stand-in is loaded and `note` says so.

    Raises CourseError for an unknown name, for an embedded model whose wheel is not installed, and when neither the model nor
    a stand-in can be had.
    """
    global _loaded
    wanted = catalogue.base(name)
    if _loaded is None or _loaded.name != name:
        free()
        _loaded = _load_embedded(wanted) if wanted.repo is None else _load_from_hub(wanted)
    _loaded.drop_adapter()
    return _loaded


def free() -> None:
    """Take the model that is in memory out of it, whoever still holds its LoadedModel."""
    global _loaded
    if _loaded is None:
        return
    _loaded.model, _loaded = _Freed(_loaded.name), None
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def embedded_in_nf4() -> LoadedModel:
    """The embedded model with its layers' matrices in NF4, beside whatever `load` has in memory: to see on a CPU what 4 bits change."""
    loaded = _load_embedded(catalogue.base(EMBEDDED), quantization_config=quantization_config())
    loaded.base = {**loaded.base, "weights": "nf4"}
    return loaded


def _load_embedded(wanted: Base, **how: Any) -> LoadedModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = embedded.ensure_embedded()
    machine = hardware.detect()
    with quiet_bars():
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, machine.dtype),
            attn_implementation=attention.choose(machine),
            device_map={"": torch.cuda.current_device()} if machine.device == "cuda" else None,
            **how,
        )
    base = {"name": embedded.NAME, "sha256": embedded.SHA256}
    return LoadedModel(wanted.name, base, project_rows_at_once(model).eval(), AutoTokenizer.from_pretrained(folder))


def _load_from_hub(wanted: Base) -> LoadedModel:
    refusal = _refusal(wanted)
    chosen = wanted
    note = ""
    if refusal:
        if wanted.stand_in is None:
            raise CourseError(f"{wanted.repo}: {refusal}")
        chosen = catalogue.base(wanted.stand_in)
        note = f"{refusal} In its place: {chosen.repo}, the same model already in 4 bits."
    model, tokenizer = from_hub(chosen)
    base = {"name": chosen.repo, "commit": getattr(model.config, "_commit_hash", None) or "local", "weights": "nf4"}
    if not getattr(model, "is_loaded_in_4bit", False):
        base["weights"] = hardware.detect().dtype
    return LoadedModel(wanted.name, base, model, tokenizer, note)


def _refusal(wanted: Base) -> str:
    """Why the hub does not hand out a repository, in a sentence; empty if it does, or if it cannot be asked and the cache has it, or nothing
    could stand in."""
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if Path(wanted.repo).is_dir():
        return ""
    try:
        huggingface_hub.auth_check(wanted.repo)
    except GatedRepoError:
        return (
            f"{wanted.repo} asks for an account: accept its conditions on https://huggingface.co/{wanted.repo} and set HF_TOKEN"
            " (in Colab: the key symbol on the left)."
        )
    except RepositoryNotFoundError:
        return f"{wanted.repo} is not on the hub, or not for this token."
    except Exception:  # no network, or the hub is down
        there = huggingface_hub.try_to_load_from_cache(wanted.repo, "config.json", revision=wanted.revision)
        if wanted.stand_in and not isinstance(there, str):
            return f"{wanted.repo} is not in the cache, and the hub cannot be asked."
    return ""


def config_of(wanted: Base):
    """A transformers config of this shape, without asking the hub: for counting and for random models."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        wanted.architecture,
        hidden_size=wanted.hidden,
        num_hidden_layers=wanted.layers,
        intermediate_size=wanted.intermediate,
        num_attention_heads=wanted.heads,
        num_key_value_heads=wanted.kv_heads,
        head_dim=wanted.head_dim,
        vocab_size=wanted.vocabulary,
        max_position_embeddings=wanted.context,
        tie_word_embeddings=wanted.tied,
        rope_parameters={"rope_type": "default", "rope_theta": wanted.rope_theta},
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **({"sliding_window": wanted.window} if wanted.window else {}),
    )


def from_hub(wanted: Base) -> tuple[Any, Any]:
    """Model and tokenizer of a repository (or a local folder in its place), NF4 on a GPU, at the pinned commit.

    What was downloaded is compared with the hub's hashes, once. Raises CourseError when it cannot be read, or is damaged.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    machine = hardware.detect()
    quantise = machine.capability is not None and not wanted.prequantised
    try:
        tokenizer = AutoTokenizer.from_pretrained(wanted.repo, revision=wanted.revision)
        model = AutoModelForCausalLM.from_pretrained(
            wanted.repo,
            revision=wanted.revision,
            dtype=getattr(torch, machine.dtype),
            attn_implementation=attention.choose(machine),
            device_map={"": torch.cuda.current_device()} if machine.device == "cuda" else None,
            use_safetensors=True,  # no pickle of strangers; and .bin files do not fit a free Colab's memory
            # None is not the same as nothing: it would hide what a quantised checkpoint says of itself
            **({"quantization_config": quantization_config()} if quantise else {}),
        )
    except (OSError, ValueError, SafetensorError) as error:
        hub.check_model(wanted.repo, wanted.revision)  # says which file it was
        raise CourseError(
            f"{wanted.repo} cannot be loaded: {str(error).splitlines()[0]} `llmcourse preflight` looks for the cause."
        ) from error
    hub.check_model(wanted.repo, wanted.revision)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return project_rows_at_once(settle_dtype(model, machine.dtype)).eval(), tokenizer


def quantization_config():
    """bitsandbytes' NF4 as in QLoRA: normal-float levels, double quantisation, computing in the dtype of this machine.

    Left to itself, BitsAndBytesConfig takes fp4 levels and computes in float32.
    """
    import torch
    from transformers import BitsAndBytesConfig

    dtype = getattr(torch, hardware.detect().dtype)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # FSDP spreads floats of one dtype: there the packed bits lie in numbers of the model's
        **({"bnb_4bit_quant_storage": dtype} if processes.sharded() else {}),
    )


def settle_dtype(model, dtype: str):
    """Make everything that is not in 4 bits `dtype`, and compute in it.

    A checkpoint that was quantised elsewhere brings its own settings along, and transformers lets them win: bfloat16 on a T4,
    which emulates it.
    """
    import torch

    wanted = getattr(torch, dtype)
    for parameter in model.parameters():
        if type(parameter).__name__ != "Params4bit" and parameter.is_floating_point():
            parameter.data = parameter.data.to(wanted)
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.compute_dtype, module.compute_type_is_set = wanted, True
            module.weight.quant_state.dtype = wanted  # what the backward pass dequantises to
    return model


def project_rows_at_once(model):
    """Have the output matrix multiply the last positions of all rows in one product.

    They are a slice out of longer rows, which torch does not see as one matrix once the output matrix is frozen, as under an adapter: it
    repeats the matrix for each row, and oneDNN copies it, 113 MB a row for the embedded model. Laid side by side they are one.
    """
    model.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: (inputs[0].contiguous(),))
    return model


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """No "loading weights" bars: they last a second and clutter a notebook."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
