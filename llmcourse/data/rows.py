"""A task's rows: read from a file, cleaned, balanced and split by group. The test set is frozen under an id.

A file is read twice. First every row becomes a few numbers (label, hashes of its texts, flags), from which the sample
is chosen (`cleaning`, `splitting`). Then only the chosen rows are fetched, so a million rows need little more memory
than a thousand. Order and choice come from MD5 hashes of seed and text, so they depend neither on the order of the file
nor on DuckDB's version.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base import files
from llmcourse._base.errors import CourseError
from llmcourse.data import database, splitting
from llmcourse.data.cleaning import RowTable
from llmcourse.data.rowfiles import RowFile
from llmcourse.data.sources import locate
from llmcourse.data.tasks import Task
from llmcourse.data.texts import MAX_CHARACTERS

if TYPE_CHECKING:
    from datasets import Dataset

STREAMED_ROWS = 2_000
"""Rows that `stream` holds in memory at once."""


@dataclass(frozen=True)
class Rows:
    """Train and test rows of a task. Columns: `row` (number in its file), `label` (integer), the task's texts."""

    task: Task
    source: str
    train: "Dataset"
    test: "Dataset"
    report: dict[str, Any]
    """Counts of what cleaning and sampling did."""

    @property
    def test_id(self) -> str:
        """Return the id of the frozen test set: the same rows in any order have the same id."""
        return rows_id(self.task, self.test)

    @property
    def train_id(self) -> str:
        """Return the id of the training rows, as `test_id`."""
        return rows_id(self.task, self.train)


def rows_id(task: Task, rows: Sequence[Mapping]) -> str:
    """Return a hash of texts and labels. The order of the rows does not matter."""
    return files.short_hash(sorted([*(row[column] for column in task.columns), int(row["label"])] for row in rows))


def in_order(task: Task, rows: Sequence[Mapping]) -> list[Mapping]:
    """Return the rows sorted by text and label, an order that depends on the rows alone."""
    return sorted(rows, key=lambda row: (*(row[column] for column in task.columns), row["label"]))


def groups(task: Task, rows: Sequence[Mapping]) -> set[str]:
    """Return hashes of what train and test must not share: the group column's text, or all texts if there is none."""
    columns = [task.group_column] if task.group_column else list(task.columns)
    return {files.short_hash([str(row[column]).lower() for column in columns]) for row in rows}


def load(
    task: Task,
    source: str | Path = "bundled",
    *,
    test: str | Path | None = None,
    n_train: int | None = None,
    n_test: int | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Rows:
    """Read, clean, balance and split a task's rows.

    `source` is one of `task.sources`, or a CSV, TSV, JSON Lines or Parquet file. `test` is a file with the test rows,
    if they are in a file of their own. `columns` maps the task's column names to the file's:
    `{"comment": "body", "label": "is_sarcastic"}`. `n_train` and `n_test` are totals, with the same number of rows for
    each label. None takes all that balance allows.

    Rows that share the task's group column all go to one side. Training rows that share it with a test file are left
    out and counted (`report["shared_with_test"]`), and those with the same texts are duplicates as well. Raises
    CourseError with file and row for anything that the user can fix.
    """
    paths = [locate(task, source), *([Path(test)] if test is not None else [])]
    with database.connect() as connection:
        table = RowTable(connection, task, seed)
        for part, path in enumerate(paths):
            table.add(RowFile.open(connection, task, path, columns, part=part))
        report = table.clean()
        sides = splitting.split(table, n_train, n_test)
    for side, rows in sides.items():
        labels = list(rows["label"]) if len(rows) else []
        report[side] = {word: labels.count(label) for label, word in enumerate(task.labels)}
    if source in ("kaggle", "hub") and source in task.sources:  # Kaggle's file is not pinned: record which one it was
        report["sha256"] = files.sha256_of_file(paths[0])
    for side, wanted in (("train", n_train), ("test", n_test)):
        if wanted is not None and len(sides[side]) < wanted - wanted % len(task.labels):
            report[f"{side}_wanted"] = wanted
    name = str(source) if source in task.sources else Path(source).name
    return Rows(task, name, sides["train"], sides["test"], report)


def load_first(task: Task, sources: Sequence[str], **options: Any) -> Rows:
    """Load the rows of the first source that can be reached. `options` are those of `load`.

    Raises CourseError with the reason of each source if none can be reached.
    """
    reasons = []
    for source in sources:
        try:
            return load(task, source, **options)
        except CourseError as error:
            reasons.append(str(error))
    raise CourseError("\n".join(reasons))


def read_all(
    task: Task, path: str | Path, columns: Mapping[str, str] | None = None, labelled: bool = True
) -> list[dict[str, Any]]:
    """Read every row of a file in its order, neither cleaned nor sampled: to predict, or to evaluate on your own file.

    Raises CourseError for a row without text, and (if `labelled`) for an unknown label. No row is left out silently.
    """
    return list(stream(task, path, columns, labelled))


def stream(
    task: Task, path: str | Path, columns: Mapping[str, str] | None = None, labelled: bool = True
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `read_all` one by one, in bounded memory. Raises CourseError at the first row that is wrong."""
    label_values = task.label_values if labelled else None
    with database.connect() as connection:
        file = RowFile.open(connection, task, Path(path), columns, labelled)
        _check_lines(file)
        result = connection.execute(file.numbered_rows())
        while rows := database.records(result, STREAMED_ROWS):
            for row in rows:
                yield _checked(file, row, label_values)


def _check_lines(file: RowFile) -> None:
    """Raise CourseError for a file without rows, and for a line that cannot be read: it would shift later numbers."""
    lengths = ", ".join(f"sum(length({file.text(column)}))" for column in file.columns)
    # fetchall, not fetchone: DuckDB records unreadable lines only once a result has been fetched to its end
    [(count, *_)] = file.connection.execute(f"SELECT count(*), {lengths} FROM {file.view}").fetchall()
    rejected = file.rejected_lines()
    if rejected:
        line = rejected[0]
        raise CourseError(f"{file.path}: line {line.number} cannot be read ({line.reason}). Fix or remove it.")
    if not count:
        raise CourseError(f"{file.path} holds no rows. Add rows below the column names.")


def _checked(file: RowFile, row: dict[str, Any], label_values: Mapping[str, int] | None) -> dict[str, Any]:
    """Return the row with trimmed texts, and with its label as a number if `label_values` are given."""
    for column in file.task.columns:
        text = (row[column] or "").strip()
        if not text:
            raise CourseError(f"{_place(file, row, column)} is empty. Fill it in, or remove the row.")
        if len(text) > MAX_CHARACTERS:
            raise CourseError(
                f"{_place(file, row, column)} has {len(text):,} characters, at most {MAX_CHARACTERS:,} fit. Shorten it."
            )
        row[column] = text
    if label_values is not None:
        label = label_values.get(str(row["label"]).strip().lower())
        if label is None:
            raise file.unknown_label(row["label"], row["row"])
        row["label"] = label
    return row


def _place(file: RowFile, row: Mapping, column: str) -> str:
    return f"{file.path}, row {row['row']}: column {file.columns[column]!r}"
