"""A task's rows: read from a file, cleaned and split by group. The test set is frozen under an id.

A file is read twice. First every row becomes a few numbers (label, hashes of its texts), from which the sample is
chosen (`cleaning`, `splitting`). Then only the chosen rows are fetched, so a million rows need little more memory
than a thousand. Order and choice come from hashes of seed and text, so they do not depend on the order of the file.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base import files
from llmcourse._base.errors import CourseError
from llmcourse.data import describing
from llmcourse.data.csvfiles import Quotes, RejectedLine
from llmcourse.data.labels import unknown_label
from llmcourse.data.rowfiles import Row, RowFile
from llmcourse.data.sources import locate
from llmcourse.data.tasks import Task
from llmcourse.data.texts import MAX_CHARACTERS, identity, is_blank

if TYPE_CHECKING:
    from datasets import Dataset

    from llmcourse.data.cleaning import RowTable


@dataclass(frozen=True)
class Rows:
    """Train and test rows of a task. Columns: the row's number in its file, `label` (integer), the task's texts."""

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

    def describe(self) -> str:
        """Return what was read, left out and kept, in a few lines."""
        return describing.describe(self)


def rows_id(task: Task, rows: Sequence[Mapping]) -> str:
    """Return a hash of texts and labels. The order of the rows does not matter."""
    return files.short_hash(sorted([*(row[column] for column in task.columns), int(row["label"])] for row in rows))


def in_order(task: Task, rows: Sequence[Mapping]) -> list[Mapping]:
    """Return the rows sorted by text and label, an order that depends on the rows alone."""
    return sorted(rows, key=lambda row: (*(row[column] for column in task.columns), row["label"]))


def groups(task: Task, rows: Sequence[Mapping]) -> set[str]:
    """Return hashes of what train and test must not share: the group column's text, or all texts if there is none."""
    columns = [task.group_column] if task.group_column else list(task.columns)
    return {files.short_hash([identity(str(row[column])) for column in columns]) for row in rows}


def load(
    task: Task,
    source: str | Path = "bundled",
    *,
    test: str | Path | None = None,
    n_train: int | None = None,
    n_test: int | None = None,
    columns: Mapping[str, str] | None = None,
    test_columns: Mapping[str, str] | None = None,
    balance: bool = False,
    quotes: Quotes = "checked",
    seed: int = 0,
) -> Rows:
    """Read, clean and split a task's rows.

    `source` is one of `task.sources`, or a CSV, TSV, JSON, JSON Lines or Parquet file. `test` is a file with the test
    rows, if they are in a file of their own. `columns` maps the task's column names to the file's:
    `{"comment": "body", "label": "is_sarcastic"}`. `test_columns` does so for the test file where it differs.

    `n_train` and `n_test` are totals. Each label gets its share of them. None takes all rows, a fifth of them to test
    on. `balance` takes the same number of rows for each label instead. A test file is used as it is: balance and
    duplicates change nothing there. `quotes` says how a CSV's quotation marks are read (see `csvfiles.QUOTES`).

    Rows that share the task's group column all go to one side. Training rows that share it with a test file are left
    out. The report counts every row that is in neither side, by reason (`describing.WORDS`). Raises CourseError with
    file and row for anything that the user can fix.
    """
    from llmcourse.data import splitting
    from llmcourse.data.cleaning import RowTable  # imports numpy

    for name, value in (("source", source), ("test file", test)):
        if value is not None and not str(value).strip():
            raise CourseError(f"The {name} of the rows is empty. Name a file, or one of: {', '.join(task.sources)}.")
    if test_columns and test is None:
        raise CourseError("test_columns are given, but no test file. Name it with --test FILE (test=FILE).")
    paths = [locate(task, source), *([Path(test)] if test is not None else [])]
    table = RowTable(task, seed)
    table.add(RowFile.open(task, paths[0], columns, quotes=quotes))
    if test is not None:
        both = {**(columns or {}), **(test_columns or {})}
        table.add(RowFile.open(task, paths[1], both, quotes=quotes, option="--test-column"))
    report = table.clean()
    chosen = splitting.split(table, n_train, n_test, balance, report)
    sides = _fetch(table, chosen)
    for side, rows in sides.items():
        counts = Counter(rows["label"])
        report[side] = {word: counts[label] for label, word in enumerate(task.labels)}
    if source in ("kaggle", "hub") and source in task.sources:  # Kaggle's file is not pinned: record which one it was
        report["sha256"] = files.sha256_of_file(paths[0])
    for side, wanted in (("train", n_train), ("test", n_test)):
        if wanted is not None and len(sides[side]) < wanted - (wanted % len(task.labels) if balance else 0):
            report[f"{side}_wanted"] = wanted
    if test is not None:
        report["test_file"] = [Path(test).name]
    name = str(source) if source in task.sources else Path(source).name
    return Rows(task, name, sides["train"], sides["test"], report)


def _fetch(table: "RowTable", chosen: Mapping[str, Any]) -> dict[str, "Dataset"]:
    """Read the texts of each side's rows from their files. Rows come sorted by text and label."""
    from datasets import Dataset

    task = table.task
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in chosen}
    for part, file in enumerate(table.files):
        sides: dict[int, tuple[str, int]] = {}
        for side, places in chosen.items():
            own = places[table.part[places] == part]
            for number, label in zip(table.row[own].tolist(), table.label[own].tolist(), strict=True):
                sides[number] = side, label
        last = max(sides, default=0)
        for row in file.rows(only=frozenset(sides)) if sides else ():
            if isinstance(row, RejectedLine):
                continue
            side, label = sides[row.number]
            found[side].append(_as_dict(task, row, [task.clean(text)[0] for text in row.texts]) | {"label": label})
            if row.number == last:
                break
    return {side: Dataset.from_list(in_order(task, rows)) for side, rows in found.items()}


def _as_dict(task: Task, row: Row, texts: Sequence[str]) -> dict[str, Any]:
    return {task.number_column: row.number, "label": row.label, **dict(zip(task.columns, texts, strict=True))}


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
    task: Task,
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    labelled: bool = True,
    quotes: Quotes = "checked",
) -> list[dict[str, Any]]:
    """Read every row of a file in its order, neither cleaned nor sampled: to predict, or to evaluate on your own file.

    Raises CourseError for a row without text, and (if `labelled`) for an unknown label. No row is left out silently.
    """
    return list(stream(task, path, columns, labelled, quotes))


def stream(
    task: Task,
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    labelled: bool = True,
    quotes: Quotes = "checked",
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `read_all` one by one, in bounded memory. Raises CourseError at the first row that is wrong."""
    file, count = RowFile.open(task, Path(path), columns, labelled, quotes), 0
    for row in file.rows():
        if isinstance(row, RejectedLine):
            # leaving it out would shift the numbers of the rows after it
            raise CourseError(f"{file.path}: line {row.number} cannot be read ({row.reason}). Fix or remove it.")
        yield _checked(file, row)
        count += 1
    if not count:
        raise CourseError(f"{file.path} holds no rows. Add rows below the column names.")


def _checked(file: RowFile, row: Row) -> dict[str, Any]:
    """Return a row with trimmed texts, and with its label as a number if labels are read."""
    texts = [text.strip() for text in row.texts]
    for column, text in zip(file.task.columns, texts, strict=True):
        if is_blank(text):
            raise CourseError(f"{file.place(row.number, column)} is empty. Fill it in, or remove the row.")
        if len(text) > MAX_CHARACTERS:
            raise CourseError(
                f"{file.place(row.number, column)} has {len(text):,} characters, at most {MAX_CHARACTERS:,} fit."
                " Shorten it."
            )
    checked = _as_dict(file.task, row, texts)
    if not file.labelled:
        del checked["label"]
        return checked
    label = file.task.label_of(row.label)
    if label is None:
        raise unknown_label(file, row.label, row.number)
    return checked | {"label": label}
