"""Exercises of notebook 01: how a token is chosen, how one head attends, and what weights take in memory."""

from llmcourse.lessons.exercises import exercise


def _examine_top_k(attempt) -> str | None:
    import torch

    probs = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
    answer = attempt(probs.clone(), 2)
    if not isinstance(answer, torch.Tensor) or answer.shape != probs.shape:
        if isinstance(answer, tuple | torch.Tensor) and len(answer) == 2:
            return "that is what was kept. Return all 5 probabilities, with 0 for the tokens that were dropped."
        return "return a tensor with one probability for each token: 0 where it was dropped."
    if not torch.is_floating_point(answer):
        return "return probabilities, not the places of the tokens."
    if torch.allclose(answer, torch.tensor([0, 0.4, 0, 0.3, 0])):
        return "the right tokens are left, but they hold 0.7 together. Divide by their sum: something has to be drawn."
    if answer[2] > 0 and answer[1] == 0:
        return "those are the least probable ones."
    if bool((answer == 0).sum() != 3):
        return f"for k = 2 it leaves {int((answer > 0).sum())} tokens."
    if not torch.allclose(answer, torch.tensor([0, 4 / 7, 0, 3 / 7, 0])):
        if abs(float(answer.sum()) - 1) < 1e-5:
            return "the right number of tokens, but their proportion has changed: it should stay 4 to 3."
        return f"what is left adds up to {float(answer.sum()):.2f}, not to 1."
    if not torch.allclose(attempt(probs.clone(), 3), torch.tensor([0, 8 / 17, 0, 6 / 17, 3 / 17])):
        return "it is right for k = 2 only; use the argument."
    if not torch.allclose(attempt(torch.full((4,), 0.25), 2).gt(0).sum(), torch.tensor(2)):
        return (
            "where tokens are equally probable it keeps more than k. Take the places that topk gives, not a threshold."
        )
    return None


@exercise("01_llm_background", "Keep the k likeliest tokens", difficulty="easy", minutes=4, examine=_examine_top_k)
def top_k(probabilities, k):
    """Return the probabilities of the k likeliest tokens, rescaled to sum to 1, and 0 for all others: (vocabulary,)."""
    import torch

    values, indices = probabilities.topk(k)
    kept = torch.zeros_like(probabilities)
    kept[indices] = values
    return kept / kept.sum()


def _examine_head(attempt) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    query, key = (2 * torch.randn(5, 16, generator=generator) for _ in range(2))
    answer = attempt(query.clone(), key.clone())
    if not isinstance(answer, torch.Tensor) or answer.shape != (5, 5):
        return "return a tensor with a row and a column for each position: (5, 5) here."
    products, future = query @ key.T, torch.ones(5, 5).triu(1).bool()

    def weights(scores, hidden=future, axis=-1):
        return scores.masked_fill(hidden, float("-inf")).softmax(axis)

    def gives(expected):
        return torch.allclose(answer, expected, atol=1e-5, equal_nan=True)

    scaled = products / 4
    if gives(weights(scaled)):
        return None
    if answer.isnan().any():
        return (
            "there are NaNs: a row in which everything is masked."
            " A position sees itself; mask only what comes after it."
        )
    usual = (
        (weights(products), "the scores are not scaled: divide by the square root of head_dim."),
        (weights(products / 16), "the scores are divided by head_dim; it should be its square root."),
        (scaled.softmax(-1), "nothing is masked: the first position sees words that are not written yet."),
        (
            weights(scaled, future.T),
            "the mask is the wrong way round: positions see what comes after them, not before.",
        ),
        (
            scaled.softmax(-1).masked_fill(future, 0),
            "the mask comes after softmax, so rows do not add up to 1. Set those scores to -inf before it.",
        ),
        (
            scaled.masked_fill(future, 0).softmax(-1),
            "masked scores are 0, and exp(0) is 1. Set them to float('-inf').",
        ),
        (weights(scaled, axis=0), "softmax goes along the wrong axis: the weights of each row should add up to 1."),
        (scaled.masked_fill(future, float("-inf")), "those are scores; softmax makes weights of them."),
    )
    for wrong, hint in usual:
        if gives(wrong):
            return hint
    if not torch.allclose(answer.sum(-1), torch.ones(5), atol=1e-4):
        return "the weights of a row do not add up to 1."
    return "rows add up to 1, but the weights are others: softmax(query @ key.T / sqrt(head_dim)), masked."


@exercise("01_llm_background", "One head's attention", difficulty="medium", minutes=8, examine=_examine_head)
def head_weights(query, key):
    """Return the causal attention weights of one head: query and key (length, head_dim) -> (length, length)."""
    import torch

    length, head_dim = query.shape
    scores = query @ key.T / head_dim**0.5
    future = torch.ones(length, length).triu(1).bool()  # 1 above the diagonal: what comes later
    return scores.masked_fill(future, float("-inf")).softmax(-1)


def _examine_weights(attempt) -> str | None:
    answer = attempt(2**33, 16)
    if not isinstance(answer, int | float):
        return "return one number, the GiB."
    usual = (
        (128, "those are gibibits: a byte has 8 bits."),
        (2**34, "those are bytes. A GiB has 2**30 of them."),
        (2**34 / 1e9, "those are GB, of 10**9 bytes. A GiB has 2**30 bytes."),
        (2**34 / 2**20, "those are MiB. A GiB has 2**30 bytes."),
    )
    for wrong, hint in usual:
        if abs(answer - wrong) < 1e-6 * wrong:
            return hint
    if abs(answer - 16) > 1e-6:
        return f"2**33 weights of 16 bits take 16 GiB. It gives {answer}."
    half = attempt(2**30 + 2**29, 4)
    return None if abs(half - 0.75) < 1e-9 else "it is right for 16 bits. For 4 bits a weight takes half a byte."


@exercise("01_llm_background", "Memory of the weights", difficulty="easy", minutes=3, examine=_examine_weights)
def weights_gib(parameters, bits):
    """Return the memory in GiB of `parameters` weights with `bits` bits each. A GiB has 2**30 bytes."""
    return parameters * bits / 8 / 2**30
