"""A task's rows: read by DuckDB, checked, cleaned, balanced, split by group; the test set frozen under an id.

DuckDB reads CSV, JSON Lines and Parquet in bounded memory (`rowfiles` opens them). A file is read twice: first every row becomes a few numbers
(label, hashes of its texts, flags), from which the sample is chosen; then only the chosen rows are fetched. So a million
rows cost little more memory than a thousand. Order and choice come from MD5 hashes of seed and text, so they depend
neither on the order of the file nor on DuckDB's version.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base import files, hub, redact
from llmcourse._base.errors import CourseError
from llmcourse.data import rowfiles
from llmcourse.data.rowfiles import literal, quoted, records
from llmcourse.data.tasks import Task
from llmcourse.data.texts import MAX_CHARACTERS

if TYPE_CHECKING:
    from datasets import Dataset

TEST_SHARE = 0.2
MOST_REJECTED = 0.1
"""Share of unreadable lines above which a file is refused instead of read around."""
ROWS_AT_ONCE = 2_000
"""Rows that `stream` holds at once."""


@dataclass(frozen=True)
class Rows:
    """Train and test rows of a task. Columns: `row` (number in its file), `label` (integer), the task's text columns."""

    task: Task
    source: str
    train: "Dataset"
    test: "Dataset"
    report: dict[str, Any]
    """What cleaning and sampling did, as counts."""

    @property
    def test_id(self) -> str:
        """Names the frozen test set: the same rows, in any order, have the same id."""
        return rows_id(self.task, self.test)

    @property
    def train_id(self) -> str:
        return rows_id(self.task, self.train)


def rows_id(task: Task, rows: Sequence[Mapping]) -> str:
    """A hash of texts and labels; the order of the rows does not matter."""
    return files.short_hash(sorted([*(row[column] for column in task.columns), int(row["label"])] for row in rows))


def in_order(task: Task, rows: Sequence[Mapping]) -> list[Mapping]:
    """Rows in the one order that depends on nothing but themselves: by text and label."""
    return sorted(rows, key=lambda row: (*(row[column] for column in task.columns), row["label"]))


def groups(task: Task, rows: Sequence[Mapping]) -> set[str]:
    """Hashes of what rows must not share across a split: the group column's text, or all texts where there is none."""
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

    `source` is one of `task.sources`, or a CSV, TSV, JSON Lines or Parquet file; `test` a file with the test rows, if they
    are apart. `columns` maps the task's column names to the file's own: `{"comment": "body", "label": "is_sarcastic"}`.
    `n_train` and `n_test` are rows in all, the same number of each label; None takes all that balance allows.

    Rows that share the task's group column all fall on one side: training rows that share it with a test file are left out and
    counted (`report["shared_with_test"]`; those with the same texts are duplicates besides). Raises CourseError with file and row for anything that the
    user can put right.
    """
    paths = [_locate(task, source), *([Path(test)] if test is not None else [])]
    with rowfiles.engine() as connection:
        for number, path in enumerate(paths):
            _index(connection, task, path, dict(columns or {}), seed, part=number)
        report = _clean(connection, task, paths)
        _split(connection, task, paths, n_train, n_test)
        sides = _fetch(connection, task)
        report |= {side: _label_counts(task, rows) for side, rows in sides.items()}
    if source in ("kaggle", "hub") and source in task.sources:  # which file it was: Kaggle's is pinned by nothing
        report["sha256"] = files.sha256_of_file(paths[0])
    for side, wanted in (("train", n_train), ("test", n_test)):
        if wanted is not None and len(sides[side]) < wanted - wanted % len(task.labels):
            report[f"{side}_wanted"] = wanted
    name = str(source) if source in task.sources else Path(source).name
    return Rows(task, name, sides["train"], sides["test"], report)


def load_first(task: Task, sources: Sequence[str], **options) -> Rows:
    """The rows of the first source that can be reached; `options` are those of `load`.

    Raises CourseError with what each source said when none can.
    """
    refused = []
    for source in sources:
        try:
            return load(task, source, **options)
        except CourseError as error:
            refused.append(str(error))
    raise CourseError("\n".join(refused))


def read_all(
    task: Task, path: str | Path, columns: Mapping[str, str] | None = None, labelled: bool = True
) -> list[dict]:
    """Every row of a file in its order, neither cleaned nor sampled: for predicting, or evaluating on a file of one's own.

    Raises CourseError for a row without text, or (labelled) with an unknown label: nothing is left out silently.
    """
    return list(stream(task, path, columns, labelled))


def stream(
    task: Task, path: str | Path, columns: Mapping[str, str] | None = None, labelled: bool = True
) -> Iterator[dict]:
    """The rows of `read_all` one after the other, in bounded memory. Raises as it does, when the row comes that is wrong."""
    path = Path(path)
    with rowfiles.engine() as connection:
        view, names = rowfiles.open_file(connection, path)
        mapping = _mapping(task, path, names, dict(columns or {}), labelled)
        texts = {column: f"{quoted(mapping[column])}::VARCHAR" for column in mapping}
        # reads it all once: an unreadable line would shift the numbers of the rows after it
        lengths = ", ".join(f"sum(length({text}))" for text in texts.values())
        # fetchall, not fetchone: DuckDB writes down the unreadable lines only once a result has been taken whole
        [(count, *_)] = connection.execute(f"SELECT count(*), {lengths} FROM {view}").fetchall()
        rejected = rowfiles.rejected(connection, path)
        if rejected:
            raise CourseError(f"{path}: line {rejected[0][0]} cannot be read ({rejected[0][1]}). Mend or remove it.")
        if not count:
            raise CourseError(f"{path} holds no rows.")
        selected = ", ".join(f"{text} AS {quoted(column)}" for column, text in texts.items())
        found = connection.execute(f"SELECT row_number() OVER () AS row, {selected} FROM {view}")
        words = _label_words(task) if labelled else None
        while rows := records(found, ROWS_AT_ONCE):
            yield from (_checked(task, path, mapping, row, words) for row in rows)


def _checked(task: Task, path: Path, mapping: Mapping[str, str], row: dict, words: Mapping[str, int] | None) -> dict:
    """The row with its texts trimmed, and with its label as a number where `words` (label words -> numbers) are given."""
    for column in task.columns:
        text = (row[column] or "").strip()
        if not text:
            raise CourseError(f"{path}, row {row['row']}: column {mapping[column]!r} is empty.")
        if len(text) > MAX_CHARACTERS:
            raise CourseError(
                f"{path}, row {row['row']}: column {mapping[column]!r} has {len(text):,} characters, at most {MAX_CHARACTERS:,} fit."
            )
        row[column] = text
    if words is not None:
        value = str(row["label"]).strip().lower()
        if value not in words:
            raise CourseError(_unknown_label(task, path, row["label"], row["row"]))
        row["label"] = words[value]
    return row


def bundled_path(task: Task) -> Path:
    """The corpus that comes with the package."""
    return Path(str(resources.files("llmcourse.data") / "corpora" / f"{task.name}.csv"))


def _locate(task: Task, source: str | Path) -> Path:
    if source == "bundled" and "bundled" in task.sources:
        return bundled_path(task)
    if source == "kaggle" and task.kaggle:
        try:
            import kagglehub
        except ImportError:
            raise CourseError("Reading from Kaggle needs one more package: pip install kagglehub") from None
        return _download(lambda: kagglehub.dataset_download(task.kaggle[0], path=task.kaggle[1]), "Kaggle", "hub")
    if source == "hub" and task.hub:
        from huggingface_hub import hf_hub_download

        repo, name, revision = task.hub
        path = _download(
            lambda: hf_hub_download(repo, name, repo_type="dataset", revision=revision), "the hub", "kaggle"
        )
        hub.verify(path.parent)
        return path
    return Path(source)


def _download(fetch, place: str, other: str) -> Path:
    try:
        return Path(fetch())
    except Exception as error:  # network, quota, a moved file: whatever it was, the remedy is the same
        redact.clean(error)  # a hub may repeat a token in its answer, and a traceback shows this error
        raise CourseError(
            f"The rows could not be downloaded from {place} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})."
            f" Try the other source ({other!r}), or the bundled corpus, which needs no network ('bundled')."
        ) from error


def _mapping(
    task: Task, path: Path, names: list[str], columns: dict[str, str], labelled: bool = True
) -> dict[str, str]:
    """The task's columns -> the file's."""
    wanted = [*task.columns, *(["label"] if labelled else [])]
    unknown = set(columns) - set(wanted)
    if unknown:
        raise CourseError(
            f"The task {task.name!r} has no column {sorted(unknown)[0]!r} to map. It has: {', '.join(wanted)}."
        )
    mapping = {column: columns.get(column, task.label_column if column == "label" else column) for column in wanted}
    for column, name in mapping.items():
        if name not in names:
            raise CourseError(
                f"{path} has no column {name!r}; it has: {', '.join(names)}. Say which one holds it, for instance {column}={names[0]}."
            )
    return mapping


def _index(connection, task: Task, path: Path, columns: dict[str, str], seed: int, part: int) -> None:
    """Turn a file's rows into numbers, in their order: table `indexed_{part}` (label, flags, hashes); view `texts_{part}` of the texts."""
    view, names = rowfiles.open_file(connection, path, part)
    mapping = _mapping(task, path, names, columns)
    as_given = {column: f"{quoted(mapping[column])}::VARCHAR" for column in mapping}
    cleaned = {f"text_{place}": _cleaned(task, as_given[column]) for place, column in enumerate(task.columns)}
    all_texts = " || chr(31) || ".join(cleaned)
    group = f"text_{task.columns.index(task.group_column)}" if task.group_column else all_texts
    marked = " OR ".join(f"regexp_matches({as_given[c]}, {literal(_marks(task))})" for c in task.columns)
    split = "lower(trim(split::VARCHAR))" if "split" in names and part == 0 else "NULL::VARCHAR"
    words = _label_words(task)
    whens = " ".join(f"WHEN {literal(word)} THEN {label}" for word, label in words.items())
    # Cleaned once, below, and used above. Without row_number(), which would read on one thread: a table keeps the order of a file.
    connection.execute(f"""
        CREATE TABLE indexed_{part} AS SELECT (CASE lower(trim(given)) {whens} END)::TINYINT AS label,
            CASE WHEN lower(trim(given)) IN ({", ".join(map(literal, words))}) THEN NULL ELSE given END AS given, split,
            {" OR ".join(f"{text} = ''" for text in cleaned)} AS missing,
            {" OR ".join(f"length({text}) > {MAX_CHARACTERS}" for text in cleaned)} AS long, marked,
            hash(lower({all_texts})) AS text_hash,
            md5_number_lower('{int(seed)}' || lower({group})) AS group_hash,
            md5_number_lower('{int(seed)}' || {all_texts}) AS sort_hash
        FROM (SELECT {", ".join(f"coalesce({text}, '') AS {name}" for name, text in cleaned.items())}, {as_given["label"]} AS given,
            {split} AS split, {f"coalesce({marked}, false)" if task.strip_marks else "false"} AS marked FROM {view})""")
    # as they stand in the file: cleaned are only the texts of rows that are chosen
    select = ", ".join(f"{as_given[column]} AS {quoted(column)}" for column in task.columns)
    connection.execute(
        f"CREATE TEMP VIEW texts_{part} AS SELECT {part} AS part, row_number() OVER () AS row, {select} FROM {view}"
    )


def _clean(connection, task: Task, paths: list[Path]) -> dict[str, Any]:
    """Drop what cannot be used, count it, and refuse what makes no sense. Leaves the table `kept`."""
    one = connection.execute
    parts = (f"SELECT {part} AS part, rowid + 1 AS row, * FROM indexed_{part}" for part in range(len(paths)))
    one(f"CREATE TEMP VIEW rows AS {' UNION ALL '.join(parts)}")
    total = one("SELECT count(*) FROM rows").fetchone()[0]
    rejected = {part: rowfiles.rejected(connection, path, part) for part, path in enumerate(paths)}
    count = sum(rowfiles.rejected_count(connection, part) for part in rejected)
    for part, lines in rejected.items():
        for line, reason in lines:
            if reason == rowfiles.NOT_UTF8:
                raise CourseError(f"{paths[part]}: line {line} cannot be read: {reason}. Save the file as UTF-8.")
    if count and count > MOST_REJECTED * (total + count):
        part = next(part for part, lines in rejected.items() if lines)
        line, reason = rejected[part][0]
        raise CourseError(
            f"{paths[part]}: {count:,} of {total + count:,} lines cannot be read; the first is line {line} ({reason})."
            " Is the delimiter right, and are quotes doubled?"
        )
    if not total:
        raise CourseError(f"{paths[0]} holds no rows.")
    bad = one(
        "SELECT part, row, given FROM rows WHERE label IS NULL AND given IS NOT NULL ORDER BY part, row LIMIT 1"
    ).fetchone()
    if bad:
        raise CourseError(_unknown_label(task, paths[bad[0]], bad[2], bad[1]))
    # The same texts twice: one is enough if the labels agree, none can be right if they do not.
    one("""CREATE TABLE kept AS SELECT part, row, label, split, group_hash, sort_hash, marked FROM rows
           WHERE label IS NOT NULL AND NOT missing AND NOT long
           WINDOW same AS (PARTITION BY text_hash), in_order AS (PARTITION BY text_hash ORDER BY part DESC, row)
           QUALIFY row_number() OVER in_order = 1 AND min(label) OVER same = max(label) OVER same""")
    usable = "label IS NOT NULL AND NOT missing AND NOT long"
    report = {
        "read": total,
        "rejected_lines": [line for lines in rejected.values() for line, _ in lines][:100],
        "rejected": count,
        "no_label": one("SELECT count(*) FROM rows WHERE label IS NULL").fetchone()[0],
        "empty": one("SELECT count(*) FROM rows WHERE label IS NOT NULL AND missing").fetchone()[0],
        "too_long": one("SELECT count(*) FROM rows WHERE label IS NOT NULL AND NOT missing AND long").fetchone()[0],
        "contradictory": one(
            f"SELECT coalesce(sum(n), 0)::BIGINT FROM (SELECT count(*) AS n FROM rows WHERE {usable} GROUP BY text_hash"
            " HAVING min(label) < max(label))"
        ).fetchone()[0],
        "kept": one("SELECT count(*) FROM kept").fetchone()[0],
        "marks_stripped": one("SELECT count(*) FROM kept WHERE marked").fetchone()[0],
    }
    used = sum(report[key] for key in ("no_label", "empty", "too_long", "contradictory", "kept"))
    report["duplicates"] = total - used
    if len(paths) == 2:
        report["shared_with_test"] = one(
            f"""SELECT count(*) FROM rows WHERE part = 0 AND {usable}
                AND group_hash IN (SELECT group_hash FROM kept WHERE part = 1)"""
        ).fetchone()[0]
    elif _names_sides(connection):
        report |= _split_column(connection, paths[0])
    present = {label for (label,) in one("SELECT DISTINCT label FROM kept").fetchall()}
    if len(present) < 2:
        named = ", ".join(repr(task.labels[label]) for label in sorted(present)) or "none"
        raise CourseError(
            f"{paths[0]} holds rows of one label only ({named}); {len(task.labels)} are needed to learn and to compare."
        )
    absent = [word for label, word in enumerate(task.labels) if label not in present]
    if absent:
        raise CourseError(f"{paths[0]} holds no row labelled {absent[0]!r}.")
    return report


def _names_sides(connection) -> bool:
    """Whether the file itself says, in a column `split`, which rows are for training and which for the test."""
    return bool(connection.execute("SELECT count(*) FROM kept WHERE split IN ('train', 'test')").fetchone()[0])


def _split_column(connection, path: Path) -> dict[str, int]:
    """What a file's own column `split` leaves out: rows on neither side, and training rows that share a group with its test rows."""
    found = dict(connection.execute("SELECT coalesce(split, ''), count(*) FROM kept GROUP BY 1 ORDER BY 1").fetchall())
    for side in ("train", "test"):
        if side not in found:
            values = ", ".join(map(repr, list(found)[:5]))
            raise CourseError(
                f"{path}: its column 'split' names no {side} rows; it holds {values}. Name them train and test, or leave the column out."
            )
    shared = connection.execute(
        "SELECT count(*) FROM kept WHERE split = 'train' AND group_hash IN (SELECT group_hash FROM kept WHERE split = 'test')"
    ).fetchone()[0]
    other = sum(count for name, count in found.items() if name not in ("train", "test"))
    return {name: count for name, count in (("other_split", other), ("shared_with_test", shared)) if count}


def _split(connection, task: Task, paths: list[Path], n_train: int | None, n_test: int | None) -> None:
    """Choose the rows: table `chosen` (part, row, label, side, sort_hash), balanced, no group on both sides."""
    one, kinds = connection.execute, len(task.labels)
    if len(paths) == 2:
        # groups of the test file leave the training file
        one("""CREATE TABLE sided AS SELECT *, CASE part WHEN 1 THEN 'test' ELSE 'train' END AS side FROM kept
               WHERE part = 1 OR group_hash NOT IN (SELECT group_hash FROM kept WHERE part = 1)""")
    elif _names_sides(connection):
        one("""CREATE TABLE sided AS SELECT *, split AS side FROM kept WHERE split = 'test'
               OR split = 'train' AND group_hash NOT IN (SELECT group_hash FROM kept WHERE split = 'test')""")
    else:
        smallest = one("SELECT min(n) FROM (SELECT count(*) AS n FROM kept GROUP BY label)").fetchone()[0]
        share = max(n_test / (n_train + n_test), TEST_SHARE) if n_train and n_test else TEST_SHARE
        each = min(-(-n_test // kinds) if n_test else smallest, max(1, round(share * smallest)))
        # whole groups, in the order of their hashes, until each label has enough test rows
        cut = one(
            f"""SELECT max(group_hash) FROM (SELECT group_hash, row_number() OVER (PARTITION BY label ORDER BY group_hash, sort_hash) AS n
                FROM kept) WHERE n = {each}"""
        ).fetchone()[0]
        one(
            f"CREATE TABLE sided AS SELECT *, CASE WHEN group_hash <= {cut} THEN 'test' ELSE 'train' END AS side FROM kept"
        )
    one("CREATE TABLE chosen (part TINYINT, row BIGINT, label TINYINT, side VARCHAR, sort_hash UBIGINT)")
    for side, wanted in (("train", n_train), ("test", n_test)):
        counts = one(f"SELECT count(*) FROM sided WHERE side = '{side}' GROUP BY label").fetchall()
        if len(counts) < kinds:
            raise CourseError(
                f"{paths[-1] if side == 'test' else paths[0]}: there are too few rows of each label for a {side} set. Add rows, or ask for fewer."
            )
        each = min(min(n for (n,) in counts), wanted // kinds if wanted is not None else 10**12)
        one(f"""INSERT INTO chosen SELECT part, row, label, side, sort_hash FROM sided WHERE side = '{side}'
                QUALIFY row_number() OVER (PARTITION BY label ORDER BY sort_hash) <= {each}""")


def _fetch(connection, task: Task) -> dict[str, "Dataset"]:
    """The chosen rows' texts, of training and test side."""
    from datasets import Dataset

    texts = ", ".join(f"{_cleaned(task, f't.{quoted(column)}')} AS {quoted(column)}" for column in task.columns)
    parts = [part for (part,) in connection.execute("SELECT DISTINCT part FROM chosen ORDER BY part").fetchall()]
    source = " UNION ALL ".join(f"SELECT * FROM texts_{part}" for part in parts)
    order = ", ".join(map(quoted, task.columns))
    connection.execute(f"""
        CREATE TABLE fetched AS SELECT c.side, c.row::BIGINT AS row, c.label::BIGINT AS label, {texts}
        FROM chosen c JOIN ({source}) t USING (part, row)""")
    return {
        side: Dataset.from_list(
            records(
                connection.execute(f"SELECT * EXCLUDE side FROM fetched WHERE side = '{side}' ORDER BY {order}, label")
            )
        )
        for side in ("train", "test")
    }


def _label_words(task: Task) -> dict[str, int]:
    """What a label column may hold, in lower case: the label words or their numbers."""
    words = {word.strip().lower(): label for label, word in enumerate(task.labels)}
    # where words are numbers themselves ("1", "2"), a number means the word
    numbers = {} if any(word.isdigit() for word in words) else {str(label): label for label in range(len(task.labels))}
    return numbers | words


def _unknown_label(task: Task, path: Path, value: object, row: int) -> str:
    known = ", ".join(repr(word) for word in _label_words(task))
    return f"{path}, row {row}: unknown label {value!r}. The task {task.name!r} knows {known}."


def _label_counts(task: Task, rows: "Dataset") -> dict[str, int]:
    labels = rows["label"][:] if len(rows) else []
    return {word: list(labels).count(label) for label, word in enumerate(task.labels)}


def _marks(task: Task) -> str:
    return r"(?i)(\s*(" + "|".join(re.escape(mark) for mark in task.strip_marks) + r")[\s.!?]*)+$"


def _cleaned(task: Task, expression: str) -> str:
    """SQL that trims a text, folds its white space and removes the task's give-away endings."""
    # most texts have nothing to fold, and to look costs less than to rewrite
    text = rf"CASE WHEN regexp_matches({expression}, '[\t-\r]|  ') THEN regexp_replace({expression}, '\s+', ' ', 'g') ELSE {expression} END"
    if task.strip_marks:
        text = f"regexp_replace({text}, {literal(_marks(task))}, '')"
    return f"trim({text})"
