"""Pure numbers: how good predictions are, how sure that is, and whether two arms differ.

An invalid answer (None) is a wrong answer in a class of its own, counted and never dropped, as in the talk's report.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Score:
    """An arm's result on `n` rows."""

    n: int
    accuracy: float
    """Share of correct rows; invalid answers are not correct."""
    accuracy_ci95: tuple[float, float]
    macro_f1: float
    """Unweighted mean of the labels' F1; the invalid class is not one of them, but costs recall."""
    invalid: int

    def as_dict(self) -> dict:
        return {**asdict(self), "accuracy_ci95": list(self.accuracy_ci95)}


def evaluate(gold: Sequence[int], predicted: Sequence[int | None], labels: Sequence[str]) -> Score:
    """Score predictions. Raises ValueError for no rows, unequal lengths, or a number that is no label."""
    _check(gold, predicted, labels)
    from sklearn.metrics import f1_score

    correct = sum(a == b for a, b in zip(gold, predicted, strict=True))
    filled = [len(labels) if label is None else label for label in predicted]
    f1 = f1_score(gold, filled, labels=range(len(labels)), average="macro", zero_division=0)
    interval = wilson(correct, len(gold))
    return Score(len(gold), correct / len(gold), interval, float(f1), sum(label is None for label in predicted))


def report(gold: Sequence[int], predicted: Sequence[int | None], labels: Sequence[str]) -> str:
    """scikit-learn's classification report, with a last row for invalid answers whenever there is one, as in the talk."""
    _check(gold, predicted, labels)
    from sklearn.metrics import classification_report

    filled = [len(labels) if label is None else label for label in predicted]
    names = [*labels, *(["None (invalid)"] if len(labels) in filled else [])]
    text = classification_report(gold, filled, labels=range(len(names)), target_names=names, zero_division=0)
    if len(names) > len(labels):
        macro = evaluate(gold, predicted, labels).macro_f1
        text += f"\nmacro avg counts None as a label; over the labels alone, as elsewhere in the course, F1 is {macro:.2f}.\n"
    return text


def confusion(gold: Sequence[int], predicted: Sequence[int | None], labels: Sequence[str]) -> list[list[int]]:
    """Counts, gold x predicted; the last column holds invalid answers. Shape: (labels, labels + 1)."""
    _check(gold, predicted, labels)
    table = [[0] * (len(labels) + 1) for _ in labels]
    for a, b in zip(gold, predicted, strict=True):
        table[a][len(labels) if b is None else b] += 1
    return table


def wilson(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), from scipy."""
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(gold: Sequence[int], a: Sequence[int | None], b: Sequence[int | None]) -> float:
    """Exact two-sided McNemar test (1947): p of the null hypothesis that both arms are right equally often.

    Only rows on which one is right and the other wrong say anything: under the null hypothesis each is a coin toss. 1.0 if there are
    none. Raises ValueError when the arms did not answer the same number of rows.
    """
    if not len(gold) == len(a) == len(b):
        raise ValueError(f"arms on different rows: {len(gold)} gold labels, {len(a)} and {len(b)} predictions")
    from scipy.stats import binomtest

    only_a = sum(x == g != y for g, x, y in zip(gold, a, b, strict=True))
    only_b = sum(y == g != x for g, x, y in zip(gold, a, b, strict=True))
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def _check(gold: Sequence[int], predicted: Sequence[int | None], labels: Sequence[str]) -> None:
    if not len(gold):
        raise ValueError("no rows to score")
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold labels, but {len(predicted)} predictions")
    wrong = {x for x in (*gold, *predicted) if x is not None and not 0 <= x < len(labels)} | {
        x for x in gold if x is None
    }
    if wrong:
        raise ValueError(f"labels must be from 0 to {len(labels) - 1}; found {wrong.pop()}")
