"""Cleaning: which rows can be used, how many cannot and why, and when a file is refused.

The texts stay in their files. Only a few numbers are kept for each row: its label, and hashes of its texts. Texts count
as the same when their `texts.identity` is the same. Their hashes have 64 bits, so that two of a million different texts
share one with a probability of 3e-8.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
from pandas.util import hash_array

from llmcourse._base.errors import CourseError
from llmcourse.data.csvfiles import UNQUOTED, RejectedLine
from llmcourse.data.describing import in_words
from llmcourse.data.labels import LabelReader
from llmcourse.data.rowfiles import Batch, RowFile
from llmcourse.data.tasks import Task
from llmcourse.data.texts import MAX_CHARACTERS, fold, identity

MAX_REJECTED_SHARE = 0.1
"""A file is refused if a larger share of its lines cannot be read. Otherwise those lines are left out and counted."""
SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
UNUSABLE = ("no_label", "empty", "too_long")
TRAIN, TEST, OTHER = range(3)
"""Which side of the split the files give a row."""


class RowTable:
    """The rows of a file, or of a training file and a test file, as numbers.

    `add` reads the files, and `clean` sets `kept`: the places in the arrays of the rows that can be used.
    """

    def __init__(self, task: Task, seed: int):
        self.task, self.seed = task, seed
        self.files: list[RowFile] = []
        self.rejected: list[tuple[RowFile, RejectedLine]] = []
        self.unusable: Counter[str] = Counter()
        self.split_words: Counter[str] = Counter()
        self._read: Counter[int] = Counter()
        self._group = task.columns.index(task.group_column) if task.group_column else None
        self._arrays: dict[str, list[np.ndarray]] = defaultdict(list)

    # -- reading -----------------------------------------------------------------------------------------------------

    def add(self, file: RowFile) -> None:
        """Read a file once and turn its usable rows into numbers. Raises CourseError for labels the task lacks."""
        part, labels = len(self.files), LabelReader(file)
        self.files.append(file)
        for batch in file.batches():
            if isinstance(batch, RejectedLine):
                self.rejected.append((file, batch))
            else:
                self._add_rows(part, batch, labels.read(batch))
        self._read[part] = labels.rows
        labels.check()
        self._check_lines(part)

    def _add_rows(self, part: int, batch: Batch, labels: list[int | None]) -> None:
        """Add the numbers of the rows that can be used, and count the others."""
        texts, folded, marked = zip(*(_clean(self.task, column) for column in batch.texts), strict=True)
        usable = self._usable(labels, texts, folded).tolist()
        texts, folded = ([list(compress(column, usable)) for column in columns] for columns in (texts, folded))
        splits = list(compress(batch.splits, usable))
        named = self.files[part].split_column is not None
        sides = list(map(self._side, splits)) if named else [OTHER] * len(splits)
        whole = ["\x1f".join(own) for own in zip(*folded, strict=True)]
        group = _hashes(self.seed, whole if self._group is None else folded[self._group])
        numbers = {
            "part": np.full(len(whole), part, dtype=np.int8),
            "row": batch.number + np.flatnonzero(usable),
            "label": np.array(list(compress(labels, usable)), dtype=np.int32),
            "side": np.array(sides, dtype=np.int8),
            "text": group if self._group is None else hash_array(np.array(whole, dtype=object), categorize=False),
            "group": group,
            "order": _hashes(self.seed, ["\x1f".join(own) for own in zip(*texts, strict=True)]),
            "marked": np.any(marked, axis=0)[usable],
        }
        for name, values in numbers.items():
            self._arrays[name].append(values)

    def _usable(self, labels: list[int | None], texts: Sequence[list[str]], folded: Sequence[list[str]]) -> np.ndarray:
        """Return which rows can be used, and count the others. A text shows nothing if its `fold` is empty."""
        labelled = np.array([label is not None for label in labels], dtype=bool)
        full = _lengths(folded).min(axis=0) > 0
        short = _lengths(texts).max(axis=0) <= MAX_CHARACTERS
        self.unusable["no_label"] += int((~labelled).sum())
        self.unusable["empty"] += int((labelled & ~full).sum())
        self.unusable["too_long"] += int((labelled & full & ~short).sum())
        return labelled & full & short

    def _side(self, split: str) -> int:
        self.split_words[split] += 1
        return {"train": TRAIN, "test": TEST}.get(SPLIT_WORDS.get(identity(split), ""), OTHER) if split else OTHER

    def _check_lines(self, part: int) -> None:
        """Raise CourseError if too many lines of a file cannot be read, or if it holds no rows."""
        file, read = self.files[part], self._read[part]
        rejected = [line for of, line in self.rejected if of is file]
        lines = sum(line.lines for line in rejected)
        if lines > MAX_REJECTED_SHARE * (read + lines):
            first = rejected[0]
            raise CourseError(
                f"{file.path}: {lines:,} of {read + lines:,} lines cannot be read; the first is line {first.number}"
                f" ({first.reason}). Is the delimiter right, and are quotes doubled? {UNQUOTED}"
            )
        if not read:
            raise CourseError(f"{file.path} holds no rows. Add rows below the column names.")

    # -- cleaning ----------------------------------------------------------------------------------------------------

    def clean(self) -> dict[str, Any]:
        """Choose the rows that can be used. Return counts of what was read, left out and kept; they add up.

        Rows that the files call test rows are all kept, and training rows that share a group with one are left out. Of
        other rows with the same texts one is kept if their labels agree, and none if not. Raises CourseError for a file
        that makes no sense.
        """
        # 1. What the files say about train and test
        self._freeze()
        given_test = other = np.zeros(len(self.row), dtype=bool)
        if len(self.files) == 2:  # a test file decides, whatever a column of the training file says
            given_test = self.part == 1
        elif self._has_split_column():
            given_test, other = self.side == TEST, self.side == OTHER
        shared = ~given_test & ~other & np.isin(self.group, self.group[given_test])
        # 2. Rows with the same texts
        rest = np.flatnonzero(~given_test & ~other & ~shared)
        first, contradictory = _same_texts(self.text[rest], self.label[rest])
        self.kept = np.sort(np.concatenate([np.flatnonzero(given_test), rest[first & ~contradictory]]))
        self.given_test = given_test
        # 3. Count
        report: dict[str, Any] = {
            "read": sum(self._read.values()),
            "rejected_lines": [line.number for _, line in self.rejected][:100],
            **({"rejected_reason": self.rejected[0][1].reason} if self.rejected else {}),
            "rejected": sum(line.lines for _, line in self.rejected),
            **{reason: self.unusable[reason] for reason in UNUSABLE},
            "contradictory": int(contradictory.sum()),
            "kept": len(self.kept),
            "marks_stripped": int(self.marked[self.kept].sum()),
            "duplicates": int((~first & ~contradictory).sum()),
        }
        if len(self.files) == 2 or shared.any():
            report["shared_with_test"] = int(shared.sum())
        if other.any():
            report["other_split"] = int(other.sum())
        self._check_labels(report)
        return report

    def _freeze(self) -> None:
        """Join the arrays of the chunks, each into an attribute."""
        self.part, self.row, self.label = (np.concatenate(self._arrays[name]) for name in ("part", "row", "label"))
        self.side, self.marked = (np.concatenate(self._arrays[name]) for name in ("side", "marked"))
        self.text, self.group, self.order = (np.concatenate(self._arrays[name]) for name in ("text", "group", "order"))

    def _has_split_column(self) -> bool:
        """Return whether the file itself names train and test rows. Raises CourseError if it names one side only."""
        file = self.files[0]
        sides = {SPLIT_WORDS.get(identity(word)) for word in self.split_words} - {None}
        if file.split_column is None or not sides:
            return False
        for side in ("train", "test"):
            if side not in sides:
                words = ", ".join(map(repr, sorted(self.split_words)[:5]))
                raise CourseError(
                    f"{file.path}: its column {file.split_column!r} names no {side} rows; it holds {words}. Name them"
                    " train and test, or leave the column out."
                )
        return True

    def _check_labels(self, report: dict[str, Any]) -> None:
        """Raise CourseError if there are no usable rows, or none of one of the task's labels."""
        path, labels = self.files[0].path, self.task.labels
        if not len(self.kept):
            raise CourseError(f"{path}: none of its {report['read']:,} rows can be used. {self._blame(report)}")
        learned = self.kept[~self.given_test[self.kept]]
        present = set(self.label[learned].tolist())
        if len(present) < 2:
            named = ", ".join(repr(labels[label]) for label in sorted(present)) or "none"
            raise CourseError(
                f"{path} holds rows of one label only ({named}); {len(labels)} are needed to learn and to compare."
                f" Add rows of the others. {self._blame(report)}".rstrip()
            )
        absent = [word for label, word in enumerate(labels) if label not in present]
        if absent:
            raise CourseError(
                f"{path} holds no row labelled {absent[0]!r} to learn from. Add some, or remove it from the task's"
                f" labels. {self._blame(report)}".rstrip()
            )
        tested = set(self.label[self.given_test].tolist())
        if len(tested) == 1:
            raise CourseError(
                f"{self.files[-1].path}: all its test rows have the label {labels[tested.pop()]!r}, so a method that"
                " always says so would be right every time. Add test rows of other labels."
            )
        if len(self.files) == 2 and not tested:
            raise CourseError(f"{self.files[-1].path}: none of its rows can be used. {self._blame(report)}")

    def _blame(self, report: dict[str, Any]) -> str:
        """Return for what reasons rows were left out, with what to do about the commonest. Empty if none was."""
        counts = {reason: report.get(reason, 0) for reason in _REASONS}
        if not any(counts.values()):
            return ""
        worst = max(counts, key=lambda reason: counts[reason])
        names = {"text": ", ".join(self.files[0].columns[column] for column in self.task.columns)}
        names["label"] = self.files[0].columns["label"]
        return f"Left out: {in_words(report, tuple(_REASONS))}. {_REASONS[worst].format(**names)}"


_REASONS = {
    "no_label": "The column {label!r} is empty there. Is it the right one? Name another with --column label=COLUMN.",
    "empty": "A text column ({text}) is empty there. Is it the right one? Name another with --column.",
    "too_long": f"They have more than {MAX_CHARACTERS:,} characters in {{text}}. Shorten them, or name another column.",
    "contradictory": (
        "Rows with the same text in {text} have different labels, so the text does not decide. Is it the right column?"
    ),
    "duplicates": "They repeat the text of another row in {text}. Is it the right column?",
    "shared_with_test": "They repeat what the test rows hold. Use test rows that are not training rows.",
    "other_split": "The column `split` gives them to neither train nor test.",
}
"""Why rows are left out, and what to do about it."""


def _lengths(columns: Sequence[list[str]]) -> np.ndarray:
    """Return the number of characters of each text, shape (columns, rows)."""
    return np.array([np.fromiter(map(len, column), dtype=np.int64, count=len(column)) for column in columns])


def _clean(task: Task, texts: Sequence[str]) -> tuple[list[str], list[str], np.ndarray]:
    """Return `Task.clean` and `fold` of each text, and which of them had a mark.

    Most texts are ASCII, squeezed and without marks. They stay as they are, and are folded all at once.
    """
    joined = "\0".join(["", *texts, ""])
    lowered = joined.lower().split("\0")[1:-1]
    if len(lowered) != len(texts):  # a text has the separator
        lowered, special = [""] * len(texts), set(range(len(texts)))
    else:
        special = set(np.flatnonzero(_special(joined)).tolist())
        for mark in task.lowered_marks:
            special.update(place for place, text in enumerate(lowered) if mark in text)
    cleaned, marked = list(texts), np.zeros(len(texts), dtype=bool)
    for place in special:
        cleaned[place], marked[place] = task.clean(texts[place])
        lowered[place] = fold(cleaned[place])
    return cleaned, lowered, marked


def _special(joined: str) -> np.ndarray:
    """Return which of the texts between NULs are not ASCII, not squeezed or empty."""
    codes = np.frombuffer(joined.encode(), dtype=np.uint8)
    is_space = codes <= 32
    odd = (codes > 126) | (is_space & (codes != 32) & (codes != 0))
    odd[:-1] |= is_space[:-1] & is_space[1:]  # the NUL before a text counts to it
    return np.logical_or.reduceat(odd, np.flatnonzero(codes == 0)[:-1])


def _hashes(seed: int, texts: Sequence[str]) -> np.ndarray:
    """Return 64 bits of the MD5 of seed and each text. They decide order and choice, so they must never change."""
    md5, start = hashlib.md5, str(seed)
    digests = [md5((start + text).encode(), usedforsecurity=False).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8")[1::2]


def _same_texts(texts: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row whether it is the first with its text, and whether rows with its text disagree on the label.

    All shapes are (rows,).
    """
    first, contradictory = np.zeros(len(texts), dtype=bool), np.zeros(len(texts), dtype=bool)
    if len(texts):
        _, firsts, inverse = np.unique(texts, return_index=True, return_inverse=True)
        first[firsts] = True
        disagree = np.zeros(len(firsts), dtype=bool)
        disagree[inverse[labels != labels[firsts][inverse]]] = True
        contradictory = disagree[inverse]
    return first, contradictory
