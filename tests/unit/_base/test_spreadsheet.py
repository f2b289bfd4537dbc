"""Cells that a spreadsheet shows as text and that are read back unchanged."""

from hostile_texts import any_texts, quick
from hypothesis import example, given, settings

from llmcourse._base.spreadsheet import guarded, unguarded


@settings(quick, max_examples=200)
@example("＝1+1")
@example(" \ufeff=1+1")
@given(any_texts)
def test_cells_are_safe_in_a_spreadsheet_and_come_back(text):
    cell = guarded(text)
    assert unguarded(cell) == text
    assert not cell.lstrip(" \0\ufeff").startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert not cell.startswith(("\t", "\r", "\n", "\0"))
