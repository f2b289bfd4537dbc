"""A step's rows, divided among processes and into micro-batches."""

import itertools

import pytest

from llmcourse import CourseError
from llmcourse._base.hardware import Hardware
from llmcourse.training.batches import PASS_TOKENS, micro_batches, pass_tokens, process_count, rows_per_process
from llmcourse.training.recipes import Recipe

RECIPE = Recipe(name="test", batch_rows=8, epochs=2)
T4 = Hardware("cuda", "Tesla T4", (7, 5), 2, 12.7, 14.74)


def test_rows_are_divided_among_the_launchers_processes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert process_count() == 1 and rows_per_process(RECIPE) == 8
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert process_count() == 4 and rows_per_process(RECIPE) == 2
    with pytest.raises(CourseError, match=r"batch_rows=6 cannot be divided among 4 processes.*--set batch_rows=4"):
        rows_per_process(RECIPE.changed(batch_rows=6))


def test_micro_batches_follow_the_rows_that_a_step_has():
    """A long row somewhere in the data costs only the step that it is in."""
    assert micro_batches([60] * 8, 1200) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert micro_batches([60, 60, 250, 60, 60, 60, 60, 60], 1200) == [[2], [0, 1, 3, 4, 5, 6, 7]]
    assert micro_batches([250] * 8, 1200) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert micro_batches([90, 80], 85) == [[0], [1]]  # a row is never divided
    # a GPU that computes faster than it starts its kernels pads rather than passing twice
    assert micro_batches([60, 60, 110, 60], 1200, pass_tokens=400) == [[2, 0, 1, 3]]
    assert micro_batches([60, 60, 250, 60], 1200) == [[2], [0, 1, 3]]
    assert pass_tokens(Hardware("cuda", "A100", (8, 0), 8, 80.0, 79.0)) == 400
    assert {pass_tokens(machine) for machine in (Hardware("cpu", "EPYC", None, 2, 12.0, None), T4)} == {PASS_TOKENS}
    assert micro_batches([], 1200) == []


@pytest.mark.parametrize("most_tokens", [80, 150, 400, 1000])
def test_no_other_micro_batches_cost_less(most_tokens):
    def cost(groups):
        padded = [len(group) * max(lengths[row] for row in group) for group in groups]
        too_large = any(p > most_tokens and len(group) > 1 for p, group in zip(padded, groups, strict=True))
        return float("inf") if too_large else sum(padded) + PASS_TOKENS * len(groups)

    for lengths in ([70, 12, 33, 34, 61, 15], [50] * 6, [5, 300, 7, 120, 118, 60]):
        found = micro_batches(lengths, most_tokens)
        assert sorted(row for group in found for row in group) == list(range(6))
        every = (
            [[row for row in range(6) if place[row] == group] for group in set(place)]
            for place in itertools.product(range(6), repeat=6)
        )
        assert cost(found) == min(map(cost, every)) < float("inf")
