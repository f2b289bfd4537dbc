"""Guess which columns of a stranger's file hold the texts and the labels, for the advice in error messages."""

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import islice

from llmcourse._base.errors import CourseError
from llmcourse.data.fileformats import Table, records
from llmcourse.data.tasks import Task
from llmcourse.data.texts import identity

SAMPLE_ROWS, SAMPLE_COLUMNS = 200, 50
TEXT_NAMES = ("text", "sentence", "comment", "message", "review", "body", "content", "tweet", "post", "reply", "title")
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u9fff]")
"""Letters of scripts that write no spaces between words: Thai, Lao, Japanese, Chinese."""
LABEL_NAMES = ("label", "labels", "target", "class", "category", "sentiment", "intent", "y")
MIN_LABEL_SHARE = 0.9
"""Share of a column's values that must be labels of the task, so that it counts as the label column."""


def suggestion(
    task: Task, table: Table, mapping: Mapping[str, str], missing: Sequence[str], option: str = "--column"
) -> str:
    """Return what to type so that the missing columns are found, as a sentence.

    `mapping` says what was looked for. `option` is the option of the command line that maps the file's columns.
    """
    if any(task.label_of(name) is not None for name in table.names if not name.isdecimal()):
        header = ",".join(mapping.values())
        return f"Line 1 looks like a row. Put the names of the columns above it, for instance {header}."
    argument = option.removeprefix("--").replace("-", "_") + "s"
    taken = {name for column, name in mapping.items() if column not in missing}
    sample, nested = _sample(table)
    columns = {name: values for name, values in sample.items() if name not in taken}
    pairs: dict[str, str] = {}
    label = _label_column(task, columns)
    if label and "label" in missing:
        pairs["label"] = label
    texts = _text_columns(columns, {label} if label else set())
    for column in (column for column in missing if column != "label"):
        if texts:
            pairs[column] = texts.pop(0)
    if pairs:
        options = " ".join(f"{option} {shlex.quote(f'{column}={name}')}" for column, name in pairs.items())
        return f"Perhaps: {options} ({argument}={pairs!r})."
    if nested:
        return (
            f"The column {nested[0]!r} holds lists or objects. Write the text and the label into columns of their own."
        )
    advice = f"Say which one holds it: {option} {missing[0]}=COLUMN ({argument}={{{missing[0]!r}: 'COLUMN'}})."
    if missing == ["label"]:
        advice += " Rows without labels cannot be compared, but `llmcourse predict --file` answers them."
    return advice


def _sample(table: Table) -> tuple[dict[str, list[str]], list[str]]:
    """Return the first values of each column of texts, without empty ones, and the columns of lists or objects."""
    values: dict[str, list[str]] = {}
    nested: list[str] = []
    for name in table.names[:SAMPLE_COLUMNS]:
        if table.names.count(name) > 1:
            continue
        try:
            found = [value for (value,) in islice(records(table, [name]), SAMPLE_ROWS) if value]
        except CourseError:
            nested.append(name)
            continue
        if found:
            values[name] = found
    return values, nested


def _label_column(task: Task, columns: Mapping[str, list[str]]) -> str | None:
    """Return the column that holds the task's labels, or else one that is called like labels and repeats its values."""
    for name, values in columns.items():
        known = sum(task.label_of(value) is not None for value in values)
        if known >= MIN_LABEL_SHARE * len(values) and len(set(values)) > 1:
            return name
    return next((n for n, v in columns.items() if identity(n) in LABEL_NAMES and len(set(v)) <= len(v) / 2), None)


def _text_columns(columns: Mapping[str, list[str]], taken: set[str]) -> list[str]:
    """Return the columns that hold sentences, those that are called like texts before others, then the longest."""

    def rank(name: str) -> tuple[int, float]:
        called = TEXT_NAMES.index(identity(name)) if identity(name) in TEXT_NAMES else len(TEXT_NAMES)
        return called, -sum(map(len, columns[name])) / len(columns[name])

    return sorted((name for name, values in columns.items() if name not in taken and _is_prose(values)), key=rank)


def _is_prose(values: Sequence[str]) -> bool:
    """Return whether most values have several words, or letters without spaces between them, and are no addresses."""
    addresses = sum(bool(re.match(r"\s*(https?://|www\.)|\S+@\S+$", value)) for value in values)
    worded = sum(" " in value.strip() or bool(_UNSPACED.search(value)) for value in values)
    dated = sum(bool(re.fullmatch(r"[\d\s:./,TZ+-]+", value)) for value in values)
    return worded - dated > len(values) / 2 and addresses < len(values) / 2
