"""Answers written to disk as they come, so that an interrupted evaluation continues where it stopped.

`Journal` holds an experiment's answers row by row. `Log` is the file below it, which can also be read entry by entry in
bounded memory, as predictions for a file of any length need it (`shards`).
"""

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmcourse._base import files


class Log:
    """A file of JSON objects, one a line, each with a check value.

    A line that was cut short, by a kill or a full disk, is not read and is written over. So is a line that has changed
    since, with all lines after it, and a files.Damaged warning says so.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._end = 0
        """Bytes of the entries that were read or appended. What follows them is written over."""

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries as they were appended. An entry counts as read once the next one is asked for."""
        self._end = 0
        if not self.path.is_file():
            return
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # cut short
                try:
                    entry = json.loads(line)
                    if entry.pop("check") != files.short_hash(entry):
                        raise ValueError("changed")
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    message = f"{self.path}, line {number} has changed since it was written."
                    message += " Answers from there on are asked again."
                    warnings.warn(message, files.Damaged, stacklevel=3)
                    return
                yield entry
                self._end += len(line)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write an entry after those that were read; it is on the disk when this returns."""
        line = json.dumps({**entry, "check": files.short_hash(entry)}, allow_nan=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with files.report_full_disk(self.path), open(self.path, "ab") as file:
            if file.tell() > self._end:
                file.truncate(self._end)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._end += len(line)


class Journal:
    """Row index -> answer, in memory, and in a log if a path is given."""

    def __init__(self, path: str | Path | None = None):
        self._log = Log(path) if path else None
        self.answers: dict[int, Any] = {}
        self.seconds = 0.0
        """Time that all batches took, those of interrupted runs included."""
        for entry in self._log.entries() if self._log else ():
            self._take(entry["answers"], entry["seconds"])

    @property
    def path(self) -> Path | None:
        """The log's file, or None if the answers are in memory only."""
        return self._log.path if self._log else None

    def add(self, answers: Mapping[int, Any], seconds: float) -> None:
        """Keep the answers of a batch."""
        self._take(answers, seconds)
        if self._log:
            self._log.append({"seconds": seconds, "answers": {str(row): answer for row, answer in answers.items()}})

    def remove(self) -> None:
        """Delete the file, because the answers are kept elsewhere now."""
        if self._log:
            self._log.path.unlink(missing_ok=True)

    def _take(self, answers: Mapping[Any, Any], seconds: float) -> None:
        self.answers |= {int(row): answer for row, answer in answers.items()}
        self.seconds += seconds
