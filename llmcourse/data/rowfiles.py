"""A file of rows for a task: which of its columns the task needs, and its rows one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from llmcourse._base.errors import CourseError
from llmcourse.data.columns import suggestion
from llmcourse.data.csvfiles import Quotes, RejectedLine
from llmcourse.data.fileformats import Table, open_table
from llmcourse.data.tasks import Task
from llmcourse.data.texts import identity

MAX_NAMES_SHOWN = 20


class Row(NamedTuple):
    """A row as it is in its file."""

    number: int
    """Number of the row, from 1. Lines that cannot be read are not counted."""
    texts: list[str]
    """The task's text columns, empty where the file has nothing."""
    label: str
    """What the label column holds, empty if there is nothing or no such column."""
    split: str
    """What the column `split` holds, likewise."""


class Batch(NamedTuple):
    """Many rows as they are in their file, each column a list."""

    number: int
    """Number of the first row. The others follow it."""
    texts: list[list[str]]
    """The task's text columns, each as long as `labels`."""
    labels: list[str]
    splits: list[str]


@dataclass(frozen=True)
class RowFile:
    """A file of rows for a task."""

    table: Table
    task: Task
    path: Path
    columns: Mapping[str, str]
    """The task's columns, and what the file calls them. "label" is among them if the rows are labelled."""
    split_column: str | None
    """The column that says which rows are test rows, if the file has one."""

    @classmethod
    def open(
        cls,
        task: Task,
        path: Path,
        columns: Mapping[str, str] | None = None,
        labelled: bool = True,
        quotes: Quotes = "checked",
        option: str = "--column",
    ) -> "RowFile":
        """Open a file. Raises CourseError if it cannot be read, or lacks a column that the task needs.

        `option` is the option of the command line that maps this file's columns, for messages.
        """
        table = open_table(path, quotes)
        mapping = _map_columns(task, path, table, columns or {}, labelled, option)
        free = [name for name in table.names if name not in mapping.values()]
        splits = [name for name in free if identity(name) == "split"]
        return cls(table, task, path, mapping, splits[0] if len(splits) == 1 else None)

    @property
    def labelled(self) -> bool:
        """Return whether the rows' labels are read."""
        return "label" in self.columns

    def batches(self) -> Iterator[Batch | RejectedLine]:
        """Yield the file's rows, many at once, and what is no row.

        Raises CourseError where the file cannot be read on. The rows before it are yielded first.
        """
        texts = [self.columns[column] for column in self.task.columns]
        more = [name for name in (self.columns.get("label"), self.split_column) if name is not None]
        number = 1
        for batch in self.table.batches([*texts, *more], self._is_row if self.labelled else None):
            if isinstance(batch, RejectedLine):
                yield batch
                continue
            columns = [[value or "" for value in column] for column in batch]
            labels = columns[len(texts)] if self.labelled else [""] * len(columns[0])
            splits = columns[-1] if self.split_column is not None else [""] * len(labels)
            yield Batch(number, columns[: len(texts)], labels, splits)
            number += len(labels)

    def rows(self, only: frozenset[int] | None = None) -> Iterator[Row | RejectedLine]:
        """Yield the file's rows one by one, all or those of some numbers, and what is no row."""
        for batch in self.batches():
            if isinstance(batch, RejectedLine):
                yield batch
                continue
            numbers = range(batch.number, batch.number + len(batch.labels))
            for number in numbers if only is None else sorted(only.intersection(numbers)):
                place = number - batch.number
                texts = [column[place] for column in batch.texts]
                yield Row(number, texts, batch.labels[place], batch.splits[place])

    def place(self, row: int, column: str) -> str:
        """Return where a text is, for messages."""
        return f"{self.path}, row {row}: column {self.columns[column]!r}"

    def _is_row(self, fields: Sequence[str]) -> bool:
        """Return whether a line has one of the task's labels in the label's column."""
        return self.task.label_of(fields[self.table.names.index(self.columns["label"])]) is not None


def _map_columns(
    task: Task, path: Path, table: Table, columns: Mapping[str, str], labelled: bool, option: str
) -> dict[str, str]:
    """Return the task's columns with the file's names for them. Raises CourseError for a missing or unclear one."""
    needed = {column: column for column in task.columns} | ({"label": task.label_column} if labelled else {})
    unknown = sorted(set(columns) - set(needed) - {"label"})
    if unknown:
        raise CourseError(f"The task {task.name!r} has no column {unknown[0]!r} to map. It has: {', '.join(needed)}.")
    mapping = {column: _find(columns.get(column, name), table.names) for column, name in needed.items()}
    missing = [column for column, name in mapping.items() if name not in table.names]
    if missing:
        more = len(table.names) - MAX_NAMES_SHOWN
        shown = ", ".join(table.names[:MAX_NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
        hint = suggestion(task, table, mapping, missing, option)
        raise CourseError(f"{path} has no column {mapping[missing[0]]!r}; it has: {shown}. {hint}")
    for name in mapping.values():
        if table.names.count(name) > 1:
            raise CourseError(f"{path} names the column {name!r} twice. Rename one of them.")
    used = list(mapping.values())
    if len(set(used)) < len(used) and labelled and used.count(mapping["label"]) > 1:
        raise CourseError(
            f"{path}: the column {mapping['label']!r} would be both text and label, and the label would be in the"
            " prompt. Name another column for one of them."
        )
    return mapping


def _find(wanted: str, names: list[str]) -> str:
    """Return the file's name of a column: as it was asked for, or the only one that differs in letter case alone."""
    alike = [name for name in names if identity(name) == identity(wanted)]
    return alike[0] if wanted not in names and len(alike) == 1 else wanted
