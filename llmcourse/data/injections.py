"""Prompt injections: what a stranger may write into a comment so that a classifier answers what he wants.

100 texts of 16 kinds, each beside a harmless one of about the same length: an answer may change because of an order, or because of any
addition, and without the harmless text nobody can tell which. They come with the package; `corpora/README.md` is their card.
"""

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True)
class Injection:
    """One text that wants a label, and its control."""

    kind: str
    text: str
    """Has {label} where the wanted label word stands."""
    harmless: str
    """Wants nothing, and is about as long."""

    def wanting(self, label: str) -> str:
        """The text that wants this label word."""
        return self.text.replace("{label}", label)  # not str.format: some of the texts have braces of their own


@lru_cache(maxsize=1)
def load() -> tuple[Injection, ...]:
    """All of them, kind after kind."""
    with (resources.files("llmcourse.data") / "corpora" / "injections.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Injection(**row) for row in csv.DictReader(file))
