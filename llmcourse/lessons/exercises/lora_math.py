"""Exercises of notebook 04: count what learns, a training loop, LoRA's forward pass, and a block of few levels."""

import copy
from types import SimpleNamespace

from llmcourse.lessons.exercises import UNTOUCHED, exercise


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


@exercise("04_lora_math", "Count the trained parameters", difficulty="easy", minutes=3, examine=_examine_count)
def count_lora(shapes, r):
    """Return how many parameters LoRA of rank r trains on matrices of these shapes, each (outputs, inputs)."""
    return sum(r * inputs + outputs * r for outputs, inputs in shapes)


def _examine_train(attempt) -> str | None:
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    class Net(torch.nn.Module):
        """Has the interface of a language model, with a frozen and a trained part."""

        def __init__(self):
            super().__init__()
            self.frozen, self.head = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7)
            self.frozen.requires_grad_(False)

        def forward(self, input_ids, labels):
            logits = self.head(self.frozen(input_ids))
            return SimpleNamespace(loss=torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, batches = Net(), [torch.randint(7, (2, 5)) for _ in range(4)]
    start, gradients, steps = copy.deepcopy(net), [], []
    net.head.weight.register_hook(lambda gradient: gradients.append(1))
    counting = register_optimizer_step_pre_hook(lambda *_: steps.append(1))
    try:
        losses = attempt(net, batches, 0.1)
    finally:
        counting.remove()
    if not gradients and not steps:
        return UNTOUCHED
    if not isinstance(losses, list) or len(losses) != len(batches):
        return "return a list with one loss for each batch."
    if not all(isinstance(loss, float) for loss in losses):
        return "the losses should be numbers. loss.item() turns a tensor into one, and lets its memory go."
    if not gradients:
        return "there are no gradients. Call loss.backward() before optimizer.step()."
    if not steps:
        return "the gradients are there, but no weight moves. Call optimizer.step() after loss.backward()."
    if torch.equal(net.head.weight, start.head.weight):
        return "no weight moves, because the gradients are cleared before the step. The order is backward, step, clear."

    def same(order: str) -> bool:
        return torch.allclose(torch.tensor(losses), torch.tensor(_losses(copy.deepcopy(start), batches, order)))

    if same("backward step zero_grad"):
        return None
    if same("backward step"):
        return "the gradients of all batches add up. Call optimizer.zero_grad() in every step."
    return "the weights move, but not as they should. In every step: loss.backward(), optimizer.step(), zero_grad()."


def _losses(net, batches, order: str) -> list[float]:
    """Train with these calls in each step, and return the losses."""
    import torch

    optimizer = torch.optim.AdamW(net.head.parameters(), lr=0.1)
    losses = []
    for batch in batches:
        loss = net(input_ids=batch, labels=batch).loss
        losses.append(loss.item())
        for call in order.split():
            getattr(loss if call == "backward" else optimizer, call)()
    return losses


@exercise("04_lora_math", "A training loop", difficulty="medium", minutes=5, examine=_examine_train)
def train(model, batches, learning_rate):
    """Train the parameters that are not frozen, one step for each batch of tokens. Return the losses."""
    import torch

    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate)
    losses = []
    for batch in batches:
        loss = model(input_ids=batch, labels=batch).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


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
        if not torch.allclose(again, right, atol=1e-4):
            return "take r from the shape of A: it is not always 2."
        batch = attempt(x[None], w, a, b, 8.0)  # a language model's inputs have an axis for the texts
        if not torch.is_tensor(batch) or batch.shape != (1, 5, 4):
            return "it works for x with two axes only. Write x @ W.T, x @ A.T and so on: then x may have more axes."
        return None
    if near(frozen):
        return "that is the frozen layer alone; add the product of B and A."
    if near(frozen + update):
        return "the scale α / r is missing in front of the update."
    if near(frozen + 8.0 * update):
        return "the update is scaled by α; it should be α / r."
    if near(4.0 * update):
        return "that is the update alone; x goes through the frozen W too."
    if near(4.0 * (frozen + update)):
        return "only the update is scaled by α / r, not what W gives."
    return "it should be x Wᵀ + α/r · x Aᵀ Bᵀ, with A (r, inputs) and B (outputs, r)."


@exercise("04_lora_math", "LoRA's forward pass", difficulty="medium", minutes=5, examine=_examine_lora)
def lora_forward(x, W, A, B, alpha):
    """Return W x + (α/r) B A x. Shapes: x (..., inputs), W (outputs, inputs), A (r, inputs), B (outputs, r)."""
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


@exercise("04_lora_math", "Round a block to a few levels", difficulty="medium", minutes=6, examine=_examine_round)
def round_block(block, levels):
    """Return a block after absmax quantisation to `levels` (ascending, from -1 to 1) and back."""
    scale = block.abs().max()
    nearest = (block[:, None] / scale - levels).abs().argmin(dim=1)
    return levels[nearest] * scale
