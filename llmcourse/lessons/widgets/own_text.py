"""Your own text, judged by a prompt and by an adapter, with boxes for the text and a slider for the examples."""

from collections.abc import Mapping
from math import exp
from typing import TYPE_CHECKING, Any

from llmcourse import figures, predict
from llmcourse._base.errors import CourseError
from llmcourse.experiment import Experiment
from llmcourse.lessons.widgets.controls import draw_into, hidden_image, show
from llmcourse.models import put_adapter
from llmcourse.models.adapters import Folder
from llmcourse.predict.prompts import Prompt

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure

MOST_SHOTS = 8


def playground(experiment: Experiment, adapter: Folder, row: Mapping[str, str]) -> None:
    """Show how a prompt and an adapter judge a row, with boxes for your own texts below the figure."""
    show(
        judge(experiment, adapter, row),
        Playground(experiment, adapter, row).box,
        "In a running notebook there are boxes here for your own text, and a slider for the examples in the prompt.",
    )


def judge(experiment: Experiment, adapter: Folder, row: Mapping[str, str], shots: int = 0) -> "DescribedFigure":
    """Score a row by the base model with `shots` examples in its prompt and by the adapter, and draw the result.

    Raises CourseError for a text that is too long, and for an adapter that does not fit the model or changes nothing.
    """
    loaded, task = experiment.loaded, experiment.task
    with loaded.without_adapter():
        prompted = predict.score(loaded, experiment.prompt(shots), [row])
    card = put_adapter(loaded, adapter)
    prompt = Prompt.from_card(card, task)
    try:
        predict.check_adapter(loaded, prompt, [row])
        finetuned = predict.score(loaded, prompt, [row])
    finally:
        loaded.drop_adapter()
    answers = {f"prompted, {f'{shots}-shot' if shots else 'zero-shot'}": prompted, "finetuned": finetuned}
    probabilities = {name: [exp(p) for p in answer.logprobs[0]] for name, answer in answers.items()}
    return figures.verdicts(probabilities, task.labels)


class Playground:
    """The controls, and the figure that follows them."""

    def __init__(self, experiment: Experiment, adapter: Folder, row: Mapping[str, str]):
        import ipywidgets

        self.experiment, self.adapter = experiment, adapter
        layout, style = ipywidgets.Layout(width="640px"), {"description_width": "90px"}
        self.texts = {
            column: ipywidgets.Text(value=row[column], description=name, layout=layout, style=style)
            for column, name in experiment.task.fields.items()
        }
        self.shots = ipywidgets.IntSlider(value=0, min=0, max=MOST_SHOTS, description="examples", style=style)
        self.button = ipywidgets.Button(description="Judge")
        self.message = ipywidgets.Label()
        self.figure = hidden_image()
        self.box = ipywidgets.VBox([*self.texts.values(), self.shots, self.button, self.message, self.figure])
        self.button.on_click(self._judge)

    def _judge(self, _button: Any = None) -> None:
        row = {column: box.value for column, box in self.texts.items()}
        try:
            figure = judge(self.experiment, self.adapter, row, self.shots.value)
        except CourseError as error:  # for instance a text that is too long, or too few rows for the examples
            self.message.value = str(error)
            return
        self.message.value = figure.alt
        draw_into(self.figure, figure)
