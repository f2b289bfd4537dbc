"""A file of rows, open in DuckDB: which of its columns the task needs, and which of its lines cannot be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmcourse._base.errors import CourseError
from llmcourse.data.database import literal, quoted, scalar
from llmcourse.data.fileformats import reader
from llmcourse.data.tasks import Task

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NOT_UTF8 = "it is not UTF-8 text"
REASONS = {
    "MISSING COLUMNS": "too few columns",
    "TOO MANY COLUMNS": "too many columns",
    "UNQUOTED VALUE": "a quotation mark that is not closed or not doubled",
    "INVALID ENCODING": NOT_UTF8,
    "INVALID UNICODE": NOT_UTF8,
    "LINE SIZE OVER MAXIMUM": "longer than 8 MB",
}
"""DuckDB's words for a line that it cannot read, and ours."""


class RejectedLine(NamedTuple):
    """A line that DuckDB could not read."""

    number: int
    reason: str


@dataclass(frozen=True)
class RowFile:
    """A file of rows for a task, open in DuckDB under the name `view`."""

    connection: "DuckDBPyConnection"
    task: Task
    path: Path
    part: int
    """Number of the file among those that are read together, from 0."""
    names: tuple[str, ...]
    """The file's columns."""
    columns: Mapping[str, str]
    """The task's columns, and what the file calls them. "label" is among them if the rows are labelled."""

    @classmethod
    def open(
        cls,
        connection: "DuckDBPyConnection",
        task: Task,
        path: Path,
        columns: Mapping[str, str] | None = None,
        labelled: bool = True,
        part: int = 0,
    ) -> "RowFile":
        """Open a file. Raises CourseError if it cannot be read, or lacks a column that the task needs."""
        view = f"file_{part}"
        connection.execute(f"CREATE TEMP VIEW {view} AS SELECT * FROM {reader(connection, path, f'rejected_{part}')}")
        names = tuple(name for name, *_ in connection.execute(f"DESCRIBE {view}").fetchall())
        return cls(connection, task, path, part, names, _map_columns(task, path, names, columns or {}, labelled))

    @property
    def view(self) -> str:
        """Return the file's name in SQL."""
        return f"file_{self.part}"

    def text(self, column: str) -> str:
        """Return SQL for a column of the task, as text."""
        return f"{quoted(self.columns[column])}::VARCHAR"

    def numbered_rows(self) -> str:
        """Return a SELECT for `row` (the row's number, from 1) and the task's columns, all as they are in the file."""
        texts = ", ".join(f"{self.text(column)} AS {quoted(column)}" for column in self.columns)
        return f"SELECT row_number() OVER () AS row, {texts} FROM {self.view}"

    def count_rejected(self) -> int:
        """Return how many lines DuckDB could not read. Known once a query has read the whole file."""
        exists = f"SELECT count(*) FROM duckdb_tables() WHERE table_name = {literal(self._rejects)}"
        if not scalar(self.connection, exists):  # the file is not a CSV
            return 0
        return scalar(self.connection, f"SELECT count(DISTINCT line) FROM {self._rejects}")

    def rejected_lines(self) -> list[RejectedLine]:
        """Return the first 100 lines that DuckDB could not read, lines with a broken encoding before all others."""
        if not self.count_rejected():
            return []
        rejects = self.connection.execute(
            f"SELECT DISTINCT ON (line) line_byte_position, error_type::VARCHAR FROM {self._rejects}"
            " ORDER BY error_type::VARCHAR LIKE 'INVALID%' DESC, line LIMIT 100"
        ).fetchall()
        # DuckDB numbers rows. An editor numbers lines, and a quoted text can span several of them.
        lines, number, offset = [], 1, 0
        with open(self.path, "rb") as file:
            for position, reason in sorted(rejects):
                while offset < position - 1:
                    block = file.read(min(1 << 20, position - 1 - offset))
                    if not block:
                        break
                    number, offset = number + block.count(b"\n"), offset + len(block)
                lines.append(RejectedLine(number, REASONS.get(reason, reason.lower())))
        return lines

    def unknown_label(self, value: object, row: int) -> CourseError:
        """Return the error for a label that the task does not have."""
        known = ", ".join(map(repr, self.task.label_values))
        where = f"{self.path}, row {row}"
        return CourseError(f"{where}: unknown label {value!r}. The task {self.task.name!r} knows {known}.")

    @property
    def _rejects(self) -> str:
        return f"rejected_{self.part}"


def _map_columns(
    task: Task, path: Path, names: tuple[str, ...], columns: Mapping[str, str], labelled: bool
) -> dict[str, str]:
    """Return the task's columns with the file's names for them. Raises CourseError for an unknown one."""
    needed = {column: column for column in task.columns} | ({"label": task.label_column} if labelled else {})
    unknown = sorted(set(columns) - set(needed))
    if unknown:
        raise CourseError(f"The task {task.name!r} has no column {unknown[0]!r} to map. It has: {', '.join(needed)}.")
    mapping = {column: columns.get(column, name) for column, name in needed.items()}
    for column, name in mapping.items():
        if name not in names:
            raise CourseError(
                f"{path} has no column {name!r}; it has: {', '.join(names)}. Say which one holds it, for instance"
                f" {column}={names[0]}."
            )
    return mapping
