"""Exercises of notebook 03: how often a retriever finds the passage, and how surprised a model is by texts."""

from math import exp

from llmcourse.lessons.exercises import exercise

RANKS = [[4, 2, 7], [1, 5, 3], [0, 6, 2], [3, 1, 8]]
RIGHT = [2, 1, 9, 8]


def _examine_recall(attempt) -> str | None:
    first = attempt(RANKS, RIGHT, 1)
    if first == 1:
        return (
            "with k = 1 one of four questions has its passage in the first place:"
            " return the share, 0.25, not the number."
        )
    if first != 0.25:
        return f"with k = 1 only the second question has its passage in the first place, so 0.25; it gives {first!r}."
    two, three = attempt(RANKS, RIGHT, 2), attempt(RANKS, RIGHT, 3)
    if two == three == 0.25:
        return "with k = 2 it still looks at one place alone: look for the right passage among the first k."
    if two == 0.75:
        return "it looks beyond the first k: with k = 2 a passage in the third place does not count."
    if two == 0.25:
        return "a passage in the second place counts with k = 2: cut each question's own list, row[:k]."
    if (two, three) != (0.5, 0.75):
        return f"with k = 2 and 3 it is 0.5 and 0.75 here; it gives {two!r} and {three!r}."
    return None


@exercise("03_domain_adaptation", "Recall at k", difficulty="easy", minutes=4, examine=_examine_recall)
def recall_at(ranks, right, k):
    """The share of questions whose right passage is among the first k of its ranks."""
    hits = [passage in row[:k] for row, passage in zip(ranks, right)]
    return sum(hits) / len(hits)


def _examine_perplexity(attempt) -> str | None:
    texts = [[-1.0, -3.0], [-2.0, -2.0, -2.0, -2.0, -2.0, -8.0]]
    mean = 22 / 8
    first = float(attempt([[-1.0, -3.0]]))
    if abs(first - exp(-2)) < 1e-6:
        return "log-probabilities are negative, and perplexity is at least 1: take the minus sign into the exponent."
    if abs(first - 2) < 1e-6:
        return "that is the loss in nats; perplexity is exp of it."
    if abs(first - exp(4)) < 1e-4:
        return (
            "that is exp of the sum: divide by the number of tokens first, or a longer text is always more surprising."
        )
    if abs(first - 4) < 1e-6:
        return "these are natural logarithms: the inverse is exp, not a power of 2."
    if abs(first - (exp(1) + exp(3)) / 2) < 1e-6:
        return "take the mean of the log-probabilities first, then exp of it; not exp of each token."
    if abs(first - exp(2)) > 1e-6:
        return f"for one text of two tokens with -1 and -3 it is exp(2) = 7.389; it gives {first:.4g}."
    answer = float(attempt(texts))
    if abs(answer - exp((2 + 3) / 2)) < 1e-6 or abs(answer - (exp(2) + exp(3)) / 2) < 1e-6:
        return "each token weighs the same, not each text: put the log-probabilities of all texts together first."
    if abs(answer - exp(mean)) > 1e-6:
        return (
            f"for the two texts, 8 tokens with a sum of -22, it is exp(22/8) = {exp(mean):.4g}; it gives {answer:.4g}."
        )
    return None


@exercise(
    "03_domain_adaptation",
    "Perplexity from log-probabilities",
    difficulty="medium",
    minutes=6,
    examine=_examine_perplexity,
)
def perplexity_of(texts):
    """exp of the mean negative log-probability over all tokens; each text is a list of natural log-probabilities."""
    from math import exp

    every = [logprob for text in texts for logprob in text]
    return exp(-sum(every) / len(every))
