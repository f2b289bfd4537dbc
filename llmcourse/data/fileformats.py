"""The formats that rows come in: CSV, TSV, JSON Lines, Parquet. Each file is checked, then read by a DuckDB function.

Texts come out exactly as they are in the file. By default, DuckDB would rewrite what looks like a date or a number, and
read the name of a folder such as `text=x` as a column.
"""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse._base.errors import CourseError
from llmcourse.data.database import literal
from llmcourse.data.texts import is_unicode

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_COLUMNS = 5_000
"""A file with more columns is probably not a table of texts."""
MAX_HEADER_BYTES = 1_000_000
MAX_LINE_BYTES = 8_000_000
NO_FOLDER_COLUMNS = "hive_partitioning = false"
"""Without this, a folder called text=x gives every row the text x."""


def reader(connection: "DuckDBPyConnection", path: Path, rejects: str) -> str:
    """Return the DuckDB table function that reads a file, chosen by the file's ending.

    Lines of a CSV that DuckDB cannot read go into the table `rejects`. Raises CourseError for a file that is missing,
    empty or of an unknown format, and for one whose header or JSON objects are malformed.
    """
    if not is_unicode(str(path)):
        raise CourseError(f"{str(path)!r}: the name is not UTF-8 text. Rename the file or its folder.")
    if not path.is_file():
        raise CourseError(f"There is no file {path}. Check the path, or give it in full.")
    if path.stat().st_size == 0:
        raise CourseError(f"{path} is empty. Save the rows again, with the column names first.")
    kind = path.suffix.lower()
    # DuckDB would read these characters as wildcards
    source = literal(re.sub(r"[*?\[]", lambda match: f"[{match.group()}]", str(path)))
    if kind in (".csv", ".tsv", ".txt"):
        return _csv_reader(connection, path, source, rejects)
    if kind in (".jsonl", ".ndjson"):
        # On two threads DuckDB 2.0 puts a last line without a line end first: each text gets another row's label
        connection.execute("SET threads = 1")
        # as text, whatever it looks like: DuckDB would rewrite dates, times and UUIDs
        options = f"format = 'newline_delimited', columns = {_as_text(_json_keys(path))}"
        return f"read_json({source}, {NO_FOLDER_COLUMNS}, {options}, maximum_object_size = {MAX_LINE_BYTES})"
    if kind == ".parquet":
        return f"read_parquet({source}, {NO_FOLDER_COLUMNS}, binary_as_string = true)"
    raise CourseError(
        f"{path}: files that end in {kind or 'nothing'} are not read. Give a .csv, .tsv, .jsonl or .parquet file."
    )


def _as_text(names: Sequence[str]) -> str:
    """Return DuckDB's option that reads every column as text."""
    return "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names) + "}"


def _csv_reader(connection: "DuckDBPyConnection", path: Path, source: str, rejects: str) -> str:
    names, delimiter = _csv_header(path)
    options = (
        f"{source}, {NO_FOLDER_COLUMNS}, auto_detect = false, header = true, delim = {literal(delimiter)},"
        f" quote = '\"', escape = '\"', columns = {_as_text(names)}, ignore_errors = true,"
        f" max_line_size = {MAX_LINE_BYTES}, buffer_size = {2 * MAX_LINE_BYTES}"
    )
    strict = _is_standard_csv(connection, options)
    if not strict:
        _refuse_lone_returns(path)
    rejected = f"store_rejects = true, rejects_table = '{rejects}', rejects_scan = '{rejects}_scans'"
    return f"read_csv({options}, strict_mode = {str(strict).lower()}, {rejected})"


def _is_standard_csv(connection: "DuckDBPyConnection", options: str) -> bool:
    """Return whether DuckDB reads a CSV in strict mode. It does not if some lines end with CR LF and others with LF."""
    import duckdb

    try:
        connection.execute(f"SELECT count(*) FROM read_csv({options}, strict_mode = true)")
    except duckdb.Error:
        return False
    return True


def _refuse_lone_returns(path: Path) -> None:
    """Raise CourseError for a line that ends with CR alone: DuckDB would lose the first letter of the next line."""
    line, quotes, carried = 1, 0, b""
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            block, carried, seen = carried + block, b"", 0
            if block.endswith(b"\r") and file.peek(1)[:1] == b"\n":
                block, carried = block[:-1], b"\r"
            for match in re.finditer(rb"\r(?!\n)", block):
                quotes += block.count(b'"', seen, match.start())
                seen = match.start()
                if quotes % 2 == 0:  # not inside a quoted text
                    line += block.count(b"\n", 0, seen)
                    raise CourseError(
                        f"{path}: line {line} holds a carriage return (CR) in a text without quotes, or ends with one"
                        " while other lines do not. Save the file with one kind of line ends."
                    )
            quotes += block.count(b'"', seen)
            line += block.count(b"\n")


def _csv_header(path: Path) -> tuple[list[str], str]:
    """Return the column names and the delimiter of a CSV: comma, semicolon or tab, whichever line 1 has most of."""
    with open(path, "rb") as file:
        first = file.readline(MAX_HEADER_BYTES + 1)
    if len(first) > MAX_HEADER_BYTES:
        raise CourseError(f"{path}: line 1 is longer than 1 MB. Put the column names on line 1, one row on each other.")
    try:
        line = first.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CourseError(f"{path}: line 1 is not UTF-8 text. Save the file as UTF-8.") from None
    delimiter = max(",;\t", key=line.count)
    try:
        header = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise CourseError(
            f"{path}: line 1 is no CSV header ({error}). Close its quotes, and use one kind of line ends."
        ) from None
    names = [name.strip() for name in header]
    if not any(names):
        raise CourseError(f"{path}: line 1 holds no column names. Add them.")
    # pandas writes its index as a column without a name
    names = [name or f"unnamed {number}" for number, name in enumerate(names, 1)]
    _check_names(names, path, "line 1")
    return names, delimiter


def _json_keys(path: Path) -> list[str]:
    """Return all keys of a file's objects, by first use. Raises CourseError for a line that is no object."""
    keys: dict[str, None] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except UnicodeDecodeError:
                raise CourseError(f"{path}: line {number} is not UTF-8 text. Save the file as UTF-8.") from None
            except ValueError as error:
                raise CourseError(f"{path}: line {number} is not JSON ({error}). Fix or remove it.") from None
            except RecursionError:
                raise CourseError(f"{path}: line {number} is nested too deeply. Remove it.") from None
            if not isinstance(value, dict):
                raise CourseError(f'{path}: line {number} is not a JSON object such as {{"column": "text"}}. Fix it.')
            keys |= dict.fromkeys(value)
            if len(keys) > MAX_COLUMNS:
                break
    names = [name for name in keys if name]
    if not all(map(is_unicode, names)):
        raise CourseError(
            f"{path}: a key holds half a character (a lone surrogate such as \\ud800). Rename or remove that key."
        )
    if not names:
        raise CourseError(f"{path} holds no rows. Put one JSON object on each line.")
    _check_names(names, path, "the file")
    return names


def _check_names(names: Sequence[str], path: Path, where: str) -> None:
    """Raise CourseError for too many columns, and for two with the same name. DuckDB ignores letter case."""
    if len(names) > MAX_COLUMNS:
        raise CourseError(
            f"{path}: {where} names {len(names):,} columns, at most {MAX_COLUMNS:,} are read. Leave out those that the"
            " task does not need."
        )
    by_lower_case: dict[str, str] = {}
    for name in names:
        if name.lower() in by_lower_case:
            first = by_lower_case[name.lower()]
            raise CourseError(f"{path}: {where} names a column twice: {first!r} and {name!r}. Rename one of them.")
        by_lower_case[name.lower()] = name
