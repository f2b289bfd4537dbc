"""Write CSV files that open safely in a spreadsheet: no text cell begins like a formula.

A spreadsheet runs a cell that begins with = + - or @, also behind a tab or a line break (OWASP, "CSV Injection";
CWE-1236). An apostrophe in front makes it text. Reading removes the apostrophe again, so nothing is lost. Numbers are
written as numbers. Cells are separated by commas; a program that splits at another character sees other cells.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"[\s\0\ufeff]*[=+\-@＝＋－＠]|[\t\r\n\0']")
"""The beginnings that a spreadsheet might run, and the apostrophe itself, so that reading can always remove one."""


def guarded(text: str) -> str:
    """Return a text cell as it is written: with an apostrophe in front if it could be taken for a formula."""
    return "'" + text if _FORMULA.match(text) else text


def table(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV: texts guarded and in quotes, numbers (int, float, Decimal) as they are.

    All texts are in quotes, because Python before 3.13 does not quote a lone carriage return, which readers take for
    the end of a line.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([guarded(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue()


def unguarded(cell: str) -> str:
    """Return the text from which `guarded` made this cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell, 1) else cell
