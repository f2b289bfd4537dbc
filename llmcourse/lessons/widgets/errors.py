"""The rows that an arm got wrong, to be read one after the other: what an accuracy cannot say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmcourse import figures
from llmcourse._base.errors import CourseError
from llmcourse.data import screen
from llmcourse.experiment import Arm, Experiment
from llmcourse.lessons.widgets.controls import show
from llmcourse.predict import Generated

SHOWN = 6
"""Rows in the figure."""

ANY = "any"
INVALID = "invalid"
"""How an answer that could not be read as a label is called."""


@dataclass(frozen=True)
class Wrong:
    """A test row that an arm got wrong."""

    row: Mapping
    gold: str
    """The right label's word."""
    predicted: str
    """The answered label's word, or "invalid"."""
    text: str | None = None
    """What the model wrote, where it wrote."""


def wrong_rows(experiment: Experiment, arm: Arm, gold: str = ANY, predicted: str = ANY) -> tuple[list[Wrong], int]:
    """The rows that `arm` got wrong, in the order of the test rows, and how many more are not fit to show.

    `gold` and `predicted` narrow them to one label word each (or "invalid" for `predicted`). Rows are shown through the filter of
    `llmcourse.data.screen`. Raises CourseError for a label that the task does not have.
    """
    task, words = experiment.task, experiment.task.labels
    for word, known in ((gold, (ANY, *words)), (predicted, (ANY, *words, INVALID))):
        if word not in known:
            raise CourseError(f"The task {task.name!r} has no label {word!r}. Choose among: {', '.join(known)}.")
    found = []
    answers = arm.predictions
    texts: Sequence[str | None] = answers.texts if isinstance(answers, Generated) else [None] * len(answers.labels)
    for row, label, text in zip(experiment.test_rows(), arm.predictions.labels, texts, strict=True):
        one = Wrong(row, words[row["label"]], INVALID if label is None else words[label], text)
        if label != row["label"] and gold in (ANY, one.gold) and predicted in (ANY, one.predicted):
            found.append(one)
    fit = [one for one in found if list(screen.shown(task, [one.row]))]
    return fit, len(found) - len(fit)


def first_errors(experiment: Experiment, arm: Arm, gold: str = ANY, predicted: str = ANY):
    """The first of these rows as a figure. Returns a matplotlib Figure."""
    found, hidden = wrong_rows(experiment, arm, gold, predicted)
    title = f"{arm.name}: {len(found) + hidden} of {arm.score.n} rows wrong"
    if (gold, predicted) != (ANY, ANY):
        title += f" (right: {gold}, answered: {predicted})"
    texts = [" / ".join(str(one.row[column]) for column in experiment.task.columns) for one in found]
    lines = [(text, one.gold, one.predicted) for text, one in zip(texts, found, strict=True)]
    return figures.wrong_rows(lines[:SHOWN], title, left=len(found) - min(len(found), SHOWN))


def error_browser(experiment: Experiment, arms: Sequence[Arm] | None = None) -> None:
    """Show the first errors of the last of `arms` (by default of the experiment's), and below them a browser for all errors of all.

    The figure is what a page without a kernel shows. For ipywidgets 7.7 and 8.
    """
    arms = list(arms or experiment.arms)
    if not arms:
        raise CourseError(
            "There is no arm to read the errors of. Run one first, for instance experiment.bag_of_words()."
        )
    show(
        first_errors(experiment, arms[-1]),
        ErrorBrowser(experiment, arms).box,
        "In a running notebook you choose here an arm, the right label and the answer, and step through the rows.",
    )


class ErrorBrowser:
    """The controls, and the row at which they stand."""

    def __init__(self, experiment: Experiment, arms: Sequence[Arm]):
        import ipywidgets

        self.experiment, self.arms, self.place = experiment, {arm.name: arm for arm in arms}, 0
        style, words = {"description_width": "70px"}, experiment.task.labels
        self.arm, self.gold, self.predicted = (
            ipywidgets.Dropdown(options=options, value=value, description=name, style=style)
            for name, options, value in (
                ("arm", tuple(self.arms), arms[-1].name),
                ("right", (ANY, *words), ANY),
                ("answered", (ANY, *words, INVALID), ANY),
            )
        )
        self.back, self.on = ipywidgets.Button(description="Previous"), ipywidgets.Button(description="Next")
        self.said, self.shown = ipywidgets.Label(), ipywidgets.HTML()
        choose = ipywidgets.HBox([self.arm, self.gold, self.predicted])
        self.box = ipywidgets.VBox([choose, ipywidgets.HBox([self.back, self.on, self.said]), self.shown])
        for control in (self.arm, self.gold, self.predicted):
            control.observe(self._choose, "value")
        self.back.on_click(lambda _: self._step(-1))
        self.on.on_click(lambda _: self._step(+1))
        self._choose()

    def _choose(self, _change=None) -> None:
        arm = self.arms[self.arm.value]
        self.found, self.hidden = wrong_rows(self.experiment, arm, self.gold.value, self.predicted.value)
        self.place = 0
        self._draw()

    def _step(self, by: int) -> None:
        if self.found:
            self.place = (self.place + by) % len(self.found)
        self._draw()

    def _draw(self) -> None:
        hidden = f" ({self.hidden} more are not shown: slurs)" if self.hidden else ""
        place = f"{self.place + 1} of {len(self.found)}" if self.found else "no such row"
        self.said.value = place + hidden
        self.back.disabled = self.on.disabled = len(self.found) < 2
        self.shown.value = row_html(self.experiment, self.found[self.place]) if self.found else ""


def row_html(experiment: Experiment, one: Wrong) -> str:
    """A wrong row as HTML. Texts from data and model are escaped and set apart: they are shown, never read as HTML."""
    fields = {name: str(one.row[column]) for column, name in experiment.task.fields.items()}
    fields |= {"right": one.gold, "answered": one.predicted}
    if one.text is not None and one.text.strip() != one.predicted:
        fields["the model wrote"] = one.text.strip()
    return "".join(
        f"<p style='max-width: 640px'><b>{screen.html(name)}</b>: {screen.html(text)}</p>"
        for name, text in fields.items()
    )
