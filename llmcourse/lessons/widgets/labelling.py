"""Label rows yourself before a model does: two or more buttons for each row, and a list to type where none work."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmcourse._base.errors import CourseError
from llmcourse.data import screen
from llmcourse.data.tasks import Task
from llmcourse.data.texts import identity
from llmcourse.lessons.widgets.controls import show_widget

SHOWN_CHARACTERS = 70
"""How much of a row's last text is repeated beside its buttons."""


class Labelling:
    """Rows of a task, and the labels that the reader gave them with buttons or typed. For ipywidgets 7.7 and 8."""

    def __init__(self, task: Task, rows: Sequence[Mapping[str, Any]]):
        import ipywidgets

        self.task, self.rows = task, list(rows)
        self._typed: list[int | None] = [None] * len(self.rows)
        self.buttons = [ipywidgets.ToggleButtons(options=task.labels, index=None) for _ in self.rows]
        texts = [ipywidgets.HTML(f"<b>{number}</b> {self._start(row)}") for number, row in enumerate(self.rows, 1)]
        pairs = zip(texts, self.buttons, strict=True)
        self.box = ipywidgets.VBox([ipywidgets.VBox(pair) for pair in pairs])

    def _start(self, row: Mapping[str, Any]) -> str:
        text = str(row[self.task.columns[-1]])
        return screen.html(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS].rstrip() + " …")

    def type_in(self, words: Sequence[str]) -> None:
        """Take typed labels, one for each row. The beginning of a label word is enough, and "" means no answer.

        A row whose button was clicked keeps that label. Raises CourseError for another number of words, and for a word
        that begins no label or several.
        """
        if len(words) != len(self.rows):
            raise CourseError(
                f"There are {len(self.rows)} rows and {len(words)} answers. Give one answer for each row."
            )
        self._typed = [self._label_of(number, word) for number, word in enumerate(words, 1)]

    def _label_of(self, number: int, word: str) -> int | None:
        start = identity(word)
        if not start:
            return None
        fitting = [label for label, name in enumerate(self.task.labels) if identity(name).startswith(start)]
        if len(fitting) != 1:
            raise CourseError(f"Row {number}: {word!r:.40} is not a label. Type one of: {', '.join(self.task.labels)}.")
        return fitting[0]

    @property
    def labels(self) -> list[int | None]:
        """The label of each row, or None where the reader gave none."""
        pairs = zip(self.buttons, self._typed, strict=True)
        return [typed if button.index is None else button.index for button, typed in pairs]

    def describe(self) -> str:
        """Return how many rows are labelled, in a sentence."""
        count = sum(label is not None for label in self.labels)
        return f"You have labelled {count} of {len(self.rows)} rows."

    def compare(self, methods: Mapping[str, Sequence[int | None]]) -> str:
        """Return a table of the right labels, yours, and those of each method, with a count of right ones below.

        A wrong label is marked with ✗. Of your labels only those that you gave are counted.
        """
        gold = [row["label"] for row in self.rows]
        columns = {"you": self.labels, **methods}
        words = [*self.task.labels, "not labelled"]
        width = max(map(len, words)) + 4
        lines = ["row " + "".join(f"{name:{width}}" for name in ("right", *columns))]
        for place, right in enumerate(gold):
            cells = [self.task.labels[right], *(self._cell(labels[place], right) for labels in columns.values())]
            lines.append(f"{place + 1:<4}" + "".join(f"{cell:{width}}" for cell in cells))
        counts = ["", *(_count(labels, gold, name == "you") for name, labels in columns.items())]
        lines.append("    " + "".join(f"{count:{width}}" for count in counts))
        return "\n".join(line.rstrip() for line in lines)

    def _cell(self, label: int | None, right: int) -> str:
        if label is None:
            return "-"
        return self.task.labels[label] + ("" if label == right else " ✗")


def _count(labels: Sequence[int | None], gold: Sequence[int], only_given: bool) -> str:
    """Return how many labels are right, in words. With `only_given`, rows without a label are left out."""
    given = sum(label is not None for label in labels) if only_given else len(gold)
    if not given:
        return "not labelled"
    return f"{sum(a == b for a, b in zip(labels, gold, strict=True))} of {given}"


def label_rows(task: Task, rows: Sequence[Mapping[str, Any]]) -> Labelling:
    """Show buttons with which the reader labels rows, and return what collects the labels."""
    labelling = Labelling(task, rows)
    show_widget(
        labelling.box, f"In a running notebook, each row has buttons here: {', '.join(task.labels)}. You can also type."
    )
    return labelling
