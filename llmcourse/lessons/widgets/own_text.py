"""Your own text, judged by a prompt and by an adapter, with a box for each of the task's texts and a slider for the examples."""

from collections.abc import Mapping
from math import exp
from pathlib import Path

from llmcourse import figures, predict
from llmcourse._base.errors import CourseError
from llmcourse.experiment import Experiment
from llmcourse.figures.style import png
from llmcourse.lessons.widgets.controls import show
from llmcourse.models import put_adapter
from llmcourse.predict.prompts import Prompt

MOST_SHOTS = 8


def judged(experiment: Experiment, adapter: str | Path, row: Mapping[str, str], shots: int = 0):
    """The row scored by the base model with `shots` examples in its prompt, and by the adapter. Returns a matplotlib Figure."""
    loaded, task = experiment.loaded, experiment.task
    name = f"{shots}-shot" if shots else "zero-shot"
    with loaded.without_adapter():
        prompted = predict.score(loaded, experiment.prompt(shots), [row])
    card = put_adapter(loaded, adapter)
    try:
        predict.check_adapter(loaded, Prompt(task, **card["prompt"]), [row])
        finetuned = predict.score(loaded, Prompt(task, **card["prompt"]), [row])
    finally:
        loaded.drop_adapter()
    answers = {f"prompted, {name}": prompted, "finetuned": finetuned}
    return figures.verdicts({who: [exp(p) for p in a.logprobs[0]] for who, a in answers.items()}, task.labels)


def playground(experiment: Experiment, adapter: str | Path, row: Mapping[str, str]) -> None:
    """Show how a row is judged, as a figure and below it with boxes for its texts. The figure is what a page without a kernel shows."""
    show(
        judged(experiment, adapter, row),
        Playground(experiment, adapter, row).box,
        "In a running notebook there are boxes here for your own text, and a slider for the examples in the prompt.",
    )


class Playground:
    """The controls and the figure that follows them. For ipywidgets 7.7 and 8."""

    def __init__(self, experiment: Experiment, adapter: str | Path, row: Mapping[str, str]):
        import ipywidgets

        self.experiment, self.adapter = experiment, adapter
        wide, style = ipywidgets.Layout(width="640px"), {"description_width": "90px"}
        fields = experiment.task.fields
        self.texts = {
            column: ipywidgets.Text(value=row[column], description=name, layout=wide, style=style)
            for column, name in fields.items()
        }
        self.shots = ipywidgets.IntSlider(value=0, min=0, max=MOST_SHOTS, description="examples", style=style)
        self.button = ipywidgets.Button(description="Judge")
        self.said = ipywidgets.Label()
        self.figure = ipywidgets.Image(format="png", layout=ipywidgets.Layout(display="none", max_width="100%"))
        self.box = ipywidgets.VBox([*self.texts.values(), self.shots, self.button, self.said, self.figure])
        self.button.on_click(self._judge)

    def _judge(self, _button=None) -> None:
        row = {column: box.value for column, box in self.texts.items()}
        try:
            figure = judged(self.experiment, self.adapter, row, self.shots.value)
        except CourseError as error:  # a text that is too long, or too few rows for the examples: said, not raised
            self.said.value = str(error)
            return
        self.said.value, self.figure.value, self.figure.layout.display = figure.alt, png(figure), ""
