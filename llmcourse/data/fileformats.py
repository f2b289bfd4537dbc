"""The formats that rows come in: CSV, TSV, JSON, JSON Lines, Parquet. Each is a table that yields texts, row by row.

Texts come out exactly as they are in the file. A number becomes the text that JSON writes for it. A list or an object
is no text, and a column of them is refused.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

from llmcourse._base.errors import CourseError
from llmcourse.data.csvfiles import QUOTES, CsvFile, IsRow, Quotes, RejectedLine, columns_of, in_batches
from llmcourse.data.texts import is_unicode

MAX_JSON_ARRAY_BYTES = 500_000_000
"""A JSON array is read as a whole. JSON Lines are read line by line, however long the file."""
PARQUET_ROWS = 10_000
"""Rows of a Parquet file that are in memory at once."""

Record = list[str | None]
Columns = Sequence[Sequence[str | None]]
"""Some columns of rows, all of the same length."""


class Table(Protocol):
    """A file of rows."""

    names: list[str]
    """The file's columns."""

    def batches(self, names: Sequence[str], is_row: IsRow | None = None) -> Iterator[Columns | RejectedLine]:
        """Yield the texts of some columns for many rows at once, None where there is none, and what is no row.

        Only a CSV has places that are no rows, and uses `is_row` (see `CsvFile`). Raises CourseError for a file that
        cannot be read on, and for a value in these columns that is no text. The rows before it are yielded first.
        """
        ...


def records(table: Table, names: Sequence[str]) -> Iterator[Record]:
    """Yield the texts of some columns, row by row."""
    for batch in table.batches(names):
        if not isinstance(batch, RejectedLine):
            yield from map(list, zip(*batch, strict=True))


def open_table(path: Path, quotes: Quotes = "checked") -> Table:
    """Open a file of rows by its ending.

    Raises CourseError for a file that is missing, empty, of an unknown format or not what its ending says.
    """
    if quotes not in QUOTES:
        raise CourseError(f"quotes={quotes!r} is unknown. Use one of: {', '.join(QUOTES)}.")
    if not is_unicode(str(path)):
        raise CourseError(f"{str(path)!r}: the name is not UTF-8 text. Rename the file or its folder.")
    if not path.is_file():
        raise CourseError(f"There is no file {path}. Check the path, or give it in full.")
    if path.stat().st_size == 0:
        raise CourseError(f"{path} is empty. Save the rows again, with the column names first.")
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv", ".txt"):
        return CsvFile(path, quotes)
    if quotes != "checked":
        raise CourseError(f"{path} is no CSV, so quotes={quotes!r} (--quotes {quotes}) has no effect. Leave it out.")
    if kind in (".jsonl", ".ndjson", ".json"):
        return _open_json(path)
    if kind == ".parquet":
        return ParquetFile(path)
    raise CourseError(
        f"{path}: files that end in {kind or 'nothing'} are not read. Give .csv, .tsv, .json, .jsonl or .parquet."
    )


def _batches(records: Iterator[Record], names: Sequence[str]) -> Iterator[Columns | RejectedLine]:
    for rows in in_batches(records):
        yield rows if isinstance(rows, RejectedLine) else columns_of(rows, range(len(names)))


# -- JSON ------------------------------------------------------------------------------------------------------------


class _Object(dict):
    """A JSON object that knows which of its keys came twice."""

    twice: frozenset[str] = frozenset()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        made.twice = frozenset(name for name in names if names.count(name) > 1)
    return made


class JsonTable(ABC):
    """JSON objects, one for each row."""

    def __init__(self, path: Path):
        self.path = path
        names: dict[str, None] = {}
        for _, row in self.objects():
            names |= dict.fromkeys(row)
        self.names = [name for name in names if name]
        if not all(map(is_unicode, self.names)):
            raise CourseError(
                f"{path}: a key holds half a character (a lone surrogate such as \\ud800). Rename or remove that key."
            )
        if not self.names:
            raise CourseError(f"{path} holds no rows. Put one JSON object on each line.")

    @abstractmethod
    def objects(self) -> Iterator[tuple[str, _Object]]:
        """Yield each row's place in the file, for messages, and its object."""

    def batches(self, names: Sequence[str], is_row: IsRow | None = None) -> Iterator[Columns | RejectedLine]:
        """Yield the texts of some columns. A row that lacks a column has None there."""
        return _batches(self._records(names), names)

    def _records(self, names: Sequence[str]) -> Iterator[Record]:
        needed = set(names)
        for place, row in self.objects():
            if row.twice & needed:
                raise CourseError(
                    f"{self.path}: {place} gives {min(row.twice & needed)!r} twice. Which one is meant? Remove the"
                    " other."
                )
            yield [_as_text(row.get(name), name, f"{self.path}: {place}") for name in names]


class JsonLines(JsonTable):
    """A file with one JSON object on each line."""

    def objects(self) -> Iterator[tuple[str, _Object]]:
        """Yield each line that is not blank. Raises CourseError for a line that is no object."""
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield f"line {number}", _parse_object(self.path, f"line {number}", line)


class JsonArray(JsonTable):
    """A file that is one array of JSON objects."""

    def __init__(self, path: Path):
        size = path.stat().st_size
        if size > MAX_JSON_ARRAY_BYTES:
            raise CourseError(
                f"{path}: a JSON array of {size / 1e6:,.0f} MB is too large to be read at once (at most"
                f" {MAX_JSON_ARRAY_BYTES / 1e6:,.0f} MB). Save it as JSON Lines, with one object on each line."
            )
        self._rows = _parse(path, "the file", path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        super().__init__(path)

    def objects(self) -> Iterator[tuple[str, _Object]]:
        """Yield each element. Raises CourseError for one that is no object."""
        for number, row in enumerate(self._rows, 1):
            yield f"element {number}", _checked_object(self.path, f"element {number}", row)


def _open_json(path: Path) -> JsonTable:
    """Open an array of objects or JSON Lines, whichever the file is. Its ending does not decide."""
    with open(path, "rb") as file:
        first = next((line for line in file if line.removeprefix(b"\xef\xbb\xbf").strip()), b"")
    start = first.removeprefix(b"\xef\xbb\xbf").strip()
    if start.startswith(b"["):
        return JsonArray(path)
    if path.suffix.lower() == ".json" and start.startswith(b"{"):
        try:
            json.loads(start)
        except (ValueError, RecursionError):
            raise CourseError(
                f"{path} is a single JSON object, not an array of objects. Save one object for each row, with pandas:"
                ' frame.to_json("rows.jsonl", orient="records", lines=True).'
            ) from None
    return JsonLines(path)


def _parse_object(path: Path, place: str, content: bytes) -> _Object:
    return _checked_object(path, place, _parse(path, place, content))


def _checked_object(path: Path, place: str, value: object) -> _Object:
    if not isinstance(value, _Object):
        raise CourseError(f'{path}: {place} is not a JSON object such as {{"column": "text"}}. Fix it.')
    return value


def _parse(path: Path, place: str, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError:
        raise CourseError(f"{path}: {place} is not UTF-8 text. Save the file as UTF-8.") from None
    except RecursionError:
        raise CourseError(f"{path}: {place} is nested too deeply. Remove it.") from None
    except ValueError as error:
        raise CourseError(f"{path}: {place} is not JSON ({error}). Fix or remove it.") from None


def _as_text(value: Any, name: str, place: str) -> str | None:
    """Return a value as a text. Raises CourseError for a list or an object."""
    if value is None:
        return None
    if isinstance(value, str):
        if not value.isascii() and not is_unicode(value):
            raise CourseError(
                f"{place} cannot be read: {name!r} holds half a character (a lone surrogate). Fix or remove it."
            )
        return value
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        shown = shorten(json.dumps(value, ensure_ascii=False, default=str), 60, placeholder=" [...]")
        raise CourseError(
            f"{place}: column {name!r} holds {kind}, where a text is needed: {shown}. Write the text into a column of"
            " its own and name that one."
        )
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


# -- Parquet ---------------------------------------------------------------------------------------------------------


class ParquetFile:
    """A Parquet file."""

    def __init__(self, path: Path):
        import pyarrow.parquet as pq

        self.path = path
        with _arrow_errors(path):
            self._file = pq.ParquetFile(path)
            self.names = list(self._file.schema_arrow.names)

    def batches(self, names: Sequence[str], is_row: IsRow | None = None) -> Iterator[Columns | RejectedLine]:
        """Yield the texts of some columns."""
        return _batches(self._records(names), names)

    def _records(self, names: Sequence[str]) -> Iterator[Record]:
        number = 0
        with _arrow_errors(self.path):
            for batch in self._file.iter_batches(PARQUET_ROWS, columns=list(dict.fromkeys(names))):
                columns = {name: batch.column(name).to_pylist() for name in names}
                for values in zip(*(columns[name] for name in names), strict=True):
                    number += 1
                    place = f"{self.path}: row {number}"
                    yield [_as_text(_decoded(value), name, place) for name, value in zip(names, values, strict=True)]


def _decoded(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    """Raise CourseError for what pyarrow raises inside the block."""
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError:
        raise CourseError(f"{path} cannot be read: it holds bytes that are not UTF-8 text.") from None
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CourseError(f"{path} cannot be read: {reason.rstrip('.')}. Save it again, or as CSV.") from error
