"""Answers kept row by row while they come, so that an interrupted evaluation goes on where it stopped."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmcourse._base import files


class Journal:
    """What is already known: row index -> answer, in memory, and in a file if a path is given.

    The file holds one JSON line a batch, with a check value. A line that was cut short, by a kill or a full disk, is not read and is
    written over. So is a line that has changed since, with what follows it, and files.Damaged says so.
    """

    def __init__(self, path: str | Path | None = None):
        self.path = Path(path) if path else None
        self.answers: dict[int, Any] = {}
        self.seconds = 0.0
        """Time that all batches took, those of interrupted runs included."""
        if self.path and self.path.is_file():
            self._read()

    def _read(self) -> None:
        whole = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # cut short
                try:
                    entry = json.loads(line)
                    if entry.pop("check") != files.short_hash(entry):
                        raise ValueError("changed")
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    said = f"{self.path}, line {number}: it has changed since it was written. Answers from there on are asked again."
                    warnings.warn(said, files.Damaged, stacklevel=3)
                    break
                self.answers |= {int(row): answer for row, answer in entry["answers"].items()}
                self.seconds += entry["seconds"]
                whole += len(line)
        os.truncate(self.path, whole)

    def add(self, answers: Mapping[int, Any], seconds: float) -> None:
        """Keep a batch; it is on the disk when this returns."""
        self.answers |= answers
        self.seconds += seconds
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            entry = {"seconds": seconds, "answers": {str(row): answer for row, answer in answers.items()}}
            entry["check"] = files.short_hash(entry)
            with files.full_disk_told(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(json.dumps(entry, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def remove(self) -> None:
        """The answers are kept elsewhere now."""
        if self.path:
            self.path.unlink(missing_ok=True)
