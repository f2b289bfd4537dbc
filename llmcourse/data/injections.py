"""Prompt injections: what a stranger may write into a comment to choose the classifier's answer.

100 texts of 16 kinds, each with a harmless one of about the same length. Any addition may change an answer, so an order
counts only if it changes more answers than its harmless twin does. `corpora/README.md` describes them.
"""

import csv
from dataclasses import dataclass
from functools import lru_cache

from llmcourse.data.sources import corpus_path


@dataclass(frozen=True)
class Injection:
    """A text that asks for a label, and its control."""

    kind: str
    text: str
    """Contains {label} in place of the wanted label word."""
    harmless: str
    """Asks for nothing, and is about as long."""

    def wanting(self, label: str) -> str:
        """Return the text that asks for this label word."""
        return self.text.replace("{label}", label)  # not str.format: some texts have braces of their own


@lru_cache(maxsize=1)
def load() -> tuple[Injection, ...]:
    """Load all injections, sorted by kind."""
    with open(corpus_path("injections.csv"), encoding="utf-8", newline="") as file:
        return tuple(Injection(**row) for row in csv.DictReader(file))
