"""Export: an adapter merged into its base, as a folder that plain transformers loads without the course."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse import predict
from llmcourse._base import files, hardware
from llmcourse._base.errors import CourseError
from llmcourse.experiment.model_card import exported_readme, modelfile
from llmcourse.models import LoadedModel, catalogue, llamacpp, merging
from llmcourse.models.adapters import ADAPTER_MARK
from llmcourse.predict import SPARE_TOKENS, Prompt

GGUF = "model.gguf"
"""The name of the file for llama.cpp."""


@dataclass(frozen=True)
class Exported:
    """What was exported, and how its answers compare with the adapter's on the unmerged base."""

    folder: Path
    dtype: str
    rows: int
    """How many rows both were asked."""
    other_labels: int
    """For how many of them the label differs."""
    other_texts: int
    """For how many of them the generated text differs."""
    note: str = ""
    """What the reader should know about the base; empty if nothing."""

    def describe(self) -> str:
        """Return in a sentence what merging changed."""
        if not self.rows:
            return "No rows were compared."
        if not self.other_texts:
            return f"All {self.rows} answers are the same before and after merging."
        return (
            f"Of {self.rows} answers, {self.other_labels} have another label than the adapter's on its base, and"
            f" {self.other_texts} have another text."
        )


def export(
    adapter: str | Path,
    out: str | Path,
    rows: Sequence[Mapping] = (),
    dtype: str | None = None,
    model: str | None = None,
    gguf: bool = False,
) -> Exported:
    """Merge the adapter in a folder into its base and write the whole model to the new folder `out`.

    Both answer `rows`, and the differences are counted. `dtype` and `model` are those of `merging.plan`. With `gguf`
    the folder also holds the model for llama.cpp, and a Modelfile for Ollama. It appears whole or not at all. Raises
    CourseError, before a weight is read, if `out` exists, memory or disk are too small, the base is not the adapter's,
    or its architecture cannot be written as GGUF.
    """
    out = Path(out)
    if out.exists():
        raise CourseError(f"{out} exists already. Name a new folder: --out FOLDER.")
    plan = merging.plan(adapter, dtype, model)
    if gguf:
        llamacpp.refuse_config(catalogue.config_of(plan.base))
    merging.refuse_small_memory(plan)
    merging.refuse_small_disk(out, plan.size * (2 if gguf else 1))
    prompt = Prompt.from_card(plan.card)
    loaded = plan.load()
    if gguf:
        llamacpp.pre_tokenizer_of(loaded.tokenizer)
    before = _texts(loaded, prompt, rows)
    new_tokens = max(map(len, predict.label_tokens(loaded, prompt))) + SPARE_TOKENS
    merging.merge(loaded, plan.dtype)
    with files.folder_aside(out) as aside:
        merging.save(loaded, aside, new_tokens)
        if gguf:
            llamacpp.write(loaded, aside / GGUF)
            files.write_text(aside / "Modelfile", modelfile(prompt, GGUF, new_tokens))
        del loaded  # the next one takes its place in memory
        after = _texts(merging.load_saved(aside), prompt, rows)
        pairs = list(zip(before, after, strict=True))
        labels = [tuple(predict.parse_answer(text, prompt.task) for text in pair) for pair in pairs]
        exported = Exported(
            out, plan.dtype, len(rows), sum(a != b for a, b in labels), sum(a != b for a, b in pairs), plan.note
        )
        card = {**plan.card, "export": _facts(exported, new_tokens, gguf)}
        files.write_json(aside / ADAPTER_MARK, card)
        files.write_text(aside / "README.md", exported_readme(card, plan.base, exported.describe()))
    return exported


def _texts(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> list[str]:
    return list(predict.generate(loaded, prompt, rows).texts) if rows else []


def _facts(exported: Exported, new_tokens: int, gguf: bool) -> dict[str, Any]:
    return {
        "gguf": GGUF if gguf else None,
        "dtype": exported.dtype,
        "max_new_tokens": new_tokens,
        "compared": exported.rows,
        "other_labels": exported.other_labels,
        "other_texts": exported.other_texts,
        "note": exported.note,
        "versions": hardware.versions(),
    }
