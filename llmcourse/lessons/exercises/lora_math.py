"""Exercises of notebook 04: how many numbers learn, LoRA written from memory, and a block of weights in few levels."""

from llmcourse.lessons.exercises import exercise


def _examine_count(attempt) -> str | None:
    answer = attempt([(4, 6)], 2)
    if answer == 2 * 4 * 6:
        return "r · in · out is more than the matrix itself. A is (r, in) and B is (out, r): count the numbers in each."
    if answer == 4 * 6:
        return "that is the frozen matrix. What learns are A (r, in) and B (out, r)."
    if answer == 2 * 6 or answer == 2 * 4:
        return "that is one of the two matrices; there are A (r, in) and B (out, r)."
    if answer != 20:
        return (
            f"a matrix of 4 outputs and 6 inputs with r=2 has A of 2 × 6 and B of 4 × 2: 20 numbers. It gives {answer}."
        )
    if attempt([(4, 6), (3, 3)], 1) != 16:
        return "it is right for one matrix; add up all of `shapes`."
    return None


@exercise("04_lora_math", "Count what learns", difficulty="easy", minutes=3, examine=_examine_count)
def count_lora(shapes, r):
    """Parameters that LoRA of rank r trains on matrices of these shapes, each (outputs, inputs)."""
    return sum(r * inputs + outputs * r for outputs, inputs in shapes)


def _examine_lora(attempt) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(5, 6, generator=generator), torch.randn(4, 6, generator=generator)
    a, b = torch.randn(2, 6, generator=generator), torch.randn(4, 2, generator=generator)
    unchanged = w.clone()
    answer = attempt(x, w, a, b, 8.0)
    if not torch.is_tensor(answer) or answer.shape != (5, 4):
        shape = tuple(answer.shape) if torch.is_tensor(answer) else type(answer).__name__
        return f"x is (rows, inputs), so the result is (rows, outputs), here (5, 4); it gives {shape}."
    if not torch.equal(w, unchanged):
        return "W was changed. It is frozen: add to the result, not to the matrix."

    def near(expected) -> bool:
        return torch.allclose(answer, expected, atol=1e-4)

    frozen, update = x @ w.T, x @ a.T @ b.T
    if near(frozen + 4.0 * update):
        again = attempt(x, w, a[:1], b[:, :1], 8.0)
        right = frozen + 8.0 * (x @ a[:1].T @ b[:, :1].T)
        return None if torch.allclose(again, right, atol=1e-4) else "take r from the shape of A: it is not always 2."
    if near(frozen):
        return "that is the frozen layer alone; add the product of B and A."
    if near(frozen + update):
        return "the scale α / r is missing in front of the update."
    if near(frozen + 8.0 * update):
        return "the update is scaled by α; it should be α / r, so that a change of r does not change its size."
    if near(4.0 * update):
        return "that is the update alone; x goes through the frozen W too."
    if near(4.0 * (frozen + update)):
        return "only the update is scaled by α / r, not what W gives."
    return "it should be x Wᵀ + α/r · x Aᵀ Bᵀ, with A (r, inputs) and B (outputs, r)."


@exercise("04_lora_math", "LoRA from memory", difficulty="medium", minutes=6, examine=_examine_lora)
def lora_forward(x, W, A, B, alpha):
    """x (rows, inputs) through a frozen W (outputs, inputs) with A (r, inputs) and B (outputs, r) beside it."""
    r = len(A)
    return x @ W.T + alpha / r * x @ A.T @ B.T


def _examine_round(attempt) -> str | None:
    import torch

    levels = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])
    block = torch.tensor([0.2, -4.0, 1.1, 0.0, 3.9])
    answer = attempt(block, levels)
    if not torch.is_tensor(answer) or answer.shape != block.shape:
        return "return one number for each weight of the block."

    def nearest(values):
        return levels[(values[:, None] - levels).abs().argmin(dim=1)]

    right = 4 * nearest(block / 4)
    if torch.allclose(answer, right):
        small_block = torch.tensor([0.01, -0.02, 0.005])
        return (
            None
            if torch.allclose(attempt(small_block, levels), 0.02 * nearest(small_block / 0.02))
            else "use the block's own scale."
        )
    if torch.allclose(answer, nearest(block / 4)):
        return "these are levels between -1 and 1: multiply by the scale again to get weights."
    if torch.allclose(answer, nearest(block)):
        return "divide by the block's largest absolute weight first: the levels lie between -1 and 1."
    if torch.allclose(answer, block.max() * nearest(block / block.max())):
        return "the scale is the largest *absolute* weight; the largest weight may be smaller than that."
    return f"for {[round(v, 1) for v in block.tolist()]} it should give {right.tolist()}; it gives {answer.tolist()}."


@exercise("04_lora_math", "Round a block", difficulty="medium", minutes=8, examine=_examine_round)
def round_block(block, levels):
    """The weights of a block after absmax quantisation to `levels` (ascending, from -1 to 1) and back."""
    scale = block.abs().max()
    nearest = (block[:, None] / scale - levels).abs().argmin(dim=1)
    return levels[nearest] * scale
