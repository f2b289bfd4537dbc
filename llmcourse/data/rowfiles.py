"""Files of rows as strangers write them, opened by DuckDB: CSV, JSON Lines, Parquet. What cannot be read is said with its line.

Texts come out as they stand in the file: nothing is taken for a date, a number or a name of a folder.
"""

import csv
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmcourse._base.errors import CourseError
from llmcourse.data.texts import is_unicode

MOST_COLUMNS = 5_000
"""Columns above which a file is taken for something else."""


@contextmanager
def engine() -> Iterator[Any]:
    """A DuckDB connection in bounded memory, with a folder to spill to. What goes wrong inside of it becomes a CourseError."""
    import duckdb

    with tempfile.TemporaryDirectory() as spill:
        connection = duckdb.connect(config={"memory_limit": "400MB", "threads": 2, "temp_directory": spill})
        connection.execute("SET enable_progress_bar = false; SET enable_external_file_cache = false")
        try:
            yield connection
        # its own errors, and what its bindings make of odd input
        except (duckdb.Error, RuntimeError, UnicodeError) as error:
            raise CourseError(_readable(error)) from error
        finally:
            connection.close()


def _readable(error: Exception) -> str:
    """DuckDB's message without its advice on DuckDB's own options."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"The file cannot be read: {line.split('Error: ', 1)[-1]}"


ALONE = "hive_partitioning = false"
"""A folder called text=x would else give every row the text x."""


def open_file(connection, path: Path, part: int = 0) -> tuple[str, list[str]]:
    """Make a view of a file; return the view's name and the file's columns.

    Raises CourseError for a file that is not there, is empty, or does not begin as its name says.
    """
    if not is_unicode(str(path)):
        raise CourseError(f"{str(path)!r}: the name is not UTF-8 text. Rename the file or its folder.")
    if not path.is_file():
        raise CourseError(f"There is no file {path}.")
    if path.stat().st_size == 0:
        raise CourseError(f"{path} is empty.")
    kind = path.suffix.lower()
    # DuckDB would take these for wildcards
    place = literal(re.sub(r"[*?\[]", lambda mark: f"[{mark.group()}]", str(path)))
    if kind in (".csv", ".tsv", ".txt"):
        header, delimiter = _csv_header(path)
        types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
        options = (
            f"{place}, {ALONE}, auto_detect = false, header = true, delim = {literal(delimiter)}, quote = '\"', escape = '\"',"
            f" columns = {{{types}}}, ignore_errors = true, max_line_size = 8000000, buffer_size = 16000000"
        )
        rejects = f"store_rejects = true, rejects_table = 'rejected_{part}', rejects_scan = 'rejected_scans_{part}'"
        strict = _strict(connection, options)
        if not strict:
            _refuse_lone_returns(path)
        reader = f"read_csv({options}, strict_mode = {str(strict).lower()}, {rejects})"
    elif kind in (".jsonl", ".ndjson"):
        # as text, whatever it looks like: DuckDB would rewrite what it takes for a date, a time or a UUID
        types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in _json_keys(path))
        reader = f"read_json({place}, {ALONE}, format = 'newline_delimited', columns = {{{types}}}, maximum_object_size = 8000000)"
    elif kind == ".parquet":
        reader = f"read_parquet({place}, {ALONE}, binary_as_string = true)"
    else:
        raise CourseError(
            f"{path}: files that end in {kind or 'nothing'} are not read. Give a .csv, .tsv, .jsonl or .parquet file."
        )
    view = f"source_{part}"
    connection.execute(f"CREATE TEMP VIEW {view} AS SELECT * FROM {reader}")
    return view, [name for name, *_ in connection.execute(f"DESCRIBE {view}").fetchall()]


def _strict(connection, options: str) -> bool:
    """Whether DuckDB can read a CSV by the standard's letter: not if lines end now with CR LF, now with LF."""
    import duckdb

    try:
        connection.execute(f"SELECT count(*) FROM read_csv({options}, strict_mode = true)")
    except duckdb.Error:
        return False
    return True


def _refuse_lone_returns(path: Path) -> None:
    """Raise CourseError for a line that ends with CR alone among others: DuckDB would lose the first letter of the next line."""
    line, quotes, kept = 1, 0, b""
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            block, kept, seen = kept + block, b"", 0
            if block.endswith(b"\r") and file.peek(1)[:1] == b"\n":
                block, kept = block[:-1], b"\r"
            for found in re.finditer(rb"\r(?!\n)", block):
                quotes += block.count(b'"', seen, found.start())
                seen = found.start()
                if quotes % 2 == 0:  # not inside a quoted text
                    line += block.count(b"\n", 0, seen)
                    raise CourseError(
                        f"{path}: line {line} holds a carriage return (CR) in a text without quotes, or ends with it while others do not."
                        " Save the file with one kind of line ends."
                    )
            quotes += block.count(b'"', seen)
            line += block.count(b"\n")


def _csv_header(path: Path) -> tuple[list[str], str]:
    try:
        with open(path, "rb") as file:
            start = file.readline(1_000_001)
        if len(start) > 1_000_000:
            raise CourseError(
                f"{path}: line 1 is longer than 1 MB. Is it a file with one row a line, and column names first?"
            )
        line = start.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CourseError(f"{path}: line 1 is not UTF-8 text. Save the file as UTF-8.") from None
    delimiter = max(",;\t", key=line.count)
    try:
        header = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise CourseError(f"{path}: line 1 is no CSV header ({error}). Are the lines ended as usual?") from None
    names = [name.strip() for name in header]
    if not any(names):
        raise CourseError(f"{path}: line 1 holds no column names.")
    # a column without a name, as pandas writes its index
    names = [name or f"unnamed {place}" for place, name in enumerate(names, 1)]
    _refuse_columns(names, path, "line 1")
    return names, delimiter


def _refuse_columns(names: Sequence[str], path: Path, where: str) -> None:
    """Raise CourseError for too many columns, or for one that is there twice; DuckDB does not tell letter case apart."""
    if len(names) > MOST_COLUMNS:
        raise CourseError(f"{path}: {where} names {len(names):,} columns, at most {MOST_COLUMNS:,} are read.")
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise CourseError(f"{path}: {where} names a column twice: {seen[name.lower()]!r} and {name!r}.")
        seen[name.lower()] = name


def _json_keys(path: Path) -> list[str]:
    """All keys of a file's objects, in the order in which they come. Raises CourseError for the first line that is no object."""
    import json

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
                raise CourseError(f"{path}: line {number} is not JSON ({error}).") from None
            except RecursionError:
                raise CourseError(f"{path}: line {number} is nested too deeply.") from None
            if not isinstance(value, dict):
                raise CourseError(f"{path}: line {number} is not a JSON object.")
            keys |= dict.fromkeys(value)
            if len(keys) > MOST_COLUMNS:
                break
    names = [name for name in keys if name]
    if not all(map(is_unicode, names)):
        raise CourseError(f"{path}: a key holds half a character (a lone surrogate such as \\ud800).")
    if not names:
        raise CourseError(f"{path} holds no rows.")
    _refuse_columns(names, path, "the file")
    return names


def records(result, at_most: int | None = None) -> list[dict]:
    """The rows of a query, all or the next so many, each by its columns' names."""
    names = [name for name, *_ in result.description]
    found = result.fetchall() if at_most is None else result.fetchmany(at_most)
    return [dict(zip(names, values, strict=True)) for values in found]


def rejected_count(connection, part: int) -> int:
    """Lines that DuckDB could not read; known once a query has gone through the whole file."""
    table = f"rejected_{part}"
    found = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = ?", [table]).fetchone()[0]
    return connection.execute(f"SELECT count(DISTINCT line) FROM {table}").fetchone()[0] if found else 0


NOT_UTF8 = "it is not UTF-8 text"


def rejected(connection, path: Path, part: int = 0) -> list[tuple[int, str]]:
    """The first lines that DuckDB could not read, those with a broken encoding before all others: number and reason."""
    table = f"rejected_{part}"
    if not rejected_count(connection, part):
        return []
    lines = connection.execute(
        f"SELECT DISTINCT ON (line) line_byte_position, error_type::VARCHAR FROM {table}"
        " ORDER BY error_type::VARCHAR LIKE 'INVALID%' DESC, line LIMIT 100"
    ).fetchall()
    reasons = {
        "MISSING COLUMNS": "too few columns",
        "TOO MANY COLUMNS": "too many columns",
        "UNQUOTED VALUE": "a quotation mark that is not closed or not doubled",
        "INVALID ENCODING": NOT_UTF8,
        "INVALID UNICODE": NOT_UTF8,
        "LINE SIZE OVER MAXIMUM": "longer than 8 MB",
    }
    # DuckDB numbers records; a reader's editor numbers lines, and a quoted text may span several
    result, line, seen = [], 1, 0
    with open(path, "rb") as file:
        for position, reason in sorted(lines):
            while seen < position - 1:
                block = file.read(min(1 << 20, position - 1 - seen))
                if not block:
                    break
                line, seen = line + block.count(b"\n"), seen + len(block)
            result.append((line, reasons.get(reason, reason.lower())))
    return result


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
