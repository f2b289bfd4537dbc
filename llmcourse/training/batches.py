"""How an optimiser step's rows are divided: among processes, and into micro-batches that fit the memory."""

import os
from collections.abc import Sequence

from llmcourse._base.errors import CourseError
from llmcourse._base.hardware import AMPERE, Hardware
from llmcourse.training.recipes import Recipe

PASS_TOKENS = 100
"""What a micro-batch costs besides its tokens, in tokens: each pass reads all weights and, in NF4, dequantises them.

On 2 busy CPU cores we measured 70 with the embedded model's recipe and 97 with adapters on all matrices. For a T4 we
estimate up to 180: dequantising Mistral-7B forwards and backwards moves 35 GB at 320 GB/s, and a token takes 28 billion
operations at some 20 TFLOPS. If the true cost is anything from 20 to 180, micro-batches of real Reddit rows made with
100 cost at most 8 % more than the best ones.
"""

PASS_TOKENS_AMPERE = 400
"""The same on Ampere and newer. These GPUs are so fast that starting some 7,000 kernels takes longer than computing 100
tokens. An estimate for an A100: 60 ms a pass, 0.14 ms a token."""

MOST_TOKENS = 1200
"""Most padded tokens of a micro-batch where no planner decides: on a CPU, and for a model outside the catalogue."""


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


def pass_tokens(machine: Hardware) -> int:
    """Return what a micro-batch costs on this machine besides its tokens, in tokens."""
    return PASS_TOKENS_AMPERE if machine.capability and machine.capability >= AMPERE else PASS_TOKENS


def micro_batches(lengths: Sequence[int], most_tokens: int, pass_tokens: int = PASS_TOKENS) -> list[list[int]]:
    """Divide a step's rows into the micro-batches that cost least, and return the numbers of the rows in each.

    `lengths` are the rows' tokens. A micro-batch costs its padded tokens (rows x longest row) and `pass_tokens`. So
    short rows go through the model together, and a long row does not make the others as long as itself. No micro-batch
    has more than `most_tokens` padded tokens, unless a single row has.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    # the cheapest division of the first n rows, longest first: its cost, and where its last micro-batch starts
    costs, starts = [0], [0]
    for end in range(1, len(order) + 1):
        padded = [(end - start) * lengths[order[start]] for start in range(end)]
        allowed = [start for start in range(end) if padded[start] <= most_tokens or start == end - 1]
        cost, start = min((costs[start] + padded[start] + pass_tokens, start) for start in allowed)
        costs.append(cost)
        starts.append(start)
    divided, end = [], len(order)
    while end:
        divided.append(order[starts[end] : end])
        end = starts[end]
    return divided[::-1]
