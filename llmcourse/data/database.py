"""DuckDB in bounded memory, and names and texts as SQL writes them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@contextmanager
def connect() -> Iterator["DuckDBPyConnection"]:
    """Open a DuckDB connection that uses at most 400 MB and two threads, with a folder to spill to.

    Raises CourseError for whatever DuckDB or its bindings raise inside the block.
    """
    import duckdb

    with tempfile.TemporaryDirectory() as spill:
        connection = duckdb.connect(config={"memory_limit": "400MB", "threads": 2, "temp_directory": spill})
        connection.execute("SET enable_progress_bar = false; SET enable_external_file_cache = false")
        try:
            yield connection
        # DuckDB's own errors, and those that its bindings raise for odd input
        except (duckdb.Error, RuntimeError, UnicodeError) as error:
            raise CourseError(_explain(error)) from error
        finally:
            connection.close()


def _explain(error: Exception) -> str:
    """Return DuckDB's message without its advice on DuckDB's own options."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"The file cannot be read: {line.split('Error: ', 1)[-1]}"


def records(result: "DuckDBPyConnection", at_most: int | None = None) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries: all of them, or the next `at_most`."""
    names = [name for name, *_ in result.description]
    rows = result.fetchall() if at_most is None else result.fetchmany(at_most)
    return [dict(zip(names, values, strict=True)) for values in rows]


def scalar(connection: "DuckDBPyConnection", query: str) -> Any:
    """Return the one value of a query that has one row and one column."""
    [(value,)] = connection.execute(query).fetchall()
    return value


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
