"""Predictions for a file of any length: read, asked and kept shard by shard, so that memory is bounded and a restart goes on.

Each shard's predictions go whole into a folder beside the result, under a name that holds their hash. What they belong to lies there too:
the file's hash, the adapter's, the columns. Parts that belong to something else, or have changed since, are not taken.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from llmcourse.predict.asking import Scored

SHARD_ROWS = 500
"""Rows a shard: what a kill can cost, some ten seconds to a minute of a CPU."""

Ask = Callable[[list[dict]], tuple[Scored, Scored]]
"""Rows -> predictions before and after finetuning (`predict.before_and_after`)."""


def head(task: Task) -> str:
    """The first line of a table of predictions."""
    return table([["row", "before", "before_probability", "after", "after_probability", *task.columns]])


def lines(task: Task, rows: Sequence[Mapping], before: Scored, after: Scored) -> str:
    """A line a row: its number, label and probability before and after finetuning, its texts. Safe in a spreadsheet."""
    written = []
    for place, row in enumerate(rows):
        answers: list = []
        for predictions in (before, after):
            word = task.labels[predictions.labels[place]]
            answers += [word, Decimal(f"{predictions.probability(place):.4f}")]
        written.append([row["row"], *answers, *(row[column] for column in task.columns)])
    return table(written)


def predict_file(
    task: Task,
    path: str | Path,
    load: Callable[[], Ask],
    out: str | Path | None,
    belongs: Mapping[str, Any],
    columns: Mapping[str, str] | None,
    write: Callable[[str], Any],
) -> int:
    """Predict every row of a file into the CSV file `out`, or hand the table to `write` as it comes. Returns the number of rows.

    `load()` is called once the whole file is known to be readable, and only if there is something left to ask. `belongs` says what the
    answers depend on besides the file. Raises CourseError, as `data.read_all`, for the first row that cannot be used.
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

    def unchanged() -> None:
        if _stamp(path) != stamp:
            raise CourseError(f"{path} changed while it was read. Run the command again.")

    count = sum(1 for _ in data.stream(task, path, columns, labelled=False))
    shards = _shards(task, path, columns, count)
    if out is None:
        ask = load()
        write(head(task))
        for rows in shards:
            write(lines(task, rows, *ask(rows)))
        unchanged()
    else:
        belongs = {
            **belongs,
            "file": files.sha256_of_file(path),
            "columns": dict(columns or {}),
            "shard_rows": SHARD_ROWS,
            "version": __version__,
        }
        _into_parts(task, shards, count, load, unchanged, out, belongs, write)
    return count


def _stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


def _shards(task: Task, path: Path, columns, count: int) -> Iterator[list[dict]]:
    with tqdm(desc="predicting", total=count, unit="row", leave=False, disable=None) as bar:
        rows = data.stream(task, path, columns, labelled=False)
        while shard := list(islice(rows, SHARD_ROWS)):
            yield shard
            bar.update(len(shard))


def _into_parts(task: Task, shards, count: int, load, unchanged, out: Path, belongs: dict, write) -> None:
    folder = out.with_name(f".{out.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with files.lock(folder / "writing", timeout_s=0):
            parts = _kept(folder, belongs, write)
            if parts:
                done = min(len(parts) * SHARD_ROWS, count)
                write(f"Going on after row {done:,} of {count:,}: {len(parts):,} parts were kept in {folder}.\n")
            ask = None
            for number, rows in enumerate(shards):
                if number < len(parts):
                    continue
                ask = ask or load()
                text = lines(task, rows, *ask(rows))
                parts.append(files.write_text(folder / _part_name(number, text), text))
            unchanged()
            _join(head(task), parts, out)
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        raise CourseError(f"Another command is writing {out}. Wait for it, or name another file.") from None


def _part_name(number: int, text: str) -> str:
    return f"{number + 1:06}-{files.short_hash(text)}.csv"


def _kept(folder: Path, belongs: dict, write) -> list[Path]:
    """The parts that an interrupted run left, up to the first that is missing or has changed. Others are removed."""
    mark = folder / "belongs.json"
    try:
        same = json.loads(mark.read_text(encoding="utf-8")) == belongs
    except (OSError, ValueError, RecursionError):
        same = False
    found = sorted(folder.glob("*.csv"))
    kept: list[Path] = []
    for part in found if same else ():
        text = part.read_bytes().decode("utf-8", errors="replace")
        if part.name != _part_name(len(kept), text):
            break
        kept.append(part)
    for part in set(found) - set(kept):
        part.unlink()
    if found and not same:
        write(
            f"What was kept in {folder} belongs to another file, adapter or columns. It is left out, and all rows are predicted.\n"
        )
    if not same:
        files.write_json(mark, belongs)
    return kept


def _join(first: str, parts: Sequence[Path], out: Path) -> None:
    """One file of all parts, whole or not there, without holding it in memory."""
    aside = out.with_name(f".{out.name}.parts") / "whole"
    with files.full_disk_told(out), open(aside, "wb") as whole:
        whole.write(first.encode())
        for part in parts:
            with open(part, "rb") as file:
                shutil.copyfileobj(file, whole)
        whole.flush()
        os.fsync(whole.fileno())
    os.replace(aside, out)
