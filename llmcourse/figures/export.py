"""Figures as PNG and SVG. Labels and texts come from users' data, so they are drawn as plain text.

Matplotlib's font has no Chinese and few emoji. A figure with such characters is shown as an SVG whose texts stay texts,
because the reader's browser has fonts for them, and the machine that draws the figure often has none.
"""

import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from llmcourse.data.screen import escape_directions
from llmcourse.figures.style import is_wide

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that an SVG may not hold, such as control characters and halves of surrogate pairs."""


def image(figure: "Figure") -> tuple[str, bytes]:
    """Return a figure as an image, and its format: "png", or "svg+xml" if matplotlib's font lacks a character."""
    if _unknown(figure):
        return "svg+xml", svg(figure).encode()
    buffer = io.BytesIO()
    with _plain_texts(figure, {}):
        figure.savefig(buffer, format="png", dpi=90)
    return "png", buffer.getvalue()


def svg(figure: "Figure") -> str:
    """Return a figure as an SVG element; the same figure always gives the same bytes (no date, ids or metadata)."""
    import matplotlib

    buffer = io.StringIO()
    settings = matplotlib.rc_context({"svg.hashsalt": "llmcourse", "svg.fonttype": "none", "font.family": "sans-serif"})
    stand_ins = {character: _stand_in(character) for character in _unknown(figure)}
    with settings, _plain_texts(figure, stand_ins):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", buffer.getvalue(), flags=re.DOTALL)
    for character, stand_in in stand_ins.items():
        text = text.replace(stand_in, escape(character))
    alt = escape(_printable(getattr(figure, "alt", "")), quote=True)
    return f'<svg role="img" aria-label="{alt}"' + text[text.index("<svg") + len("<svg") :]


def _unknown(figure: "Figure") -> set[str]:
    """Return the characters of a figure's texts that matplotlib's font lacks."""
    from matplotlib import font_manager
    from matplotlib.text import Text

    unknown = set()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        known = font_manager.get_font(font_manager.findfont(text.get_fontproperties())).get_charmap()
        unknown |= {character for character in _printable(text.get_text()) if ord(character) not in known}
    return unknown - set("\t\n\r")


def _stand_in(character: str) -> str:
    """Return characters of matplotlib's font that are about as wide as an unknown one, and stand for no other.

    Matplotlib leaves room for a text by measuring it, so it needs dashes and spaces as wide as the character. The
    character's number follows in variation selectors, which have no width.
    """
    room = "–"  # half as wide as high
    if is_wide(character):
        room = "—\u2005" if unicodedata.category(character) == "So" else "—"  # an emoji is wider than high
    return room + "".join(chr(0xFE00 + int(digit, 16)) for digit in f"{ord(character):06x}")


def _printable(text: str) -> str:
    """Return a text that changes the direction of none of its neighbours and that an SVG can hold."""
    return _NOT_XML.sub("\ufffd", escape_directions(text))


@contextmanager
def _plain_texts(figure: "Figure", stand_ins: dict[str, str]) -> Iterator[None]:
    """Draw a $ as a $, texts as `_printable` returns them, and stand-ins in place of characters, inside the block.

    Labels and texts come from users' data. Without this a $ would begin a formula, or fail as one.
    """
    import matplotlib

    table = str.maketrans(stand_ins)
    with (
        matplotlib.rc_context({"text.parse_math": False}),
        _changed_texts(figure, lambda text: _printable(text).translate(table)),
    ):
        yield


@contextmanager
def _changed_texts(figure: "Figure", change: Callable[[str], str]) -> Iterator[None]:
    """Pass every text of a figure through `change` inside the block, and draw none of them as a formula."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    texts = [(text, text.get_text()) for text in figure.findobj(Text) if isinstance(text, Text)]
    axes = [(axis, axis.get_major_formatter()) for axis in figure.findobj(Axis) if isinstance(axis, Axis)]
    for text, content in texts:
        text.set_parse_math(False)
        text.set_text(change(content))
    for axis, formatter in axes:
        if isinstance(formatter, FuncFormatter):  # it writes the labels of ticks again when the figure is drawn
            axis.set_major_formatter(
                FuncFormatter(lambda value, place, written=formatter: change(written(value, place)))
            )
    try:
        yield
    finally:
        for text, content in texts:
            text.set_text(content)
        for axis, formatter in axes:
            axis.set_major_formatter(formatter)
