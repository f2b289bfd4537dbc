"""An arm: one method that answered the test rows, with its answers and how good they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse.experiment.metrics import Score
from llmcourse.predict import Predictions, describe_cut
from llmcourse.training import training_notes


@dataclass
class Arm:
    """A method that answered the test rows: what it was, what it answered, and how well."""

    name: str
    kind: str
    """"baseline", "prompted" or "finetuned"."""
    spec: dict[str, Any]
    """All that decided the answers."""
    predictions: Predictions
    score: Score
    example: str | None = None
    """The answer to the task's example row, in words."""
    training: dict[str, Any] | None = None
    """Seconds, steps, losses and trained parameters (finetuned arms)."""
    adapter: Path | None = None
    folder: Path | None = None
    """Where the arm is kept."""
    answered: dict[str, Any] | None = None
    """When, on which machine and with which versions the answers were given."""

    def __str__(self) -> str:
        invalid = f", {self.score.invalid} invalid" if self.score.invalid else ""
        macro = f", macro-F1 {self.score.macro_f1:.2f}" if self.score.uneven else ""
        return f"{self.name:<32} {self.score.accuracy:6.1%}   {self.score.interval}{macro}{invalid}"

    @property
    def notes(self) -> list[str]:
        """What the reader should know besides the numbers, such as texts that were cut. A sentence or two each."""
        notes = training_notes(self.training, self.training["recipe"]) if self.training else []
        if cut := self.predictions.cut_rows:
            description = describe_cut(cut, self.score.n, "test rows", self.spec["prompt"]["max_length"])
            notes.append(f"{description} Training cuts its rows in the same way.")
        if "peft_config" in self.spec:
            notes.append("The adapter has no card, so it is not known whether it was trained on test rows.")
        return notes

    @property
    def seconds_per_row(self) -> float:
        return self.predictions.seconds / self.score.n

    def as_dict(self) -> dict[str, Any]:
        """Return the arm's entry in results.json."""
        entry = {
            "name": self.name,
            "kind": self.kind,
            **self.score.as_dict(),
            "seconds_per_row": round(self.seconds_per_row, 5),
            "answered": self.answered,
        }
        if self.training:
            entry["training_seconds"] = round(self.training["seconds"], 1)
            entry["trained_parameters"] = self.training["trainable"]
        return {**entry, "notes": self.notes} if self.notes else entry


@dataclass(frozen=True)
class PairedTest:
    """Two arms on the same rows, and the exact paired test between them."""

    arm: Arm
    against: Arm
    p: float
    """Probability of a difference at least this large if both arms were right equally often."""

    def __str__(self) -> str:
        return f"{self.arm.name} against {self.against.name:<32} p = {self.p:.2g}"

    def as_dict(self) -> dict[str, Any]:
        """Return the test's entry in results.json."""
        return {"a": self.arm.name, "b": self.against.name, "p": self.p}
