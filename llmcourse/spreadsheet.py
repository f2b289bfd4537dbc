"""CSV files that open safely in a spreadsheet: no text cell begins like a formula.

A spreadsheet runs a cell that begins with = + - or @, also behind a tab or a line break (OWASP, "CSV Injection"; CWE-1236). An
apostrophe before it makes it text. Reading takes the apostrophe off again, so nothing is lost. Numbers are written as numbers. The files
are separated by commas: a program told to split at another character makes other cells out of them.
"""

import re

_FORMULA = re.compile(r"[\s\0\ufeff]*[=+\-@＝＋－＠]|[\t\r\n\0']")
"""How a text begins that a spreadsheet might run, and the apostrophe itself, so that there is one way back."""


def guarded(text: str) -> str:
    """A text cell as it is written: with an apostrophe before whatever could be taken for a formula."""
    return "'" + text if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """The text that `guarded` made this cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell, 1) else cell
