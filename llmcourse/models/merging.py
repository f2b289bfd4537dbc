"""An adapter and its base as one model: the base is loaded whole, and the adapter is added to its matrices."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmcourse._base import files, hardware
from llmcourse._base.errors import CourseError
from llmcourse.models import catalogue, loading
from llmcourse.models.adapters import base_of, put_adapter, read_card, refuse_other_base, without_type
from llmcourse.models.catalogue import Base
from llmcourse.models.loading import LoadedModel
from llmcourse.models.usable import SPARE

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
"""The types in which a merged model can be written, and their bytes."""


@dataclass(frozen=True)
class Merge:
    """What will be merged: known before a weight is read."""

    adapter: Path
    card: dict[str, Any]
    base: Base
    dtype: str
    """In which type the sum is written."""
    note: str = ""
    """What the reader should know about the base; empty if it is what the adapter was trained on."""

    @property
    def size(self) -> int:
        """Bytes of the merged weights."""
        return self.base.shape.parameters * BYTES[self.dtype]

    @property
    def loaded_in(self) -> str:
        """The type in which the base is loaded: that of the training, or of the sum if the base was in 4 bits."""
        trained = str(self.card["base"].get("weights", "float32"))
        return self.dtype if trained == "nf4" else trained

    def load(self) -> LoadedModel:
        """Load the base, with the adapter on it."""
        loaded = loading.load_whole(self.base, self.loaded_in)
        if not self.note:
            refuse_other_base(self.adapter, without_type(self.card["base"]), loaded.base)
        loaded.base = self.card["base"]
        put_adapter(loaded, self.adapter)
        return loaded


def plan(adapter: str | Path, dtype: str | None = None, model: str | None = None) -> Merge:
    """Decide what the adapter in a folder is merged into, before anything large is read.

    `dtype` is by default bfloat16 for a base that was published in it, and float16 for others. `model` names the base
    where the card cannot: a folder, or the original of a copy in 4 bits. Raises CourseError for an adapter of another
    base, and for a base that is in 4 bits only.
    """
    adapter = Path(adapter)
    card = read_card(adapter)
    trained = card["base"]
    base = _base_of(adapter, trained, model)
    in_4_bits = trained.get("weights") == "nf4"
    if in_4_bits and "sha256" not in trained and base.repo != trained["name"]:
        note = (
            f"It was trained on {trained['name']}, a copy in 4 bits. It is merged into {base.repo}, so answers change."
        )
    else:
        refuse_other_base(adapter, without_type(trained), loading.identity_of(base))
        after = "It was trained on the base in 4 bits. It is merged into the base as it was before, so answers change."
        note = after if in_4_bits else ""
    return Merge(adapter, card, base, dtype or _usual_type(base), note)


def _base_of(adapter: Path, trained: dict[str, str], model: str | None) -> Base:
    """Return the base of --model, or the one that the card names, at the card's commit. Never one in 4 bits."""
    copies = {catalogue.BASES[known.stand_in].repo: name for name, known in catalogue.BASES.items() if known.stand_in}
    base = catalogue.base(model or copies.get(trained["name"]) or base_of(adapter))
    if base.prequantised:
        raise CourseError(
            f"{base.repo} is in 4 bits, and an adapter must be merged into 16 bits. Name the original:"
            " --model owner/name."
        )
    commit = trained.get("commit", "local")
    return replace(base, revision=commit) if base.repo == trained["name"] and commit != "local" else base


def _usual_type(base: Base) -> str:
    if base.repo is None:
        return "float16"
    published = str(catalogue.config_of(replace(base, values=None)).dtype)
    return "bfloat16" if published.endswith("bfloat16") else "float16"


def refuse_small_disk(out: Path, size: int) -> None:
    """Raise CourseError unless the disk of `out` has room for `size` bytes of weights."""
    place = files.nearest_existing(out)
    free = files.free_bytes(place)
    if size * SPARE > free:
        raise CourseError(
            f"{out} needs {size * SPARE / 2**30:.2f} GiB on the disk, and {place} has {free / 2**30:.2f} GiB free."
            " Free some, or choose another folder: --out FOLDER."
        )


def refuse_small_memory(plan: Merge) -> None:
    """Raise CourseError unless the main memory that is free now has room for the weights of the base."""
    needed = plan.base.shape.parameters * BYTES[plan.loaded_in] / 2**30
    free = hardware.free_ram_gib()
    if needed > free:
        half = plan.card["base"].get("weights") == "nf4" and plan.dtype == "float32"
        raise CourseError(
            f"The weights of {plan.base.name} need {needed:.2f} GiB of memory in {plan.loaded_in}, and {free:.2f} GiB"
            f" are free. Close other programs, or use a machine with more memory."
            f"{' --dtype float16 needs half as much.' if half else ''}"
        )


def merge(loaded: LoadedModel, dtype: str) -> None:
    """Add the adapter on a model to its matrices, in place, and round the sum to `dtype`.

    Raises CourseError if a value does not fit the type.
    """
    import torch

    loaded.model = loading.settle_dtype(loaded.model.merge_and_unload(), getattr(torch, dtype))
    for name, parameter in loaded.model.named_parameters():
        if not parameter.isfinite().all():
            raise CourseError(f"{name} does not fit {dtype}. Use --dtype bfloat16 or --dtype float32.")


def save(loaded: LoadedModel, folder: Path, new_tokens: int) -> None:
    """Write a merged model with its tokenizer and chat template. Its settings are greedy, with at most `new_tokens`."""
    from transformers import GenerationConfig

    old, tokenizer = loaded.model.generation_config, loaded.tokenizer
    pad = old.pad_token_id if old.pad_token_id is not None else tokenizer.pad_token_id
    loaded.model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=new_tokens,
        bos_token_id=old.bos_token_id,
        eos_token_id=old.eos_token_id,
        pad_token_id=pad,
    )
    with loading.quiet_bars():
        loaded.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_saved(folder: Path) -> LoadedModel:
    """Load a saved model as plain transformers does."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with loading.quiet_bars():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return LoadedModel(folder.name, {"name": folder.name}, model, AutoTokenizer.from_pretrained(folder))
