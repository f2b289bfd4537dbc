"""Predictions for rows of any number: asked shard by shard, so that memory is bounded and a restart continues.

The predictions of each shard go into a log in a hidden folder beside the result. They are kept with a hash of the rows
and of what else the answers depend on, such as the adapter. Those of other rows or another adapter are not used.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import Timeout
from tqdm import tqdm

from llmcourse import data, models
from llmcourse._base import __version__, files
from llmcourse._base.errors import CourseError
from llmcourse._base.spreadsheet import table
from llmcourse.data.tasks import Task
from llmcourse.models.adapters import PARTS
from llmcourse.predict.asking import before_and_after
from llmcourse.predict.journal import Log
from llmcourse.predict.predictions import Scored

SHARD_ROWS = 500
"""Rows in a shard. A kill can cost this many answers, ten seconds to a minute on a CPU."""

Ask = Callable[[list[dict]], tuple[Scored, Scored]]
"""Rows -> predictions before and after finetuning (`predict.before_and_after`)."""

Write = Callable[[str], Any]


@dataclass(frozen=True)
class Judge:
    """A model before and after finetuning, which predicts rows of a task."""

    task: Task
    load: Callable[[], Ask]
    """Loads the model, and returns the function that predicts rows."""
    depends_on: Mapping[str, Any]
    """What the predictions depend on besides the rows, such as the adapter's hashes."""


def _print(text: str) -> None:
    print(text, end="")


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
    adapter: str | Path, path: str | Path, out: str | Path | None = None, columns: Mapping[str, str] | None = None
) -> int:
    """Predict every row of a CSV, JSONL or Parquet file before and after finetuning, and return the number of rows.

    `adapter` is the folder of a saved adapter, which also names the task and the base model. The table goes to the CSV
    file `out`, or to standard output; `columns` maps the task's columns to the file's. Raises CourseError as `ask_file`
    and `judge_of` do.
    """
    return ask_file(judge_of(adapter), path, out, columns)


def judge_of(adapter: str | Path) -> Judge:
    """Return the judge of a saved adapter. Raises CourseError if the folder is not an adapter."""
    card = models.read_card(adapter)
    task = models.task_of(card)

    def load() -> Ask:
        loaded = models.load(models.catalogue.of_adapter(card["base"]["name"]))
        return lambda rows: before_and_after(loaded, task, adapter, rows)

    return Judge(task, load, {part: files.sha256_of_file(Path(adapter) / part) for part in PARTS})


def ask_file(
    judge: Judge,
    path: str | Path,
    out: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    write: Write = _print,
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
    count = sum(1 for _ in data.stream(judge.task, path, columns, labelled=False))

    def rows() -> Iterator[dict]:
        yield from data.stream(judge.task, path, columns, labelled=False)
        if _stamp(path) != stamp:
            raise CourseError(f"{path} changed while it was read. Run the command again.")

    return ask_rows(judge, rows(), out, write, count)


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
    shards = _shards(rows, count)
    if out is None:
        ask, done = judge.load(), 0
        write(table_header(judge.task))
        for shard in shards:
            write(table_lines(judge.task, shard, *ask(shard)))
            done += len(shard)
        return done
    _check_out(out)
    out = Path(out)
    folder = out.with_name(f".{out.name}.partial")
    log = Log(folder / "predictions.jsonl")
    try:
        with files.lock(log.path, timeout_s=0):
            with files.report_full_disk(out), open(folder / "whole.csv", "w", encoding="utf-8", newline="") as whole:
                whole.write(table_header(judge.task))
                done = _ask_with_log(judge, shards, log, count, whole.write, write)
                whole.flush()
                os.fsync(whole.fileno())
            os.replace(whole.name, out)
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        raise CourseError(f"Another command is writing {out}. Wait for it, or name another file.") from None
    return done


def _ask_with_log(
    judge: Judge,
    shards: Iterable[list[dict]],
    log: Log,
    count: int | None,
    write_table: Write,
    write_message: Write,
) -> int:
    """Write the table of every shard, from the log as far as it fits, and return the number of rows."""
    depends_on = {**judge.depends_on, "version": __version__}
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
                ask = judge.load()
            kept = iter(())
            entry = {"key": key, "table": table_lines(judge.task, rows, *ask(rows))}
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


def _check_out(out: str | Path | None) -> None:
    """Raise CourseError, before anything is asked, if the result cannot be written to `out`."""
    if out is not None and (Path(out).is_dir() or not Path(out).name):
        raise CourseError(f"--out {out} is a folder. Name a file.")


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when the file is written: its size in bytes and the time of the last change in ns."""
    return path.stat().st_size, path.stat().st_mtime_ns
