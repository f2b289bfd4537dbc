"""Micro-batches: as large as memory allows, and together the recipe's batch."""

import pytest

from llmcourse import CourseError
from llmcourse.training.batches import accumulation_steps
from llmcourse.training.recipes import QUICK


def test_micro_batches_stay_below_the_bound():
    from transformers.trainer_pt_utils import BatchRebalanceSampler

    lengths = [20 + (37 * i) % 90 for i in range(200)] + [400]
    recipe = QUICK.changed(batch_rows=16, epochs=3)
    steps = accumulation_steps(lengths, recipe)
    sampler = BatchRebalanceSampler(lengths, 16, 1, steps, drop_last=False)
    largest = 0
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen = [i for group in sampler for i in group]
        assert sorted(seen) == list(range(201)) or len(seen) > 201
        largest = max(largest, *(len(group) * max(lengths[i] for i in group) for group in sampler))
    assert largest <= recipe.micro_batch_tokens and 16 % steps == 0
    with pytest.raises(CourseError, match="A training row of 1300 tokens"):
        accumulation_steps([1300], recipe)
