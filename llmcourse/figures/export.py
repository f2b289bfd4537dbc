"""Figures as PNG and SVG. Labels and texts come from users' data, so they are drawn as plain text."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from llmcourse.data.screen import escape_directions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
