"""CSV files that open safely in a spreadsheet: no text cell begins like a formula.

A spreadsheet runs a cell that begins with = + - or @, also behind a tab or a line break (OWASP, "CSV Injection"; CWE-1236). An
apostrophe before it makes it text. Reading takes the apostrophe off again, so nothing is lost. Numbers are written as numbers. The files
are separated by commas: a program told to split at another character makes other cells out of them.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"[\s\0\ufeff]*[=+\-@＝＋－＠]|[\t\r\n\0']")
"""How a text begins that a spreadsheet might run, and the apostrophe itself, so that there is one way back."""


def guarded(text: str) -> str:
    """A text cell as it is written: with an apostrophe before whatever could be taken for a formula."""
    return "'" + text if _FORMULA.match(text) else text


def table(rows: Iterable[Sequence]) -> str:
    """Rows as CSV: texts guarded and in quotes, numbers (int, float, Decimal) as they are.

    All texts are in quotes because Python before 3.13 leaves a lone carriage return without them, which readers take for a line's end.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([guarded(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue()


def unguarded(cell: str) -> str:
    """The text that `guarded` made this cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell, 1) else cell
