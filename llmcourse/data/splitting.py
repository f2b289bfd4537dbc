"""Splitting: choose training and test rows from the clean ones, balanced by label, with no group on both sides."""

from typing import TYPE_CHECKING

from llmcourse._base.errors import CourseError
from llmcourse.data.cleaning import RowTable, clean_text
from llmcourse.data.database import quoted, records, scalar

if TYPE_CHECKING:
    from datasets import Dataset

TEST_SHARE = 0.2
"""Share of the rows that the test set may take, unless more is asked for."""


def split(table: RowTable, n_train: int | None, n_test: int | None) -> dict[str, "Dataset"]:
    """Return the sides "train" and "test" of a clean table, each with `n_train` or `n_test` rows at most.

    Raises CourseError if one side would lack rows of a label.
    """
    table.connection.execute(f"CREATE TABLE sided AS {_sides(table, n_train, n_test)}")
    table.connection.execute(
        "CREATE TABLE chosen (part TINYINT, row BIGINT, label TINYINT, side VARCHAR, sort_hash UBIGINT)"
    )
    _choose(table, "train", n_train)
    _choose(table, "test", n_test)
    return _fetch(table)


def _sides(table: RowTable, n_train: int | None, n_test: int | None) -> str:
    """Return a SELECT for the rows of `kept` with their `side`, "train" or "test"."""
    # 1. The test rows are in a file of their own, or the file names them: their groups leave the training rows
    if len(table.files) == 2:
        return """
            SELECT *, CASE part WHEN 1 THEN 'test' ELSE 'train' END AS side FROM kept
            WHERE part = 1 OR group_hash NOT IN (SELECT group_hash FROM kept WHERE part = 1)"""
    if table.has_split_column:
        return """
            SELECT *, split AS side FROM kept WHERE split = 'test'
            OR split = 'train' AND group_hash NOT IN (SELECT group_hash FROM kept WHERE split = 'test')"""
    # 2. Otherwise take whole groups, in the order of their hashes, until each label has enough test rows
    rarest = scalar(table.connection, "SELECT min(n) FROM (SELECT count(*) AS n FROM kept GROUP BY label)")
    share = max(n_test / (n_train + n_test), TEST_SHARE) if n_train and n_test else TEST_SHARE
    wanted = -(-n_test // len(table.task.labels)) if n_test else rarest
    each = min(wanted, max(1, round(share * rarest)))
    last_test_group = scalar(
        table.connection,
        f"""SELECT max(group_hash) FROM (
            SELECT group_hash, row_number() OVER (PARTITION BY label ORDER BY group_hash, sort_hash) AS n FROM kept)
        WHERE n = {each}""",
    )
    return f"SELECT *, CASE WHEN group_hash <= {last_test_group} THEN 'test' ELSE 'train' END AS side FROM kept"


def _choose(table: RowTable, side: str, wanted: int | None) -> None:
    """Insert the rows of one side into `chosen`: the same number of each label, in the order of their hashes."""
    counts = table.connection.execute(f"SELECT count(*) FROM sided WHERE side = '{side}' GROUP BY label").fetchall()
    n_labels = len(table.task.labels)
    if len(counts) < n_labels:
        path = table.files[-1 if side == "test" else 0].path
        raise CourseError(f"{path}: there are too few rows of each label for a {side} set. Add rows, or ask for fewer.")
    each = min(n for (n,) in counts)
    if wanted is not None:
        each = min(each, wanted // n_labels)
    table.connection.execute(f"""
        INSERT INTO chosen SELECT part, row, label, side, sort_hash FROM sided WHERE side = '{side}'
        QUALIFY row_number() OVER (PARTITION BY label ORDER BY sort_hash) <= {each}""")


def _fetch(table: RowTable) -> dict[str, "Dataset"]:
    """Read the texts of the chosen rows from their files. Rows come sorted by text and label."""
    from datasets import Dataset

    columns = table.task.columns
    texts = ", ".join(f"{clean_text(table.task, f't.{quoted(column)}')} AS {quoted(column)}" for column in columns)
    rows = " UNION ALL ".join(f"SELECT {file.part} AS part, * FROM ({file.numbered_rows()})" for file in table.files)
    table.connection.execute(f"""
        CREATE TABLE fetched AS SELECT c.side, c.row::BIGINT AS row, c.label::BIGINT AS label, {texts}
        FROM chosen c JOIN ({rows}) t USING (part, row)""")
    order = ", ".join(map(quoted, columns))
    return {
        side: Dataset.from_list(
            records(
                table.connection.execute(
                    f"SELECT * EXCLUDE side FROM fetched WHERE side = '{side}' ORDER BY {order}, label"
                )
            )
        )
        for side in ("train", "test")
    }
