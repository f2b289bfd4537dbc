"""Cleaning: which rows can be used, how many cannot and why, and when a file is refused.

The texts stay in their files. DuckDB keeps a few numbers for each row: its label, its length and hashes of its texts.
"""

import re
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.data.database import literal, records, scalar
from llmcourse.data.rowfiles import NOT_UTF8, RejectedLine, RowFile
from llmcourse.data.tasks import Task
from llmcourse.data.texts import MAX_CHARACTERS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_REJECTED_SHARE = 0.1
"""A file is refused if a larger share of its lines cannot be read. Otherwise those lines are left out and counted."""
USABLE = "label IS NOT NULL AND NOT missing AND NOT long"


class RowTable:
    """The rows of a file, or of a training file and a test file, as numbers in DuckDB. `clean` makes `kept` of them.

    Columns of the table `kept`: `part` and `row` (number of the file, and of the row in it), `label`, `split` (the
    file's own column of that name), `group_hash` (of what train and test must not share), `sort_hash` (of seed and
    texts), `marked` (whether an ending that gives the label away was removed).
    """

    def __init__(self, connection: "DuckDBPyConnection", task: Task, seed: int):
        self.connection = connection
        self.task = task
        self.seed = seed
        self.files: list[RowFile] = []

    def add(self, file: RowFile) -> None:
        """Read a file once and turn its rows into numbers, in their order."""
        task, labels = self.task, self.task.label_values
        # 1. What each number is computed from
        texts = {f"text_{i}": clean_text(task, file.text(column)) for i, column in enumerate(task.columns)}
        all_texts = " || chr(31) || ".join(texts)
        group = f"text_{task.columns.index(task.group_column)}" if task.group_column else all_texts
        label_cases = " ".join(f"WHEN {literal(word)} THEN {label}" for word, label in labels.items())
        endings = " OR ".join(f"regexp_matches({file.text(c)}, {literal(_marks(task))})" for c in task.columns)
        marked = f"coalesce({endings}, false)" if task.strip_marks else "false"
        split = "lower(trim(split::VARCHAR))" if "split" in file.names and file.part == 0 else "NULL::VARCHAR"
        # 2. Clean each text once, in the inner SELECT. No row_number(), which would read the file on one thread: a
        #    table keeps the order of the file, and its rowid counts the rows.
        self.connection.execute(f"""
            CREATE TABLE indexed_{file.part} AS SELECT
                (CASE lower(trim(given)) {label_cases} END)::TINYINT AS label,
                CASE WHEN lower(trim(given)) IN ({", ".join(map(literal, labels))}) THEN NULL ELSE given END AS given,
                split,
                {" OR ".join(f"{text} = ''" for text in texts)} AS missing,
                {" OR ".join(f"length({text}) > {MAX_CHARACTERS}" for text in texts)} AS long,
                marked,
                hash(lower({all_texts})) AS text_hash,
                md5_number_lower('{int(self.seed)}' || lower({group})) AS group_hash,
                md5_number_lower('{int(self.seed)}' || {all_texts}) AS sort_hash
            FROM (SELECT {", ".join(f"coalesce({text}, '') AS {name}" for name, text in texts.items())},
                {file.text("label")} AS given, {split} AS split, {marked} AS marked FROM {file.view})""")
        self.files.append(file)

    def clean(self) -> dict[str, Any]:
        """Drop the rows that cannot be used. Return counts of what was read, left out and kept.

        Raises CourseError for a file that makes no sense: too many unreadable lines, an unknown label, or no row of one
        of the labels.
        """
        # 1. Refuse what cannot be read
        parts = (f"SELECT {f.part} AS part, rowid + 1 AS row, * FROM indexed_{f.part}" for f in self.files)
        self.connection.execute(f"CREATE TEMP VIEW rows AS {' UNION ALL '.join(parts)}")
        total = self.count("rows")
        rejected, lines = self._check_lines(total)
        self._check_labels()
        # 2. Of rows with the same texts, keep one (the test file's, if any) if their labels agree, and none if not
        self.connection.execute(f"""
            CREATE TABLE kept AS SELECT part, row, label, split, group_hash, sort_hash, marked FROM rows WHERE {USABLE}
            WINDOW same AS (PARTITION BY text_hash), in_order AS (PARTITION BY text_hash ORDER BY part DESC, row)
            QUALIFY row_number() OVER in_order = 1 AND min(label) OVER same = max(label) OVER same""")
        # 3. Count
        report: dict[str, Any] = {
            "read": total,
            "rejected_lines": [line.number for line in lines][:100],
            "rejected": rejected,
            "no_label": self.count("rows", "label IS NULL"),
            "empty": self.count("rows", "label IS NOT NULL AND missing"),
            "too_long": self.count("rows", "label IS NOT NULL AND NOT missing AND long"),
            "contradictory": scalar(
                self.connection,
                f"SELECT coalesce(sum(n), 0)::BIGINT FROM (SELECT count(*) AS n FROM rows WHERE {USABLE}"
                " GROUP BY text_hash HAVING min(label) < max(label))",
            ),
            "kept": self.count("kept"),
            "marks_stripped": self.count("kept", "marked"),
        }
        used = sum(report[name] for name in ("no_label", "empty", "too_long", "contradictory", "kept"))
        report["duplicates"] = total - used
        report |= self._count_shared()
        self._check_label_counts()
        return report

    def count(self, table: str, condition: str = "true") -> int:
        """Return how many rows of a table meet a condition."""
        return scalar(self.connection, f"SELECT count(*) FROM {table} WHERE {condition}")

    @property
    def has_split_column(self) -> bool:
        """Return whether the file itself has a column `split` that names train and test rows."""
        return bool(self.count("kept", "split IN ('train', 'test')"))

    def _check_lines(self, total: int) -> tuple[int, list[RejectedLine]]:
        """Return how many lines cannot be read, and the first of them. Raises CourseError if they are too many."""
        rejected = sum(file.count_rejected() for file in self.files)
        lines = [(file.path, line) for file in self.files for line in file.rejected_lines()]
        for path, line in lines:
            if line.reason == NOT_UTF8:
                raise CourseError(f"{path}: line {line.number} cannot be read: {NOT_UTF8}. Save the file as UTF-8.")
        if rejected > MAX_REJECTED_SHARE * (total + rejected):
            path, line = lines[0]
            raise CourseError(
                f"{path}: {rejected:,} of {total + rejected:,} lines cannot be read; the first is line {line.number}"
                f" ({line.reason}). Is the delimiter right, and are quotes doubled?"
            )
        if not total:
            raise CourseError(f"{self.files[0].path} holds no rows. Add rows below the column names.")
        return rejected, [line for _, line in lines]

    def _check_labels(self) -> None:
        """Raise CourseError for the first label that the task does not have. Rows without one are left out instead."""
        unknown = self.connection.execute(
            "SELECT part, given, row FROM rows WHERE label IS NULL AND given IS NOT NULL ORDER BY part, row LIMIT 1"
        ).fetchone()
        if unknown:
            part, value, row = unknown
            raise self.files[part].unknown_label(value, row)

    def _count_shared(self) -> dict[str, int]:
        """Return how many training rows share a group with a test row, if the files say which rows are test rows."""
        if len(self.files) == 2:
            test_groups = "SELECT group_hash FROM kept WHERE part = 1"
            shared = self.count("rows", f"part = 0 AND {USABLE} AND group_hash IN ({test_groups})")
            return {"shared_with_test": shared}
        if not self.has_split_column:
            return {}
        splits = records(
            self.connection.execute("SELECT coalesce(split, '') AS name, count(*) AS n FROM kept GROUP BY 1 ORDER BY 1")
        )
        names = [split["name"] for split in splits]
        for side in ("train", "test"):
            if side not in names:
                raise CourseError(
                    f"{self.files[0].path}: its column 'split' names no {side} rows; it holds"
                    f" {', '.join(map(repr, names[:5]))}. Name them train and test, or leave the column out."
                )
        test_groups = "SELECT group_hash FROM kept WHERE split = 'test'"
        counts = {
            "other_split": sum(split["n"] for split in splits if split["name"] not in ("train", "test")),
            "shared_with_test": self.count("kept", f"split = 'train' AND group_hash IN ({test_groups})"),
        }
        return {name: count for name, count in counts.items() if count}

    def _check_label_counts(self) -> None:
        """Raise CourseError if no row of one of the task's labels is left."""
        path, labels = self.files[0].path, self.task.labels
        present = {label for (label,) in self.connection.execute("SELECT DISTINCT label FROM kept").fetchall()}
        if len(present) < 2:
            named = ", ".join(repr(labels[label]) for label in sorted(present)) or "none"
            raise CourseError(
                f"{path} holds rows of one label only ({named}); {len(labels)} are needed to learn and to compare."
                " Add rows of the others."
            )
        absent = [word for label, word in enumerate(labels) if label not in present]
        if absent:
            raise CourseError(
                f"{path} holds no row labelled {absent[0]!r}. Add some, or remove it from the task's labels."
            )


def clean_text(task: Task, expression: str) -> str:
    """Return SQL that trims a text, folds its white space and removes endings that give the label away."""
    # most texts have nothing to fold, and looking costs less than rewriting
    text = (
        rf"CASE WHEN regexp_matches({expression}, '[\t-\r]|  ')"
        rf" THEN regexp_replace({expression}, '\s+', ' ', 'g') ELSE {expression} END"
    )
    if task.strip_marks:
        text = f"regexp_replace({text}, {literal(_marks(task))}, '')"
    return f"trim({text})"


def _marks(task: Task) -> str:
    """Return the regular expression of the task's give-away endings."""
    return r"(?i)(\s*(" + "|".join(re.escape(mark) for mark in task.strip_marks) + r")[\s.!?]*)+$"
