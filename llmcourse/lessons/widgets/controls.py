"""Widgets of the notebooks: sliders and boxes, each with a static figure that stands in for it where nothing is interactive."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmcourse import figures
from llmcourse._base.errors import CourseError
from llmcourse.figures.style import png
from llmcourse.lessons.fromscratch import sampling

SHOWN = 8
"""Bars in the figure."""

WIDGET = "application/vnd.jupyter.widget-view+json"


def next_token(loaded: Any, text: str) -> None:
    """Show how probable each next token is, as a figure and below it with sliders for temperature and top-p.

    The figure is what a page without a kernel shows. "Write a token" draws one under the settings and puts it behind the text. The
    model is asked only when the text changes. For ipywidgets 7.7 and 8.
    """
    show(
        bars(loaded, text),
        Explorer(loaded, text).box,
        "In a running notebook there are sliders here, for temperature and top-p, and a button that writes on.",
    )


def show(figure: Any, box: Any, instead: str) -> None:
    """A static figure, then a widget's box; where nothing is interactive, the sentence `instead` stands for the box."""
    from IPython.display import display

    display(figure)
    reference = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    display({WIDGET: reference, "text/plain": instead}, raw=True)


def choices(draw: Callable[..., Any], options: Mapping[str, Sequence], start: Mapping[str, Any]) -> None:
    """Show the figure `draw(**start)`, and below it a control for each option that draws it anew.

    `options` gives each argument of `draw` the values to choose from. A choice that makes no sense, a CourseError, is said below them.
    """
    names = ", ".join(f"{name} ({', '.join(map(str, values))})" for name, values in options.items())
    show(draw(**start), Choices(draw, options, start).box, f"In a running notebook there are controls here: {names}.")


class Choices:
    """The controls and the figure that follows them. For ipywidgets 7.7 and 8."""

    def __init__(self, draw: Callable[..., Any], options: Mapping[str, Sequence], start: Mapping[str, Any]):
        import ipywidgets

        wide, style = ipywidgets.Layout(width="420px"), {"description_width": "110px"}
        self.draw = draw
        self.controls = {}
        for name, values in options.items():
            kind = ipywidgets.Dropdown if isinstance(values[0], str) else ipywidgets.SelectionSlider
            self.controls[name] = kind(
                options=list(values), value=start[name], description=name, layout=wide, style=style
            )
            self.controls[name].observe(self._draw, "value")
        self.said = ipywidgets.Label()
        self.figure = ipywidgets.Image(format="png", layout=ipywidgets.Layout(display="none", max_width="100%"))
        self.box = ipywidgets.VBox([*self.controls.values(), self.said, self.figure])

    def _draw(self, _change=None) -> None:
        try:
            figure = self.draw(**{name: control.value for name, control in self.controls.items()})
        except CourseError as error:
            self.said.value = str(error)
            return
        self.said.value, self.figure.value, self.figure.layout.display = figure.alt, png(figure), ""


def bars(loaded: Any, text: str, temperature: float = 1.0, p: float = 1.0, logits=None):
    """The likeliest next tokens after `text`, before and (where it differs) after temperature and top-p. Returns a matplotlib Figure."""
    logits = sampling.next_logits(loaded, text) if logits is None else logits
    plain = sampling.probabilities(logits)
    places = plain.topk(min(SHOWN, len(plain))).indices
    tokens = sampling.token_texts(loaded.tokenizer, places)
    panels = {"as the model says": plain[places].tolist()}
    if (temperature, p) != (1.0, 1.0):
        shaped = sampling.top_p(sampling.probabilities(logits, temperature), p)
        panels[f"temperature {temperature:g}, top-p {p:g}\n{int((shaped > 0).sum()):,} tokens left"] = shaped[
            places
        ].tolist()
    return figures.token_bars(tokens, panels, context=text if len(text) <= 60 else "… " + text[-58:].lstrip())


class Explorer:
    """The controls and the figure that follows them."""

    def __init__(self, loaded: Any, text: str):
        import ipywidgets
        import torch

        self.loaded, self.luck, self.logits = loaded, torch.Generator().manual_seed(0), None
        wide = ipywidgets.Layout(width="520px")
        style = {"description_width": "90px"}
        self.text = ipywidgets.Text(value=text, description="text", layout=wide, style=style, continuous_update=False)
        self.temperature = ipywidgets.FloatSlider(
            value=1,
            min=0.1,
            max=2,
            step=0.1,
            description="temperature",
            layout=wide,
            style=style,
            continuous_update=False,
        )
        self.p = ipywidgets.FloatSlider(
            value=1, min=0.05, max=1, step=0.05, description="top-p", layout=wide, style=style, continuous_update=False
        )
        self.button = ipywidgets.Button(description="Write a token")
        self.figure = ipywidgets.Image(format="png", layout=ipywidgets.Layout(display="none", max_width="100%"))
        self.box = ipywidgets.VBox([self.text, self.temperature, self.p, self.button, self.figure])
        self.text.observe(self._read, "value")
        for slider in (self.temperature, self.p):
            slider.observe(self._draw, "value")
        self.button.on_click(self._write)

    def _ask(self):
        if self.logits is None:
            self.logits = sampling.next_logits(self.loaded, self.text.value)
        return self.logits

    def _read(self, _change) -> None:
        self.logits = None
        self._draw()

    def _draw(self, _change=None) -> None:
        if not self.text.value:
            return
        figure = bars(self.loaded, self.text.value, self.temperature.value, self.p.value, self._ask())
        self.figure.value, self.figure.layout.display = png(figure), ""

    def _write(self, _button) -> None:
        import torch

        if not self.text.value:
            return
        probs = sampling.top_p(sampling.probabilities(self._ask(), self.temperature.value), self.p.value)
        token = int(torch.multinomial(probs, 1, generator=self.luck))
        self.text.value += sampling.token_texts(self.loaded.tokenizer, [token])[0]  # which asks and draws again
