"""What the model is asked for an arm, and the asking: an adapter or none on the model, a progress bar, a journal."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from llmcourse.models import LoadedModel, put_adapter
from llmcourse.models.adapters import Folder
from llmcourse.predict import Generated, Predictions, Way, check_adapter, fill_journal, generate, score
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import Prompt


@dataclass(frozen=True)
class Question:
    """What the model is asked for an arm: a prompt, how the answer is taken, and with which adapter."""

    name: str
    prompt: Prompt
    way: Way
    spec: dict[str, Any]
    """All that decides the answers."""
    adapter: Folder | None = None
    """The folder of an adapter; None asks the base model."""


@dataclass(frozen=True)
class Asker:
    """Asks a model the test rows of an experiment."""

    loaded: LoadedModel
    test: Sequence[Mapping]
    example: Mapping | None
    """A row besides the test rows, whose answer is shown in words."""
    quiet: bool

    def answer(self, question: Question, journal: Journal) -> tuple[Predictions, str | None]:
        """Return predictions for the test rows, and the answer to the example row in words (None without one).

        Rows that the journal already answers are not asked again.
        """
        with self._ready(question), self._bar(question.name) as progress:
            predictions = self._ask(question, self.test, progress, journal)
            if self.example is None:
                return predictions, None
            return predictions, in_words(self._ask(question, [self.example]), question.prompt.task.labels)

    def fill(self, question: Question, journal: Journal, indices: Sequence[int] | None = None) -> None:
        """Ask the test rows whose answers the journal does not have, all or those of `indices` (see `fill_journal`)."""
        with self._ready(question), self._bar(question.name) as progress:
            fill_journal(self.loaded, question.prompt, self.test, question.way, journal, indices, progress)

    def _ask(
        self,
        question: Question,
        rows: Sequence[Mapping],
        progress: Callable[[int, int], None] | None = None,
        journal: Journal | None = None,
    ) -> Predictions:
        if question.way == "generated":
            return generate(self.loaded, question.prompt, rows, progress, journal)
        return score(self.loaded, question.prompt, rows, question.way == "calibrated", progress, journal)

    @contextlib.contextmanager
    def _ready(self, question: Question) -> Iterator[None]:
        """Inside the block the model has the question's adapter on it, or none."""
        if question.adapter is None:
            with self.loaded.without_adapter():
                yield
            return
        put_adapter(self.loaded, question.adapter)
        try:
            check_adapter(self.loaded, question.prompt, self.test)
            yield
        finally:
            self.loaded.drop_adapter()

    @contextlib.contextmanager
    def _bar(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Show a progress bar; yields the function that moves it."""
        with tqdm(desc=name, total=len(self.test), unit="row", disable=self.quiet, leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield progress


def in_words(predictions: Predictions, labels: Sequence[str]) -> str:
    """Return the answer to a single row: the label, after the text that was read as it if the two differ."""
    label = predictions.labels[0]
    word = "invalid" if label is None else labels[label]
    text = predictions.texts[0].strip() if isinstance(predictions, Generated) else word
    return word if text == word else f"{text} ({word})"
