"""How an optimiser step's rows are divided: among processes, and into micro-batches that fit the memory."""

import math
import os
from collections.abc import Iterator, Sequence

from llmcourse._base.errors import CourseError
from llmcourse.training.recipes import Recipe


def process_count() -> int:
    """Return how many processes train together, as `accelerate launch` tells each of them; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rows_per_process(recipe: Recipe) -> int:
    """Return a step's rows divided by the number of processes. Raises CourseError when they cannot be divided."""
    processes = process_count()
    rows, left = divmod(recipe.batch_rows, processes)
    if left:
        raise CourseError(
            f"batch_rows={recipe.batch_rows} cannot be divided among {processes} processes. Use a multiple of"
            f" {processes}: --set batch_rows={recipe.batch_rows - left or processes}."
        )
    return rows


def accumulation_steps(lengths: Sequence[int], recipe: Recipe) -> int:
    """Return how many micro-batches make a step in each process, so that none exceeds the recipe's padded tokens.

    `lengths` are the training rows' tokens. transformers' `batch_rebalance` sampler deals a step's rows into groups of
    similar length and cost. To find the largest group, all epochs are dealt here as the trainer will deal them. Two
    processes with half as many micro-batches each get the same groups as one. If an epoch's last step has fewer rows
    than there are micro-batches, the sampler repeats rows of that epoch.

    Raises CourseError when one row is too long, or when the rows cannot be divided among the processes.
    """
    from transformers.trainer_pt_utils import BatchRebalanceSampler

    if max(lengths) > recipe.micro_batch_tokens:
        raise CourseError(
            f"A training row of {max(lengths)} tokens does not fit micro_batch_tokens={recipe.micro_batch_tokens}."
            f" Lower max_length, or use micro_batch_tokens={max(lengths)} or more."
        )
    rows = rows_per_process(recipe)
    for accumulation in (n for n in range(1, rows + 1) if rows % n == 0):
        groups = accumulation * process_count()  # all groups of a step, whichever process gets them
        sampler = BatchRebalanceSampler(list(lengths), recipe.batch_rows, 1, groups, drop_last=False)
        largest = 0
        for epoch in range(math.ceil(recipe.epochs)):
            sampler.set_epoch(epoch)
            largest = max(largest, *(len(group) * max(lengths[row] for row in group) for group in sampler))
        if largest <= recipe.micro_batch_tokens:
            return accumulation
    return rows


def halvings(batch_rows: int, micro_rows: int) -> Iterator[int]:
    """Yield smaller and smaller micro-batches that divide the batch, then 0."""
    while micro_rows > 1:
        micro_rows = next(n for n in range(micro_rows // 2, 0, -1) if batch_rows % n == 0)
        yield micro_rows
    yield 0
