"""What a model answers: one label for each row, with the generated text or the labels' log-probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Predictions:
    """One answer for each row, in the order of the rows."""

    labels: Sequence[int | None]
    """Predicted labels. None is an invalid answer."""
    seconds: float
    """Wall time for all rows, including the shared beginnings of their prompts."""
    cut_rows: int = field(default=0, kw_only=True)
    """Rows whose texts were cut to fit the prompt's max_length."""


@dataclass
class Generated(Predictions):
    """Answers that the model wrote freely."""

    texts: list[str]
    """The generated text of each row."""


@dataclass
class Scored(Predictions):
    """Answers that the model chose among the labels. All of them are valid."""

    labels: Sequence[int]
    logprobs: list[list[float]]
    """Log-probability of each label, shape (rows, labels). The probabilities of a row add up to 1."""
    bias: list[float] | None = None
    """Label log-probabilities of the content-free prompt, which calibration subtracted. None without calibration."""

    def probability(self, row: int) -> float:
        """Return the probability of the label that was chosen for a row."""
        return math.exp(self.logprobs[row][self.labels[row]])
