"""Answers kept row by row while they come, so that an interrupted evaluation goes on where it stopped."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """What is already known: row index -> answer, in memory, and in a file if a path is given.

    The file holds one JSON line a batch. A line that was cut short, by a kill or a full disk, and what follows it, is not
    read and is written over.
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
            for line in file:
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("cut short")
                    entry = json.loads(line)
                    answers = {int(row): answer for row, answer in entry["answers"].items()}
                    self.seconds += float(entry["seconds"])
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                    break
                self.answers |= answers
                whole += len(line)
        os.truncate(self.path, whole)

    def add(self, answers: Mapping[int, Any], seconds: float) -> None:
        """Keep a batch; it is on the disk when this returns."""
        self.answers |= answers
        self.seconds += seconds
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(json.dumps({"seconds": seconds, "answers": answers}, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def remove(self) -> None:
        """The answers are kept elsewhere now."""
        if self.path:
            self.path.unlink(missing_ok=True)
