"""Strangers' texts on a projector or a page: a filter for slurs, and escapes so that no text runs or reorders others.

The filter's words are stored as hashes, so that the filter does not spread them. The list is short and ignores
context: it spares an audience the worst, and does not judge a text. It is for display only. Training and evaluation use
all rows.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape

from llmcourse.data.tasks import Task

WARNING = "Rows of real people's comments follow. Some are offensive; those with slurs are left out here."
"""Shown before rows that the course did not write."""

_HASHES = frozenset(
    """
    044eb98b1876 08a841e99678 0ce875d62007 0dcc4d336443 11cf8376a157 120f6e5b4ea3 12e6274e4309 158869a97379
    16ea09fc78ca 17a110e53328 17bde8b40646 1e02eec4f109 22f3ae292795 22fc75e65a0e 268651b3ece9 333f76180929
    33740da8a87d 341d56384afc 3b1e0d7c5dd4 402f7ebd9886 45cd3e1bb472 517ae3f73216 566f532d486c 59cc3cb8a429
    5b3ae48be122 619bc82e0d20 7122c9a14ba2 82159dd02870 867d78976655 886d51e97ad7 8f5083e3e5c7 92a9bf818e7e
    937d56e49744 98b52c4b6b7d 9915ba2d8222 9ae315a94e42 a40ccba874d2 a76d588d0047 bb209d506bb8 bd331fb1d242
    c1cabb6f6e43 c22f315f1b33 c2c3b68b4883 c3de533e9b7f cc02032349c8 da0a6b1b9213 daec0c235d31 dc675e448132
    dcb85fcf872e e35a01bb6bf5 e7b98c6aa5b9 e84dde508a60 e8f82a9fb779 eef3bd091670 f59e28f8bb64 f9d0d9b18ae9
    """.split()  # noqa: SIM905
)


def fit_to_show(text: str) -> bool:
    """Return whether a text has none of the listed words (whole words, any letter case)."""
    words = re.findall(r"[a-z]+", text.lower())
    return not any(hashlib.sha256(word.encode()).hexdigest()[:12] in _HASHES for word in words)


def shown(task: Task, rows: Iterable[Mapping]) -> Iterator[Mapping]:
    """Return the rows whose texts are all fit to show, in their order."""
    return (row for row in rows if all(fit_to_show(str(row[column])) for column in task.fields))


_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of the text after them: embeddings, overrides, isolates and their ends (Unicode
Standard Annex 9)."""


def escape_directions(text: str) -> str:
    """Return the text with each character that changes the writing direction replaced by its number, such as [U+202E].

    Right-to-left writing needs none of them, and a text with one can make the text after it read as something else.
    """
    return _DIRECTIONS.sub(lambda match: f"[U+{ord(match.group()):04X}]", text)


def html(text: object) -> str:
    """Return a stranger's text as HTML: escaped, and isolated from the direction of the text around it."""
    return f"<bdi>{escape(escape_directions(str(text)))}</bdi>"
