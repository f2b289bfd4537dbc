"""What all figures share: colours, axes and a text alternative."""

import textwrap
import unicodedata
from typing import TYPE_CHECKING

from llmcourse.data.screen import escape_directions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def entitle(figure: "DescribedFigure", title: str) -> None:
    """Write the figure's message above it, on the left. An empty title writes nothing: a slide has its own."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=TEXT)


def beside(axes: "Axes", text: str, point: tuple[float, float], gap: float = 8) -> None:
    """Write a text to the right of a point in data coordinates, `gap` typographic points away."""
    axes.annotate(text, point, xytext=(gap, 0), textcoords="offset points", va="center", fontsize=11, color=TEXT)


def is_wide(character: str) -> bool:
    """Return whether a character takes the room of two Latin letters, as Chinese and emoji do."""
    return unicodedata.east_asian_width(character) in "WF"


def wrap(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` Latin letters, between words where it has spaces."""
    doubled = "".join(character + "\0" * is_wide(character) for character in text)
    return [line.replace("\0", "") for line in textwrap.wrap(doubled, width)] or [""]
