"""Read the rows that a method got wrong, one after the other: an accuracy does not show what the errors are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import figures
from llmcourse._base.errors import CourseError
from llmcourse.data import screen
from llmcourse.experiment import Arm, Experiment
from llmcourse.lessons.widgets.controls import show
from llmcourse.predict import Generated

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure

SHOWN = 6
"""Rows in the figure."""

ANY = "any"
INVALID = "invalid"
"""The name of an answer that could not be read as a label."""


@dataclass(frozen=True)
class Wrong:
    """A test row that an arm got wrong."""

    row: Mapping[str, Any]
    gold: str
    """The right label's word."""
    predicted: str
    """The answered label's word, or "invalid"."""
    text: str | None = None
    """What the model wrote, if it wrote."""


def error_browser(experiment: Experiment, arms: Sequence[Arm] | None = None) -> None:
    """Show the first errors of the last arm, with a browser for all errors of all arms below the figure.

    `arms` are by default those of the experiment. Raises CourseError if there are none.
    """
    arms = list(arms or experiment.arms)
    if not arms:
        raise CourseError("The experiment has no methods yet. Run one first, for instance experiment.bag_of_words().")
    show(
        first_errors(experiment, arms[-1]),
        ErrorBrowser(experiment, arms).box,
        "In a running notebook you choose a method, the right label and the answer, and step through the rows.",
    )


def wrong_rows(experiment: Experiment, arm: Arm, gold: str = ANY, predicted: str = ANY) -> tuple[list[Wrong], int]:
    """Return the rows that `arm` got wrong, in the order of the test rows, and how many more are not fit to show.

    `gold` and `predicted` each narrow them to one label word, or to "invalid" for `predicted`. The filter is that of
    `data.screen`. Raises CourseError for a label that the task does not have.
    """
    task, words = experiment.task, experiment.task.labels
    for word, known in ((gold, (ANY, *words)), (predicted, (ANY, *words, INVALID))):
        if word not in known:
            raise CourseError(f"The task {task.name!r} has no label {word!r}. Choose one of: {', '.join(known)}.")
    answers = arm.predictions
    texts: Sequence[str | None] = answers.texts if isinstance(answers, Generated) else [None] * len(answers.labels)
    errors = [
        Wrong(row, words[row["label"]], INVALID if label is None else words[label], text)
        for row, label, text in zip(experiment.test_rows(), answers.labels, texts, strict=True)
        if label != row["label"]
    ]
    chosen = [wrong for wrong in errors if gold in (ANY, wrong.gold) and predicted in (ANY, wrong.predicted)]
    fit = [wrong for wrong in chosen if list(screen.shown(task, [wrong.row]))]
    return fit, len(chosen) - len(fit)


def first_errors(experiment: Experiment, arm: Arm, gold: str = ANY, predicted: str = ANY) -> "DescribedFigure":
    """Draw the first of the rows that `wrong_rows` returns, as a table."""
    errors, hidden = wrong_rows(experiment, arm, gold, predicted)
    title = f"{arm.name}: {len(errors) + hidden} of {arm.score.n} rows wrong"
    if (gold, predicted) != (ANY, ANY):
        title += f" (right: {gold}, answered: {predicted})"
    lines = [
        (" / ".join(str(wrong.row[column]) for column in experiment.task.columns), wrong.gold, wrong.predicted)
        for wrong in errors
    ]
    return figures.wrong_rows(lines[:SHOWN], title, left=max(0, len(lines) - SHOWN))


class ErrorBrowser:
    """The controls, and the row that they have reached. For ipywidgets 7.7 and 8."""

    def __init__(self, experiment: Experiment, arms: Sequence[Arm]):
        import ipywidgets

        self.experiment, self.arms, self.place = experiment, {arm.name: arm for arm in arms}, 0
        style, words = {"description_width": "70px"}, experiment.task.labels
        self.arm, self.gold, self.predicted = (
            ipywidgets.Dropdown(options=options, value=value, description=name, style=style)
            for name, options, value in (
                ("method", tuple(self.arms), arms[-1].name),
                ("right", (ANY, *words), ANY),
                ("answered", (ANY, *words, INVALID), ANY),
            )
        )
        self.previous, self.next = ipywidgets.Button(description="Previous"), ipywidgets.Button(description="Next")
        self.message, self.shown = ipywidgets.Label(), ipywidgets.HTML()
        choose = ipywidgets.HBox([self.arm, self.gold, self.predicted])
        self.box = ipywidgets.VBox([choose, ipywidgets.HBox([self.previous, self.next, self.message]), self.shown])
        for control in (self.arm, self.gold, self.predicted):
            control.observe(self._choose, "value")
        self.previous.on_click(lambda _: self._step(-1))
        self.next.on_click(lambda _: self._step(+1))
        self._choose()

    def _choose(self, _change: Any = None) -> None:
        arm = self.arms[self.arm.value]
        self.errors, self.hidden = wrong_rows(self.experiment, arm, self.gold.value, self.predicted.value)
        self.place = 0
        self._draw()

    def _step(self, by: int) -> None:
        if self.errors:
            self.place = (self.place + by) % len(self.errors)
        self._draw()

    def _draw(self) -> None:
        hidden = f" ({self.hidden} more are not shown: slurs)" if self.hidden else ""
        place = f"{self.place + 1} of {len(self.errors)}" if self.errors else "no such row"
        self.message.value = place + hidden
        self.previous.disabled = self.next.disabled = len(self.errors) < 2
        self.shown.value = row_html(self.experiment, self.errors[self.place]) if self.errors else ""


def row_html(experiment: Experiment, wrong: Wrong) -> str:
    """Return a wrong row as HTML. Texts from data and model are escaped, so that they are never read as HTML."""
    fields = {name: str(wrong.row[column]) for column, name in experiment.task.fields.items()}
    fields |= {"right": wrong.gold, "answered": wrong.predicted}
    if wrong.text is not None and wrong.text.strip() != wrong.predicted:
        fields["the model wrote"] = wrong.text.strip()
    return "".join(
        f"<p style='max-width: 640px'><b>{screen.html(name)}</b>: {screen.html(text)}</p>"
        for name, text in fields.items()
    )
