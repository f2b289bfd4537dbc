"""Predictions for rows of any number: asked shard by shard, so that memory is bounded and a restart continues.

The predictions of each shard go into a log in a hidden folder beside the result. They are kept with a hash of the rows
and of what else the answers depend on, such as the adapter. Those of other rows or another adapter are not used.
"""

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any

from filelock import Timeout
from tqdm import tqdm

from llmcourse import data
from llmcourse._base import __version__, files
from llmcourse._base.errors import CourseError
from llmcourse._base.spreadsheet import table
from llmcourse.data.csvfiles import Quotes
from llmcourse.data.tasks import Task
from llmcourse.data.texts import is_blank, one_line
from llmcourse.models.adapters import Folder
from llmcourse.predict import judges
from llmcourse.predict.encoding import describe_cut
from llmcourse.predict.journal import Log
from llmcourse.predict.judges import Ask, Judge
from llmcourse.predict.predictions import Predictions, Scored

SHARD_ROWS = 500
"""Rows in a shard. A kill can cost this many answers, ten seconds to a minute on a CPU."""
STREAMED_ROWS = 100
"""Rows in a shard whose answers go to standard output, so that the first ones come soon."""
LONGEST_LINE = 1 << 20
"""Bytes of a line of standard input that are read. A text that fits a prompt is far shorter."""

Write = Callable[[str], Any]


def _print(text: str) -> None:
    print(text, end="", flush=True)


def _note(text: str) -> None:
    """Tell the reader something that is no part of the table."""
    print(text, file=sys.stderr, flush=True)


def note_counts(judge: Judge, counts: Mapping[str, int], count: int) -> None:
    """Tell the reader how many of `count` rows were cut and how many answers are invalid, if any."""
    if counts["cut_rows"] and judge.max_length:
        cut = describe_cut(counts["cut_rows"], count, "rows", judge.max_length)
        _note(f"{cut} Training cuts its rows in the same way.")
    if counts["invalid_rows"]:
        _note(f"{counts['invalid_rows']:,} of {count:,} answers name no label of the task. Their cells are empty.")


def counts_of(after: Predictions) -> dict[str, int]:
    """Return what `note_counts` tells of some predictions."""
    return {"cut_rows": after.cut_rows, "invalid_rows": sum(label is None for label in after.labels)}


def table_header(task: Task) -> str:
    """Return the first line of a table of predictions."""
    return table([[task.number_column, "before", "before_probability", "after", "after_probability", *task.columns]])


def table_lines(task: Task, rows: Sequence[Mapping], before: Scored | None, after: Predictions) -> str:
    """Return one line for each row: its number, label and probability before and after finetuning, and its texts.

    Cells are empty where there is nothing to write: a row without text has no answer, an invalid answer no label, a
    written answer no probability, and a whole model nothing before finetuning. The cells are safe in a spreadsheet: a
    formula in a text stays text.
    """
    lines = []
    places = iter(range(len(after.labels)))
    for row in rows:
        answers: list[Any] = ["", "", "", ""]
        if has_text(task, row):
            place = next(places)
            answers = [*_cells(task, before, place), *_cells(task, after, place)]
        lines.append([row[task.number_column], *answers, *(row[column] for column in task.columns)])
    return table(lines)


def _cells(task: Task, predictions: Predictions | None, place: int) -> list[Any]:
    """Return a row's label and its probability."""
    if predictions is None or (label := predictions.labels[place]) is None:
        return ["", ""]
    probability = Decimal(f"{predictions.probability(place):.4f}") if isinstance(predictions, Scored) else ""
    return [task.labels[label], probability]


def has_text(task: Task, row: Mapping) -> bool:
    """Return whether there is something to classify. Only a blank line of standard input has nothing."""
    return not is_blank(row[task.columns[-1]])


def _ask_shard(task: Task, ask: Ask, rows: list[dict]) -> dict[str, Any]:
    """Return the table's lines for rows, and the counts of `counts_of`. Rows without text are not asked."""
    asked = [row for row in rows if has_text(task, row)]
    before, after = ask(asked) if asked else (None, Predictions([], 0.0))
    return {"table": table_lines(task, rows, before, after), **counts_of(after)}


def predict_file(
    adapter: Folder,
    path: str | Path,
    out: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    quotes: Quotes = "checked",
    model: str | None = None,
) -> int:
    """Predict every row of a CSV, JSONL or Parquet file before and after finetuning, and return the number of rows.

    `adapter` is the folder of a saved adapter, which also names the task and the base model, or a
    `models.plain_adapter`. `model` says where the base is, if it was a local folder (see `models.base_of`). The table
    goes to the CSV file `out`, or to standard output; `columns` maps the task's columns to the file's. `quotes` says
    what quotation marks in a CSV mean, as in `data.load`. Raises CourseError as `ask_file` and `judges.of_adapter` do.
    """
    return ask_file(judges.of_adapter(adapter, model), path, out, columns, quotes=quotes)


def ask_file(
    judge: Judge,
    path: str | Path,
    out: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    write: Write = _print,
    quotes: Quotes = "checked",
) -> int:
    """Predict every row of a file as `ask_rows` does, and return the number of rows.

    The whole file is read once before a model is loaded. Raises CourseError, as `data.read_all`, for the first row that
    cannot be used, for a result that would replace the file itself, and for a file that changes meanwhile.
    """
    path = Path(path)
    if not path.is_file():
        raise CourseError(f"There is no file {path}.")
    _check_out(out)
    if out is not None and Path(out).exists() and Path(out).samefile(path):
        raise CourseError(f"--out {out} is the file that is read, and would be lost. Name another.")
    stamp = _stamp(path)
    count = sum(1 for _ in data.stream(judge.task, path, columns, labelled=False, quotes=quotes))

    def rows() -> Iterator[dict]:
        yield from data.stream(judge.task, path, columns, labelled=False, quotes=quotes)
        if _stamp(path) != stamp:
            raise CourseError(f"{path} changed while it was read. Run the command again.")

    return ask_rows(judge, rows(), out, write, count)


def ask_lines(
    judge: Judge,
    stream: IO[bytes],
    parent: str = "",
    out: str | Path | None = None,
    write: Write = _print,
) -> int:
    """Predict each line of a stream of bytes as `ask_rows` does, and return the number of lines.

    Input line n is row n of the table, whatever is on the lines. A blank line is a row without an answer. `parent` is
    the text of the task's other columns. The whole stream is copied to a temporary file and checked before a model is
    loaded, so memory is bounded, and a stopped run resumes when the same lines come again.

    Raises CourseError, with the number of the line, for one that cannot be used.
    """
    _check_out(out)
    one_line(parent)  # raises for a text that is too long
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(stream, kept)

        number_column = judge.task.number_column

        def rows() -> Iterator[dict]:
            kept.seek(0)
            for number, text in enumerate(_lines(kept), 1):
                yield {number_column: number, **dict.fromkeys(judge.task.columns, parent), judge.task.columns[-1]: text}

        count = blank = first_blank = 0
        for row in rows():
            count = row[number_column]
            if not has_text(judge.task, row):
                blank, first_blank = blank + 1, first_blank or count
        if blank == count:
            raise CourseError("The text to classify is empty. Give a text with at least one word.")
        ask_rows(judge, rows(), out, write, count)
    if blank:
        lines = f"{blank:,} of {count:,} lines are blank, beginning with line {first_blank:,}."
        _note(f"{lines} They have a row without an answer.")
    return count


def _lines(file: IO[bytes]) -> Iterator[str]:
    """Yield the lines of UTF-8 text, without a byte order mark and without the spaces and CR around each.

    Raises CourseError for what is not a line of text, with its number.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        place = f"Standard input, line {number:,}"
        if len(line) > LONGEST_LINE:
            raise CourseError(f"{place} is longer than 1 MB. Put one text on each line.")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise CourseError(f"{place} is not UTF-8 text. Convert it, for instance with iconv.") from None
        if "\r" in text or "\0" in text:
            what = "a carriage return (CR) inside" if "\r" in text else "a NUL character, so it is no plain text"
            raise CourseError(f"{place} has {what}. Give UTF-8 text whose lines end with LF or CR LF.")
        try:
            one_line(text)
        except CourseError as error:
            raise CourseError(f"{place}: {error}") from None
        yield text


def ask_rows(
    judge: Judge,
    rows: Iterable[dict],
    out: str | Path | None = None,
    write: Write = _print,
    count: int | None = None,
) -> int:
    """Predict rows, which may come one after the other, and return how many there were.

    The table is written to the CSV file `out`, whole or not at all. If `out` is None, `write` gets it shard by shard.
    The judge's model is loaded once, when there is a row to ask. `count` is the number of rows if it is known. Raises
    CourseError if `out` is a folder, or if another command is writing it.
    """
    if out is None:
        ask, done, counts = judge.load(), 0, Counter[str]()
        write(table_header(judge.task))
        for shard in _shards(rows, count, STREAMED_ROWS):
            entry = _ask_shard(judge.task, ask, shard)
            write(entry.pop("table"))
            counts.update(entry)
            done += len(shard)
        note_counts(judge, counts, done)
        return done
    shards = _shards(rows, count, SHARD_ROWS)
    _check_out(out)
    out = Path(out)
    folder = out.with_name(f".{out.name}.partial")
    log = Log(folder / "predictions.jsonl")
    try:
        with files.lock(log.path, timeout_s=0):
            with files.report_full_disk(out), open(folder / "whole.csv", "w", encoding="utf-8", newline="") as whole:
                whole.write(table_header(judge.task))
                done, counts = _ask_with_log(judge, shards, log, count, whole.write, write)
                whole.flush()
                os.fsync(whole.fileno())
            os.replace(whole.name, out)
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        raise CourseError(f"Another command is writing {out}. Wait for it, or name another file.") from None
    note_counts(judge, counts, done)
    return done


def _ask_with_log(
    judge: Judge,
    shards: Iterable[list[dict]],
    log: Log,
    count: int | None,
    write_table: Write,
    write_message: Write,
) -> tuple[int, Counter[str]]:
    """Write the table of every shard, from the log as far as it fits. Return how many rows there were, and the counts
    of `counts_of`."""
    depends_on = {**judge.depends_on, "version": __version__}
    kept, ask, done, counts = log.entries(), None, 0, Counter[str]()
    for rows in shards:
        key = files.short_hash([depends_on, rows])
        entry = next(kept, None)
        if entry is None or entry.get("key") != key:
            if ask is None:
                if entry is not None:
                    write_message(
                        f"What {log.path.parent} holds from row {done + 1:,} on belongs to another file, adapter, model"
                        " or columns. These rows are predicted again.\n"
                    )
                elif done:
                    total = "" if count is None else f" of {count:,}"
                    write_message(f"Going on after row {done:,}{total}, with what {log.path.parent} holds.\n")
                ask = judge.load()
            kept = iter(())
            entry = {"key": key, **_ask_shard(judge.task, ask, rows)}
            log.append(entry)
        write_table(entry["table"])
        counts.update({name: entry.get(name, 0) for name in ("cut_rows", "invalid_rows")})
        done += len(rows)
    return done, counts


def _shards(rows: Iterable[dict], count: int | None, size: int) -> Iterator[list[dict]]:
    """Yield the rows `size` at a time, with a progress bar."""
    with tqdm(desc="predicting", total=count, unit="row", leave=False, disable=None) as bar:
        rows = iter(rows)
        while shard := list(islice(rows, size)):
            yield shard
            bar.update(len(shard))


def _check_out(out: str | Path | None) -> None:
    """Raise CourseError, before anything is asked, if the result cannot be written to `out`."""
    if out is not None and (Path(out).is_dir() or not Path(out).name):
        raise CourseError(f"--out {out} is a folder. Name a file.")


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when the file is written: its size in bytes and the time of the last change in ns."""
    return path.stat().st_size, path.stat().st_mtime_ns
