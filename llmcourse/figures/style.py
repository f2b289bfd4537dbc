"""What all figures share: colours, axes, a text alternative, and the export to PNG and SVG."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from llmcourse.data.screen import escape_directions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from llmcourse.figures.described import DescribedFigure

COLOURS = {"baseline": "#7a7a7a", "prompted": "#0072B2", "finetuned": "#D55E00"}
MARKS = {"baseline": "s", "prompted": "o", "finetuned": "D"}
TEXT, FAINT = "#222222", "#bbbbbb"


def figure_of(width: float, height: float, alt: str) -> "DescribedFigure":
    """Return an empty figure of this size in inches, with `alt` as its text alternative.

    The ground is white, so that the figure stays readable in a page with a dark theme.
    """
    from llmcourse.figures.described import DescribedFigure

    figure = DescribedFigure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.alt = escape_directions(alt)
    return figure


def axes_of(width: float, height: float, alt: str) -> "tuple[DescribedFigure, Axes]":
    """Return a figure as `figure_of` makes it, and its single axes."""
    figure = figure_of(width, height, alt)
    axes = figure.add_subplot()
    tidy(axes)
    return figure, axes


def tidy(axes: "Axes") -> None:
    """Remove the frame at the top and on the right, and set the size and colour of the tick labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=TEXT, labelsize=11)


def beside(axes: "Axes", text: str, point: tuple[float, float], gap: float = 8) -> None:
    """Write a text to the right of a point in data coordinates, `gap` typographic points away."""
    axes.annotate(text, point, xytext=(gap, 0), textcoords="offset points", va="center", fontsize=11, color=TEXT)


@contextmanager
def plain_texts(figure: "Figure") -> Iterator[None]:
    """Draw a $ as a $, and let no text change the direction of its neighbours, while this context is open.

    Labels and texts come from users' data. Without this a $ would begin a formula, or fail as one.
    """
    import matplotlib
    from matplotlib.text import Text

    with matplotlib.rc_context({"text.parse_math": False}):
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_parse_math(False)
            text.set_text(escape_directions(text.get_text()))
        yield


def png(figure: "Figure") -> bytes:
    """Return a figure as a PNG of the size that notebooks show."""
    buffer = io.BytesIO()
    with plain_texts(figure):
        figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def svg(figure: "Figure") -> str:
    """Return a figure as an SVG element; the same figure always gives the same bytes (no date, ids or metadata)."""
    import matplotlib

    buffer = io.StringIO()
    settings = matplotlib.rc_context({"svg.hashsalt": "llmcourse", "svg.fonttype": "none", "font.family": "sans-serif"})
    with settings, plain_texts(figure):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", escape_directions(buffer.getvalue()), flags=re.DOTALL)
    alt = escape(getattr(figure, "alt", ""), quote=True)
    return f'<svg role="img" aria-label="{alt}"' + text[text.index("<svg") + len("<svg") :]
