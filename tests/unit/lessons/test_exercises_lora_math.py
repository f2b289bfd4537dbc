"""The exercises of notebook 04: usual mistakes get their hint."""

import pytest
import torch

from llmcourse.lessons import exercises


def verdict(name, attempt):
    return exercises.load_all()[name].verdict(attempt)


@pytest.mark.parametrize(
    ("attempt", "hint"),
    [
        (lambda shapes, r: sum(r * a * b for a, b in shapes), "more than the matrix itself"),
        (lambda shapes, r: sum(a * b for a, b in shapes), "the frozen matrix"),
        (lambda shapes, r: sum(r * b for _, b in shapes), "one of the two"),
        (lambda shapes, r: r * sum(shapes[0]), "add up all"),
        (lambda shapes, r: 7, "20 numbers"),
    ],
)
def test_counting(attempt, hint):
    assert hint in verdict("count_lora", attempt)


def loop(order, item=True, rows=None):
    """A training loop with these calls in each step."""

    def train(model, batches, learning_rate):
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
        losses = []
        for batch in batches:
            loss = model(input_ids=batch, labels=batch).loss
            losses.append(loss.item() if item else loss.detach())
            for call in order.split():
                getattr(loss if call == "backward" else optimizer, call)()
        return losses[:rows]

    return train


@pytest.mark.parametrize(
    ("attempt", "hint"),
    [
        (loop(""), "not attempted yet"),
        (loop("step zero_grad"), "no gradients"),
        (loop("backward zero_grad"), "no weight moves"),
        (loop("backward zero_grad step"), "cleared before the step"),
        (loop("backward step"), "add up"),
        (loop("step zero_grad backward"), "not as they should"),
        (loop("backward step zero_grad", rows=2), "one loss for each batch"),
        (loop("backward step zero_grad", item=False), "should be numbers"),
        (loop("zero_grad backward step"), "right"),
    ],
)
def test_training(attempt, hint):
    assert hint in verdict("train", attempt)


def test_what_later_cells_use():
    known = exercises.load_all()
    right, wrong = loop("zero_grad backward step"), loop("backward step")
    assert exercises.working("train", right) is right
    assert exercises.working("train", wrong) is known["train"].solution


def in_place(x, W, A, B, alpha):
    W += alpha / len(A) * B @ A
    return x @ W.T


@pytest.mark.parametrize(
    ("attempt", "hint"),
    [
        (lambda x, W, A, B, alpha: x @ W.T, "frozen layer alone"),
        (lambda x, W, A, B, alpha: x @ W.T + x @ A.T @ B.T, "scale α / r is missing"),
        (lambda x, W, A, B, alpha: x @ W.T + alpha * x @ A.T @ B.T, "scaled by α;"),
        (lambda x, W, A, B, alpha: alpha / len(A) * x @ A.T @ B.T, "update alone"),
        (lambda x, W, A, B, alpha: alpha / len(A) * (x @ W.T + x @ A.T @ B.T), "only the update"),
        (lambda x, W, A, B, alpha: x @ W.T + alpha / 2 * x @ A.T @ B.T, "not always 2"),
        (in_place, "frozen: add to the result"),
        (lambda x, W, A, B, alpha: W @ x.T + alpha / len(A) * B @ A @ x.T, "(5, 4); it gives (4, 5)"),
        (lambda x, W, A, B, alpha: x @ W.T - alpha / len(A) * x @ A.T @ B.T, "it should be x"),
        (lambda x, W, A, B, alpha: x @ B, "it raises"),
        (lambda x, W, A, B, alpha: (W @ x.mT + alpha / len(A) * B @ A @ x.mT).squeeze().T, "two axes only"),
    ],
)
def test_lora(attempt, hint):
    assert hint in verdict("lora_forward", attempt)


def nearest(values, levels):
    return levels[(values[:, None] - levels).abs().argmin(dim=1)]


@pytest.mark.parametrize(
    ("attempt", "hint"),
    [
        (lambda block, levels: nearest(block, levels), "largest absolute weight first"),
        (lambda block, levels: nearest(block / block.abs().max(), levels), "multiply by the scale"),
        (lambda block, levels: block.max() * nearest(block / block.max(), levels), "largest *absolute*"),
        (lambda block, levels: 4 * nearest(block / 4, levels), "own scale"),
        (lambda block, levels: block * 0, "it should give"),
        (lambda block, levels: torch.tensor(1.0), "one number for each"),
    ],
)
def test_rounding(attempt, hint):
    assert hint in verdict("round_block", attempt)


def test_the_solution_is_the_library():
    from llmcourse.lessons.fromscratch import nf4
    from llmcourse.lessons.fromscratch.lora import count

    known = exercises.load_all()
    assert known["count_lora"].solution([(4096, 4096), (1024, 4096)], 8) == count([(4096, 4096), (1024, 4096)], 8)
    block, levels = torch.randn(64, generator=torch.Generator().manual_seed(1)), nf4.nf4_levels()
    ours = known["round_block"].solution(block, levels)
    assert torch.allclose(ours, nf4.dequantise(nf4.quantise(block, levels)))
