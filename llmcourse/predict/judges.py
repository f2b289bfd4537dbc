"""Who predicts the rows of a file: an adapter, before and after finetuning, or a whole model that writes answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmcourse import models
from llmcourse._base import files
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.models import catalogue, loading, usable
from llmcourse.models.adapters import PARTS, Folder, PlainAdapter
from llmcourse.predict import vllm
from llmcourse.predict.asking import before_and_after, generate
from llmcourse.predict.predictions import Predictions, Scored
from llmcourse.predict.prompts import Prompt

Ask = Callable[[list[dict]], tuple[Scored | None, Predictions]]
"""Rows -> predictions before finetuning, which a whole model does not have, and after it."""

Engine = Literal["transformers", "vllm"]
"""What computes the answers of a whole model."""


@dataclass(frozen=True)
class Judge:
    """A model that predicts rows of a task."""

    task: Task
    load: Callable[[], Ask]
    """Loads the model, and returns the function that predicts rows."""
    depends_on: Mapping[str, Any]
    """What the predictions depend on besides the rows, such as the adapter's hashes."""
    max_length: int | None = None
    """Tokens to which the prompts are cut, as in training; None if they are not."""


def of_adapter(adapter: Folder, model: str | None = None) -> Judge:
    """Return the judge of a saved adapter, on its base as `models.base_of` finds it. Raises CourseError as that does,
    and if the folder is not an adapter."""
    card, base = models.read_card(adapter), models.base_of(adapter, model)
    task, parts = models.task_of(card), [Path(adapter) / part for part in PARTS]
    depends_on: dict[str, Any] = {part.name: files.sha256_of_file(part) for part in parts if part.is_file()}
    if isinstance(adapter, PlainAdapter):
        depends_on["card"] = card

    def load() -> Ask:
        loaded = models.load(base)
        first = iter([True])  # the adapter is checked on the first rows of a run
        return lambda rows: before_and_after(loaded, task, adapter, rows, check=next(first, False))

    max_length = Prompt.from_card(card).max_length
    if max_length is not None:  # versions that cut no row left it out
        depends_on["max_length"] = max_length
    return Judge(task, load, depends_on, max_length)


def of_model(model: str, task: Task | None = None, engine: Engine = "transformers") -> Judge:
    """Return the judge of a whole model, by a name that `models.load` takes. It writes its answers, as in `generate`.

    A model that `llmcourse export` wrote has a card, which names its task and prompt. Others get the zero-shot prompt
    of `task`. Raises CourseError for a model that cannot be used, if both or neither name the task, and for vLLM where
    it is not installed.
    """
    base = catalogue.base(model)
    if base.is_merged == (task is not None):
        remedy = (
            "has a card that names its task. Give no other." if task else "has no card. Name its task: task=SARCASM."
        )
        raise CourseError(f"{model} {remedy}")
    prompt = Prompt(task) if task else Prompt.from_card(models.merged_card(str(base.repo)))
    if engine == "vllm":
        vllm.find()
    if base.repo and base.stand_in is None:  # afterwards the commit is known
        usable.look_closely(base)

    def load() -> Ask:
        if engine == "vllm":
            write = vllm.load(base, prompt)
            return lambda rows: (None, write(rows))
        loaded = models.load(model)
        return lambda rows: (None, generate(loaded, prompt, rows))

    depends_on = {"model": loading.identity_of(base), "prompt": prompt.as_dict(), "engine": engine}
    return Judge(prompt.task, load, depends_on, prompt.max_length)
