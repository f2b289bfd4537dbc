"""Arms on disk: kept under a hash of all that decides their answers, found again, repaired from the backup.

runs/arms/<hash>/arm.json             what was asked, who answered and when
runs/arms/<hash>/predictions.csv      a line for each test row, safe to open in a spreadsheet
runs/arms/<hash>.partial*.jsonl       answers of an interrupted evaluation, one file for each process
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from filelock import FileLock

from llmcourse._base import files, hardware
from llmcourse._base.errors import CourseError
from llmcourse._base.spreadsheet import table, unguarded
from llmcourse.data.tasks import Task
from llmcourse.experiment import metrics
from llmcourse.experiment.arms import Arm
from llmcourse.experiment.backup import Backup
from llmcourse.predict import Generated, Predictions, Scored
from llmcourse.predict.journal import Journal


class ArmStore:
    """Keeps the arms of one test set in a folder, with a lock for each and a copy of each in the backup."""

    def __init__(self, folder: str | Path, task: Task, test: Sequence[Mapping], backup: str | Path | None = None):
        self.folder, self.task, self.test = Path(folder), task, test
        self.backup = Backup(self.folder, backup)
        self.backup.restore()

    def folder_of(self, spec: dict[str, Any]) -> Path:
        """Return where the arm of this spec is kept."""
        return self.folder / "arms" / files.short_hash(spec)

    def lock(self, spec: dict[str, Any]) -> FileLock:
        """Return the lock for an arm: of two runs that want it, one asks, and the other waits and finds it."""
        return files.lock(self.folder_of(spec))

    def find(self, spec: dict[str, Any], name: str) -> Arm | None:
        """Return the kept arm of this spec under this name, or None. A damaged one is set aside."""
        folder = self.folder_of(spec)
        if not self.check(folder, "The rows are answered again."):
            return None
        entry = json.loads((folder / "arm.json").read_text(encoding="utf-8"))
        predictions = read_predictions(folder / "predictions.csv", self.task, self.test, entry)
        return Arm(
            name,
            entry["kind"],
            entry["spec"],
            predictions,
            self.score(predictions),
            example=entry["example"],
            training=entry["training"],
            adapter=self.folder / entry["adapter"] if entry["adapter"] else None,
            folder=folder,
            answered=entry.get("answered"),
        )

    def keep(self, arm: Arm) -> Arm:
        """Write an arm to its folder and to the backup, and remove what an interrupted evaluation left of it."""
        arm.folder = self.folder_of(arm.spec)
        journals = self._journals(arm.spec)
        # who answered: results.json is often written later, by another process
        arm.answered = {
            "date": hardware.now(),
            "machine": hardware.detect().as_dict(),
            "versions": hardware.versions(),
            **({"processes": len(journals)} if len(journals) > 1 else {}),
        }
        with files.folder_aside(arm.folder) as aside:
            files.write_text(aside / "predictions.csv", predictions_csv(self.task, self.test, arm.predictions))
            files.write_json(
                aside / "arm.json",
                {
                    "name": arm.name,
                    "kind": arm.kind,
                    "spec": arm.spec,
                    "seconds": arm.predictions.seconds,
                    "cut_rows": arm.predictions.cut_rows,
                    "bias": arm.predictions.bias if isinstance(arm.predictions, Scored) else None,
                    "example": arm.example,
                    "training": arm.training,
                    "adapter": os.path.relpath(arm.adapter, self.folder) if arm.adapter else None,
                    "answered": arm.answered,
                },
            )
        self.backup.keep(arm.folder)
        for journal in journals:
            journal.unlink(missing_ok=True)
        return arm

    def entries(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield spec and name of every kept arm, oldest first. A damaged one is set aside and left out."""
        paths = (self.folder / "arms").glob("*/arm.json")
        for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path)):
            # a dot: half written, by another process or one that was killed
            if path.parent.name.startswith((".", "damaged-")):
                continue
            if self.check(path.parent, "The method is left out."):
                entry = json.loads(path.read_text(encoding="utf-8"))
                yield entry["spec"], entry["name"]

    def journal(self, spec: dict[str, Any], process: int = 0) -> Journal:
        """Return a process's journal of an arm. It knows all answers that an interrupted evaluation left, of any
        process."""
        left = [Journal(path) for path in self._journals(spec)]
        number = f".{process}" if process else ""
        folder = self.folder_of(spec)
        journal = Journal(folder.with_name(f"{folder.name}.partial{number}.jsonl"))
        for other in left:
            journal.answers |= other.answers
            journal.seconds = max(journal.seconds, other.seconds)  # they answered at the same time
        return journal

    def _journals(self, spec: dict[str, Any]) -> list[Path]:
        folder = self.folder_of(spec)
        return sorted(folder.parent.glob(f"{folder.name}.partial*.jsonl"))

    def check(self, folder: Path, instead: str) -> bool:
        """Return whether a kept folder is there as it was written.

        A damaged one is set aside, a warning says so and what is done `instead`, and the backup's copy is brought back
        if there is one.
        """
        damage = files.find_damage(folder) if folder.is_dir() else ""
        if damage:
            files.set_aside(folder, damage, instead)
            self.backup.restore()
        return folder.is_dir()

    def score(self, predictions: Predictions) -> metrics.Score:
        """Return how good predictions for the test rows are."""
        gold = [row["label"] for row in self.test]
        return metrics.evaluate(gold, predictions.labels, self.task.labels, self.groups())

    def groups(self) -> list[str] | None:
        """Return the group of each test row; None if the task has no groups."""
        column = self.task.group_column
        return [row[column] for row in self.test] if column else None


def predictions_csv(task: Task, rows: Sequence[Mapping], predictions: Predictions) -> str:
    """Return a line for each row: its number in its file, gold and predicted label, and the raw text or
    log-probabilities."""
    more: list[str] = []
    columns: list[list[Any]] = [[] for _ in rows]
    if isinstance(predictions, Scored):
        more = [f"logprob {word}" for word in task.labels]
        columns = [[Decimal(f"{value:.6f}") for value in logprobs] for logprobs in predictions.logprobs]
    elif isinstance(predictions, Generated):
        more, columns = ["text"], [[text] for text in predictions.texts]
    lines: list[list[Any]] = [["row", "gold", "predicted", *more]]
    for row, label, values in zip(rows, predictions.labels, columns, strict=True):
        predicted = "" if label is None else task.labels[label]
        lines.append([row[task.number_column], task.labels[row["label"]], predicted, *values])
    return table(lines)


def read_predictions(path: Path, task: Task, rows: Sequence[Mapping], entry: Mapping[str, Any]) -> Predictions:
    """Return what `predictions_csv` wrote; `entry` holds the seconds, the bias and the number of cut rows.

    Raises CourseError when the file answers other rows.
    """
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    if [unguarded(line["gold"]) for line in lines] != [task.labels[row["label"]] for row in rows]:
        raise CourseError(f"{path} answers other rows than these. Delete {path.parent} and run again.")
    numbers: dict[str, int | None] = {"": None, **{word: label for label, word in enumerate(task.labels)}}
    labels = [numbers[unguarded(line["predicted"])] for line in lines]
    columns = [name for name in lines[0] if name.startswith("logprob ")]
    cut = entry.get("cut_rows", 0)  # versions before this field cut nothing
    if columns:
        logprobs = [[float(line[name]) for name in columns] for line in lines]
        chosen = [label for label in labels if label is not None]  # a scored answer is always valid
        return Scored(chosen, entry["seconds"], logprobs, entry["bias"], cut_rows=cut)
    if "text" in lines[0]:
        return Generated(labels, entry["seconds"], [unguarded(line["text"]) for line in lines], cut_rows=cut)
    return Predictions(labels, entry["seconds"])
