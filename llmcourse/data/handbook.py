"""The handbook of an invented company, questions about it, and general passages and facts to compare with.

Everything in the handbook is invented, so no model can have read it. A right answer came from the passage, or from
training on it. All of it comes with the package. `corpora/README.md` describes it.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llmcourse.data.sources import corpus_path


@dataclass(frozen=True)
class Passage:
    """One page of text."""

    title: str
    text: str
    id: str = ""
    held_out: bool = False
    """Not trained on, so that perplexity on it shows what was learned about the handbook in general."""

    @property
    def whole(self) -> str:
        """Return title and text, as a retriever indexes them and as training reads them."""
        return f"{self.title}\n{self.text}"


@dataclass(frozen=True)
class Question:
    """A question with one short answer."""

    question: str
    answer: str
    accept: tuple[str, ...]
    """The spellings that count as this answer."""
    id: str = ""
    passage: str = ""
    """The id of the passage that holds the answer; empty for general facts."""
    paraphrase: str = ""
    """The same question in other words."""


@dataclass(frozen=True)
class Handbook:
    """The company's name, its passages and the questions about them."""

    company: str
    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]

    @property
    def seen(self) -> list[Passage]:
        """Return the passages that training may read."""
        return [passage for passage in self.passages if not passage.held_out]

    @property
    def unseen(self) -> list[Passage]:
        """Return the passages that are never trained on."""
        return [passage for passage in self.passages if passage.held_out]

    def passage(self, question: Question) -> Passage:
        """Return the passage that answers a question."""
        return self.passages[self.place(question)]

    def place(self, question: Question) -> int:
        """Return the index of that passage in `passages`."""
        return next(index for index, passage in enumerate(self.passages) if passage.id == question.passage)


@lru_cache(maxsize=1)
def load() -> Handbook:
    """Load the handbook of Veldershaw Instruments: 60 passages, 12 of them held out, and a question about each."""
    corpus = _read("handbook.json")
    return Handbook(corpus["company"], _passages(corpus["passages"]), _questions(corpus["questions"]))


@lru_cache(maxsize=1)
def general() -> tuple[tuple[Passage, ...], tuple[Question, ...]]:
    """Load 16 passages about the world in general, and 80 facts that many people know, as questions."""
    corpus = _read("general.json")
    return _passages(corpus["passages"]), _questions(corpus["facts"])


def _read(name: str) -> dict[str, Any]:
    return json.loads(corpus_path(name).read_text(encoding="utf-8"))


def _passages(entries: list[dict[str, Any]]) -> tuple[Passage, ...]:
    return tuple(Passage(e["title"], e["text"], e.get("id", ""), e.get("held_out", False)) for e in entries)


def _questions(entries: list[dict[str, Any]]) -> tuple[Question, ...]:
    optional = ("id", "passage", "paraphrase")
    return tuple(
        Question(e["question"], e["answer"], tuple(e["accept"]), **{name: e[name] for name in optional if name in e})
        for e in entries
    )
