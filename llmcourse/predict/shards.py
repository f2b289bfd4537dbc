"""Predictions for rows of any number: asked shard by shard, so that memory is bounded and a restart continues.

The predictions of each shard go into a log in a hidden folder beside the result. They are kept with a hash of the rows
and of what else the answers depend on, such as the adapter. Those of other rows or another adapter are not used.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import Timeout
from tqdm import tqdm

from llmcourse import data
from llmcourse._base import __version__, files
from llmcourse._base.errors import CourseError
from llmcourse._base.spreadsheet import table
from llmcourse.data.tasks import Task
from llmcourse.predict.journal import Log
from llmcourse.predict.predictions import Scored

SHARD_ROWS = 500
"""Rows in a shard. A kill can cost this many answers, ten seconds to a minute on a CPU."""

Ask = Callable[[list[dict]], tuple[Scored, Scored]]
"""Rows -> predictions before and after finetuning (`predict.before_and_after`)."""

Write = Callable[[str], Any]


def table_header(task: Task) -> str:
    """Return the first line of a table of predictions."""
    return table([["row", "before", "before_probability", "after", "after_probability", *task.columns]])


def table_lines(task: Task, rows: Sequence[Mapping], before: Scored, after: Scored) -> str:
    """Return one line for each row: its number, label and probability before and after finetuning, and its texts.

    The cells are safe in a spreadsheet: a formula in a text stays text.
    """
    lines = []
    for index, row in enumerate(rows):
        answers: list[Any] = []
        for scored in (before, after):
            answers += [task.labels[scored.labels[index]], Decimal(f"{scored.probability(index):.4f}")]
        lines.append([row["row"], *answers, *(row[column] for column in task.columns)])
    return table(lines)


def predict_file(
    task: Task,
    path: str | Path,
    load: Callable[[], Ask],
    out: str | Path | None,
    depends_on: Mapping[str, Any],
    columns: Mapping[str, str] | None,
    write: Write,
) -> int:
    """Predict every row of a file as `predict_rows` does, and return the number of rows.

    The whole file is read once before a model is loaded. Raises CourseError, as `data.read_all`, for the first row that
    cannot be used, for a result that would replace the file itself, and for a file that changes meanwhile.
    """
    path = Path(path)
    if not path.is_file():
        raise CourseError(f"There is no file {path}.")
    if out is not None:
        out = Path(out)
        if out.is_dir() or not out.name:
            raise CourseError(f"--out {out} is a folder. Name a file.")
        if out.exists() and out.samefile(path):
            raise CourseError(f"--out {out} is the file that is read, and would be lost. Name another.")
    stamp = _stamp(path)
    count = sum(1 for _ in data.stream(task, path, columns, labelled=False))

    def rows() -> Iterator[dict]:
        yield from data.stream(task, path, columns, labelled=False)
        if _stamp(path) != stamp:
            raise CourseError(f"{path} changed while it was read. Run the command again.")

    return predict_rows(task, rows(), load, out, depends_on, write, count)


def predict_rows(
    task: Task,
    rows: Iterable[dict],
    load: Callable[[], Ask],
    out: Path | None,
    depends_on: Mapping[str, Any],
    write: Write,
    count: int | None = None,
) -> int:
    """Predict rows, which may come one after the other, and return how many there were.

    The table is written to the CSV file `out`, whole or not at all. If `out` is None, `write` gets it shard by shard.
    `load()` is called once, when there is a row to ask. `depends_on` names what answers depend on besides the rows;
    `count` is the number of rows if it is known. Raises CourseError if another command is writing `out`.
    """
    depends_on = {**depends_on, "version": __version__}
    shards = _shards(rows, count)
    if out is None:
        ask, done = load(), 0
        write(table_header(task))
        for shard in shards:
            write(table_lines(task, shard, *ask(shard)))
            done += len(shard)
        return done
    folder = out.with_name(f".{out.name}.partial")
    log = Log(folder / "predictions.jsonl")
    try:
        with files.lock(log.path, timeout_s=0):
            with files.report_full_disk(out), open(folder / "whole.csv", "w", encoding="utf-8", newline="") as whole:
                whole.write(table_header(task))
                done = _predict_with_log(task, shards, load, log, depends_on, count, whole.write, write)
                whole.flush()
                os.fsync(whole.fileno())
            os.replace(whole.name, out)
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        raise CourseError(f"Another command is writing {out}. Wait for it, or name another file.") from None
    return done


def _predict_with_log(
    task: Task,
    shards: Iterable[list[dict]],
    load: Callable[[], Ask],
    log: Log,
    depends_on: Mapping[str, Any],
    count: int | None,
    write_table: Write,
    write_message: Write,
) -> int:
    """Write the table of every shard, from the log as far as it fits, and return the number of rows."""
    kept, ask, done = log.entries(), None, 0
    for rows in shards:
        key = files.short_hash([depends_on, rows])
        entry = next(kept, None)
        if entry is None or entry.get("key") != key:
            if ask is None:
                if entry is not None:
                    write_message(
                        f"What {log.path.parent} holds from row {done + 1:,} on belongs to another file, adapter or"
                        " columns. These rows are predicted again.\n"
                    )
                elif done:
                    total = "" if count is None else f" of {count:,}"
                    write_message(f"Going on after row {done:,}{total}, with what {log.path.parent} holds.\n")
                ask = load()
            kept = iter(())
            entry = {"key": key, "table": table_lines(task, rows, *ask(rows))}
            log.append(entry)
        write_table(entry["table"])
        done += len(rows)
    return done


def _shards(rows: Iterable[dict], count: int | None) -> Iterator[list[dict]]:
    """Yield the rows `SHARD_ROWS` at a time, with a progress bar."""
    with tqdm(desc="predicting", total=count, unit="row", leave=False, disable=None) as bar:
        rows = iter(rows)
        while shard := list(islice(rows, SHARD_ROWS)):
            yield shard
            bar.update(len(shard))


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when the file is written: its size in bytes and the time of the last change in ns."""
    return path.stat().st_size, path.stat().st_mtime_ns
