"""What all figures share: colours, axes, a text for those who do not see them, and the way into SVG."""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

from llmcourse.data.screen import directions_shown

COLOURS = {"baseline": "#7a7a7a", "prompted": "#0072B2", "finetuned": "#D55E00"}
MARKS = {"baseline": "s", "prompted": "o", "finetuned": "D"}
TEXT, FAINT = "#222222", "#bbbbbb"


def figure_of(width: float, height: float, alt: str):
    """A matplotlib Figure of this size in inches on a white ground, with `alt`: what it shows, for those who do not see it.

    A notebook shows it as a PNG and keeps the text as the image's alternative.
    """
    from matplotlib.figure import Figure

    class Described(Figure):
        # a Figure of its own, not pyplot's: nothing to close, and a white ground that stays readable in dark pages
        def _repr_mimebundle_(self, include=None, exclude=None):
            import base64

            data = {"image/png": base64.b64encode(png(self)).decode(), "text/plain": self.alt}
            return data, {"image/png": {"alt": self.alt}}

    figure = Described(figsize=(width, height), layout="constrained", facecolor="white")
    figure.alt = directions_shown(alt)
    return figure


def axes_of(width: float, height: float, alt: str = ""):
    """Such a figure and its single axes."""
    figure = figure_of(width, height, alt)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=TEXT, labelsize=11)
    return figure, axes


def beside(axes, text: str, at: tuple, points: float = 8) -> None:
    """Write a text to the right of a place, so many points away, on its height."""
    axes.annotate(text, at, xytext=(points, 0), textcoords="offset points", va="center", fontsize=11, color=TEXT)


@contextmanager
def plain_texts(figure) -> Iterator[None]:
    """While a figure is drawn a $ in it is a $, and no text turns the direction of another: labels and texts are not ours.

    A $ would begin a formula, or fail as one.
    """
    import matplotlib
    from matplotlib.text import Text

    with matplotlib.rc_context({"text.parse_math": False}):
        for text in figure.findobj(Text):
            text.set_parse_math(False)
            text.set_text(directions_shown(text.get_text()))
        yield


def png(figure) -> bytes:
    """A figure as a PNG of the size that notebooks show."""
    import io

    out = io.BytesIO()
    with plain_texts(figure):
        figure.savefig(out, format="png", dpi=90)
    return out.getvalue()


def svg(figure) -> str:
    """A figure as an SVG element, the same bytes for the same figure (no date, no random ids, no metadata)."""
    import io
    import re

    import matplotlib

    out = io.StringIO()
    settings = {"svg.hashsalt": "llmcourse", "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), plain_texts(figure):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", directions_shown(out.getvalue()), flags=re.DOTALL)
    alt = escape(getattr(figure, "alt", ""), quote=True)
    return f'<svg role="img" aria-label="{alt}"' + text[text.index("<svg") + len("<svg") :]
