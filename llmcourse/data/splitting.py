"""Splitting: choose training and test rows from the clean ones, with no group on both sides and no row unaccounted."""

from typing import Any

import numpy as np

from llmcourse._base.errors import CourseError
from llmcourse.data.cleaning import RowTable

TEST_SHARE = 0.2
"""Share of each label's rows that the test set gets, unless another number of rows is asked for."""
MAX_TEST_SHARE = 0.5
"""Largest share that the test set may get."""


def split(
    table: RowTable, n_train: int | None, n_test: int | None, balance: bool, report: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Return the places in the table of the rows of "train" and "test", and count in `report` the rows of neither.

    Each label gets its share of `n_train` and `n_test`, or the same number with `balance`. Test rows that come from a
    file of their own are all taken, unless `n_test` says fewer. Raises CourseError if splitting would leave a side
    without a label. A test file of its own may lack some.
    """
    given = table.given_test[table.kept]
    if given.any():
        test, train = table.kept[given], table.kept[~given]
        test_balance = False
    else:
        wanted = _test_counts(_counts(table, table.kept), n_train, n_test, balance)
        in_test = _in_test(table, table.kept, wanted)
        test, train = table.kept[in_test], table.kept[~in_test]
        test_balance = balance
        _check_sides(table, train, test)
    left_out = {"unbalanced": 0, "not_asked_for": 0}
    sides = {}
    for side, rows, wanted_rows, even in (("train", train, n_train, balance), ("test", test, n_test, test_balance)):
        sides[side] = _choose(table, rows, wanted_rows, even)
        balanced = int(_even(_counts(table, rows)).sum()) if even else len(rows)
        left_out["unbalanced"] += len(rows) - balanced
        left_out["not_asked_for"] += balanced - len(sides[side])
    report |= {reason: count for reason, count in left_out.items() if count}
    return sides


def _counts(table: RowTable, rows: np.ndarray) -> np.ndarray:
    """Return the number of rows of each label, shape (labels,)."""
    return np.bincount(table.label[rows], minlength=len(table.task.labels))


def _even(counts: np.ndarray) -> np.ndarray:
    """Return the same number for each label that there is: as many as the rarest has."""
    present = counts > 0
    return np.where(present, counts[present].min(initial=np.iinfo(counts.dtype).max), 0)


def _test_counts(counts: np.ndarray, n_train: int | None, n_test: int | None, balance: bool) -> np.ndarray:
    """Return how many test rows each label should have."""
    pool = _even(counts) if balance else counts
    if n_test is None:
        share, wanted = TEST_SHARE, pool * TEST_SHARE
    else:
        share = max(n_test / (n_train + n_test), TEST_SHARE) if n_train else MAX_TEST_SHARE
        wanted = _allocate(n_test, pool)
    return np.maximum(1, np.minimum(wanted, pool * min(share, MAX_TEST_SHARE)).round().astype(int))


def _allocate(total: int, counts: np.ndarray) -> np.ndarray:
    """Return how `total` rows are divided in proportion to the counts (largest remainders), at most all of them."""
    total = min(total, int(counts.sum()))
    exact = counts * (total / max(1, counts.sum()))
    parts = np.floor(exact).astype(int)
    # every label that there is gets a row, if there are so many
    parts = np.maximum(parts, (counts > 0).astype(int)) if total >= (counts > 0).sum() else parts
    order = np.argsort(parts - exact, kind="stable")
    for place in order[: max(0, total - int(parts.sum()))]:
        parts[place] += 1
    while parts.sum() > total:
        parts[np.argmax(parts)] -= 1
    return parts


def _in_test(table: RowTable, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return for each row whether it goes to the test set; whole groups go, until each label has what is wanted.

    Groups come in the order of their hashes. A group goes to the test set if it brings more rows that are wanted than
    rows that are not. A label that this leaves without a test row then gets its smallest group.
    """
    order = np.lexsort((table.order[rows], table.group[rows]))
    labels, groups = table.label[rows][order], table.group[rows][order]
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    taken = np.zeros(len(starts), dtype=bool)
    if len(starts) == len(rows):  # no groups: the first of each label
        for label, count in enumerate(wanted):
            taken[np.flatnonzero(labels == label)[:count]] = True
    else:
        ends = np.r_[starts[1:], len(rows)]
        missing = wanted.copy()
        for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
            brought = np.bincount(labels[start:end], minlength=len(wanted))
            useful = np.minimum(brought, missing)
            if 2 * useful.sum() > brought.sum():
                taken[place], missing = True, missing - useful
            if not missing.any():
                break
        _add_missing_labels(labels, starts, ends, taken, missing == wanted)
    in_test = np.zeros(len(rows), dtype=bool)
    in_test[order] = np.repeat(taken, np.diff(np.r_[starts, len(rows)]))
    return in_test


def _add_missing_labels(
    labels: np.ndarray, starts: np.ndarray, ends: np.ndarray, taken: np.ndarray, absent: np.ndarray
) -> None:
    """Take the smallest group of each label that the test set lacks, if the label has another group to learn from."""
    for label in np.flatnonzero(absent):
        own = [g for g, (start, end) in enumerate(zip(starts, ends, strict=True)) if (labels[start:end] == label).any()]
        if len(own) > 1 and not taken[own].any():
            taken[min(own, key=lambda group: ends[group] - starts[group])] = True


def _check_sides(table: RowTable, train: np.ndarray, test: np.ndarray) -> None:
    """Raise CourseError if a label has no row on one of the sides."""
    for label in np.flatnonzero((_counts(table, train) == 0) | (_counts(table, test) == 0)):
        word, group = table.task.labels[label], table.task.group_column
        count = int((table.label[table.kept] == label).sum())
        why = "to learn and to test, one each is needed" if count < 2 else f"all of them share one {group}"
        raise CourseError(
            f"{table.files[0].path}: too few rows are labelled {word!r}: {count}, and {why}. Add rows, or leave the"
            " label out of the task and its rows out of the file."
        )


def _choose(table: RowTable, rows: np.ndarray, wanted: int | None, balance: bool) -> np.ndarray:
    """Return the rows of one side, in the order of their hashes: each label's share of `wanted`, or all."""
    counts = _counts(table, rows)
    numbers = _even(counts) if balance else counts
    if wanted is not None:
        numbers = _allocate(wanted, numbers)
        numbers = _even(numbers) if balance else numbers
    ordered = rows[np.argsort(table.order[rows], kind="stable")]
    labels = table.label[ordered]
    return np.concatenate([ordered[labels == label][:number] for label, number in enumerate(numbers)])
