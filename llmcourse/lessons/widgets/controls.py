"""What the widgets share: a figure with a widget below it, and a figure that follows a few controls.

Written for ipywidgets 7.7 (Colab) and 8.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.figures import export

if TYPE_CHECKING:
    import ipywidgets

    from llmcourse.figures.described import DescribedFigure

WIDGET = "application/vnd.jupyter.widget-view+json"


def show(figure: "DescribedFigure", box: "ipywidgets.Widget", instead: str) -> None:
    """Display a static figure, and a widget below it. Pages without a kernel show the sentence `instead`."""
    from IPython.display import display

    display(figure)
    show_widget(box, instead)


def show_widget(box: "ipywidgets.Widget", instead: str) -> None:
    """Display a widget. Pages without a kernel show the sentence `instead`."""
    from IPython.display import display

    reference = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    display({WIDGET: reference, "text/plain": instead}, raw=True)


def hidden_image() -> "ipywidgets.Image":
    """Return a place for a figure that takes no room until there is one."""
    import ipywidgets

    return ipywidgets.Image(layout=ipywidgets.Layout(display="none", max_width="100%"))


def draw_into(image: "ipywidgets.Image", figure: "DescribedFigure") -> None:
    """Show a figure in the place that `hidden_image` made."""
    with image.hold_sync():
        image.format, image.value = export.image(figure)
    image.layout.display = ""


def choices(
    draw: "Callable[..., DescribedFigure]", options: Mapping[str, Sequence[Any]], start: Mapping[str, Any]
) -> None:
    """Show the figure `draw(**start)`, and below it a control for each option that draws it again.

    `options` maps each argument of `draw` to the values to choose from. A CourseError is shown as a message.
    """
    names = ", ".join(f"{name} ({', '.join(map(str, values))})" for name, values in options.items())
    show(draw(**start), Choices(draw, options, start).box, f"In a running notebook there are controls here: {names}.")


class Choices:
    """The controls, and the figure that follows them."""

    def __init__(
        self, draw: "Callable[..., DescribedFigure]", options: Mapping[str, Sequence[Any]], start: Mapping[str, Any]
    ):
        import ipywidgets

        layout, style = ipywidgets.Layout(width="420px"), {"description_width": "110px"}
        self.draw = draw
        self.controls: dict[str, Any] = {}
        for name, values in options.items():
            kind = ipywidgets.Dropdown if isinstance(values[0], str) else ipywidgets.SelectionSlider
            self.controls[name] = kind(
                options=list(values), value=start[name], description=name, layout=layout, style=style
            )
            self.controls[name].observe(self._draw, "value")
        self.message = ipywidgets.Label()
        self.figure = hidden_image()
        self.box = ipywidgets.VBox([*self.controls.values(), self.message, self.figure])

    def _draw(self, _change: Any = None) -> None:
        try:
            figure = self.draw(**{name: control.value for name, control in self.controls.items()})
        except CourseError as error:
            self.message.value = str(error)
            return
        self.message.value = figure.alt
        draw_into(self.figure, figure)
