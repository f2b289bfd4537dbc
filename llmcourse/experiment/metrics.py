"""Pure numbers: how good predictions are, how certain that is, and whether two arms differ.

An invalid answer (None) is wrong. It is counted as a class of its own and never dropped, as in the talk's report.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmcourse.data.describing import are_uneven


@dataclass(frozen=True)
class Score:
    """An arm's result on `n` rows."""

    n: int
    accuracy: float
    """Share of correct rows. Invalid answers are not correct."""
    accuracy_ci95: tuple[float, float]
    macro_f1: float
    """Unweighted mean of the labels' F1. Invalid answers are no label of their own, but they lower recall."""
    invalid: int
    uneven: bool = False
    """Whether the rows have more of some labels than of others. Accuracy then says little without macro-F1."""

    def as_dict(self) -> dict[str, Any]:
        """Return the score as JSON stores it."""
        values = {**asdict(self), "accuracy_ci95": list(self.accuracy_ci95)}
        return {name: value for name, value in values.items() if name != "uneven"}


def evaluate(gold: Sequence[int], predicted: Sequence[int | None], labels: Sequence[str]) -> Score:
    """Score predictions. Raises ValueError for no rows, unequal lengths, or a number that is no label."""
    _check(gold, predicted, labels)
    from sklearn.metrics import f1_score

    correct = sum(a == b for a, b in zip(gold, predicted, strict=True))
    f1 = f1_score(gold, _numbered(predicted, labels), labels=range(len(labels)), average="macro", zero_division=0)
    interval = wilson(correct, len(gold))
    counts = Counter(gold)
    uneven = are_uneven([counts[label] for label in range(len(labels))])
    invalid = sum(label is None for label in predicted)
    return Score(len(gold), correct / len(gold), interval, float(f1), invalid, uneven)


def report(gold: Sequence[int], predicted: Sequence[int | None], labels: Sequence[str]) -> str:
    """Return scikit-learn's classification report, with a row for invalid answers if there are any, as in the talk."""
    _check(gold, predicted, labels)
    from sklearn.metrics import classification_report

    numbers = _numbered(predicted, labels)
    names = [*labels, *(["None (invalid)"] if len(labels) in numbers else [])]
    text = classification_report(gold, numbers, labels=range(len(names)), target_names=names, zero_division=0)
    if len(names) > len(labels):
        macro = evaluate(gold, predicted, labels).macro_f1
        text += "\nmacro avg counts None as a label; over the labels alone, as elsewhere in the course,"
        text += f" F1 is {macro:.2f}.\n"
    return text


def confusion(gold: Sequence[int], predicted: Sequence[int | None], labels: Sequence[str]) -> list[list[int]]:
    """Return counts, gold x predicted; the last column holds invalid answers. Shape: (labels, labels + 1)."""
    _check(gold, predicted, labels)
    table = [[0] * (len(labels) + 1) for _ in labels]
    for truth, answer in zip(gold, _numbered(predicted, labels), strict=True):
        table[truth][answer] += 1
    return table


def wilson(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson 1927), from scipy."""
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(gold: Sequence[int], a: Sequence[int | None], b: Sequence[int | None]) -> float:
    """Return p of the exact two-sided McNemar test (McNemar 1947). Null hypothesis: both arms are right equally often.

    The test uses the rows on which exactly one arm is right, which are coin tosses under the null hypothesis. If there
    are none, p is 1. Raises ValueError when the arms did not answer the same number of rows.
    """
    if not len(gold) == len(a) == len(b):
        raise ValueError(f"arms on different rows: {len(gold)} gold labels, {len(a)} and {len(b)} predictions")
    from scipy.stats import binomtest

    only_a = sum(x == g != y for g, x, y in zip(gold, a, b, strict=True))
    only_b = sum(y == g != x for g, x, y in zip(gold, a, b, strict=True))
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def p_text(p: float) -> str:
    """Return a p value as papers write it: 'p = 0.031', or 'p < 0.001'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _numbered(predicted: Sequence[int | None], labels: Sequence[str]) -> list[int]:
    """Return predictions with invalid answers as the number after the last label."""
    return [len(labels) if label is None else label for label in predicted]


def _check(gold: Sequence[int], predicted: Sequence[int | None], labels: Sequence[str]) -> None:
    if not len(gold):
        raise ValueError("no rows to score")
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold labels, but {len(predicted)} predictions")
    unknown = {label for label in gold if label is None or not 0 <= label < len(labels)}
    unknown |= {label for label in predicted if label is not None and not 0 <= label < len(labels)}
    if unknown:
        raise ValueError(f"labels must be from 0 to {len(labels) - 1}; found {unknown.pop()}")
