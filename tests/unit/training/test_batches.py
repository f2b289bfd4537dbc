"""A step's rows, divided among processes and into micro-batches."""

import pytest

from llmcourse import CourseError
from llmcourse.training.batches import accumulation_steps, halvings, process_count, rows_per_process
from llmcourse.training.recipes import Recipe

RECIPE = Recipe(name="test", batch_rows=8, micro_batch_tokens=300, epochs=2)


def test_rows_are_divided_among_the_launchers_processes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert process_count() == 1 and rows_per_process(RECIPE) == 8
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert process_count() == 4 and rows_per_process(RECIPE) == 2
    with pytest.raises(CourseError, match=r"batch_rows=6 cannot be divided among 4 processes.*--set batch_rows=4"):
        rows_per_process(RECIPE.changed(batch_rows=6))


def test_no_micro_batch_exceeds_the_tokens():
    lengths = [20 + 7 * (n % 9) for n in range(64)]
    steps = accumulation_steps(lengths, RECIPE)
    assert steps > 1 and 8 // steps * max(lengths) <= RECIPE.micro_batch_tokens + max(lengths)
    assert accumulation_steps(lengths, RECIPE.changed(micro_batch_tokens=8 * max(lengths))) == 1
    with pytest.raises(CourseError, match="A training row of 301 tokens does not fit micro_batch_tokens=300"):
        accumulation_steps([301], RECIPE)


def test_halvings_divide_the_batch_and_end_with_0():
    assert list(halvings(8, 8)) == [4, 2, 1, 0]
    assert list(halvings(12, 6)) == [3, 1, 0] and list(halvings(5, 1)) == [0]
