"""Pure numbers: how good predictions are, how certain that is, and whether two arms differ.

An invalid answer (None) is wrong. It is counted as a class of its own and never dropped, as in the talk's report.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
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
    """What other test rows of the same kind might give. Both ends are the accuracy if all answers are the same."""
    macro_f1: float
    """Unweighted mean of the F1 of the labels that occur. Invalid answers are no label, but they lower recall."""
    invalid: int
    uneven: bool = False
    """Whether the rows have more of some labels than of others. Accuracy then says little without macro-F1."""

    @property
    def interval(self) -> str:
        """The interval in words."""
        low, high = self.accuracy_ci95
        return "one answer for all rows" if low == high else f"95 % interval {low:.1%} to {high:.1%}"

    def as_dict(self) -> dict[str, Any]:
        """Return the score as JSON stores it."""
        values = {**asdict(self), "accuracy_ci95": list(self.accuracy_ci95)}
        return {name: value for name, value in values.items() if name != "uneven"}


def evaluate(
    gold: Sequence[int],
    predicted: Sequence[int | None],
    labels: Sequence[str],
    groups: Sequence[Hashable] | None = None,
) -> Score:
    """Score predictions. `groups` says which rows belong together, such as replies to one comment.

    Raises ValueError for no rows, unequal lengths, or a number that is no label.
    """
    _check(gold, predicted, labels)
    from sklearn.metrics import f1_score

    correct = sum(a == b for a, b in zip(gold, predicted, strict=True))
    occur = sorted({label for label in (*gold, *predicted) if label is not None})
    f1 = f1_score(gold, _numbered(predicted, labels), labels=occur, average="macro", zero_division=0)
    interval = accuracy_interval([a == b for a, b in zip(gold, predicted, strict=True)], groups)
    if len(set(predicted)) == 1:
        # the same answer for every row was not lucky: it is right as often as its label occurs
        interval = (correct / len(gold), correct / len(gold))
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


def accuracy_interval(right: Sequence[bool], groups: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy: Wilson's, or by a cluster bootstrap if rows share a group.

    Rows of one group are right or wrong together more often than others, so they are worth fewer rows. The bootstrap
    draws whole groups, 9,999 times with a fixed seed, and takes the 2.5th and 97.5th percentile (Efron and Tibshirani
    1993, chapter 8). If every group has the same share right, its draws are all alike, and it is Wilson's with a row
    for each group.
    """
    totals = _by_group([int(value) for value in right], groups)
    if len(totals) == len(right):
        return wilson(sum(right), len(right))
    from scipy.stats import bootstrap

    if len(totals) == 1:  # a single group says nothing about others
        return 0.0, 1.0
    sums, sizes = zip(*totals.values(), strict=True)
    if len({right / rows for right, rows in totals.values()}) == 1:
        return wilson(round(len(totals) * sum(sums) / sum(sizes)), len(totals))
    drawn = bootstrap(
        (sums, sizes),
        lambda right, rows, axis: right.sum(axis=axis) / rows.sum(axis=axis),
        n_resamples=9999,
        vectorized=True,
        paired=True,
        method="percentile",
        rng=0,
    ).confidence_interval
    return float(drawn.low), float(drawn.high)


def paired_test(
    gold: Sequence[int],
    a: Sequence[int | None],
    b: Sequence[int | None],
    groups: Sequence[Hashable] | None = None,
) -> float:
    """Return p of an exact two-sided test. Null hypothesis: both arms are right equally often.

    If every row is a group of its own, this is the exact McNemar test (McNemar 1947): the rows on which exactly one arm
    is right are coin tosses under the null hypothesis. Rows of one `group` are one toss together: it turns the sign of
    how many more of them `a` has right (a permutation test of paired differences, Fisher 1935, section 21). If the arms
    never differ, p is 1. Raises ValueError when the arms did not answer the same number of rows.
    """
    if not len(gold) == len(a) == len(b):
        raise ValueError(f"methods on different rows: {len(gold)} gold labels, {len(a)} and {len(b)} predictions")
    import numpy as np

    gains = [(x == g) - (y == g) for g, x, y in zip(gold, a, b, strict=True)]
    sums = [abs(total) for total, _ in _by_group(gains, groups).values() if total]
    observed = abs(sum(gains))
    # how likely each sum is when every group's difference is added or subtracted by the toss of a coin
    chances = np.ones(1)
    for size in sums:
        spread = np.zeros(len(chances) + 2 * size)
        spread[: len(chances)] += chances / 2
        spread[2 * size :] += chances / 2
        chances = spread
    total = sum(sums)
    return float(min(1.0, chances[np.abs(np.arange(-total, total + 1)) >= observed].sum()))


def _by_group(values: Sequence[int], groups: Sequence[Hashable] | None) -> dict[Hashable, tuple[int, int]]:
    """Return for each group the sum of its rows' values, and how many rows it has."""
    totals: dict[Hashable, tuple[int, int]] = {}
    for value, group in zip(values, range(len(values)) if groups is None else groups, strict=True):
        before, rows = totals.get(group, (0, 0))
        totals[group] = (before + value, rows + 1)
    return totals


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
