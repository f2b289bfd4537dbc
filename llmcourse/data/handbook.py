"""A company that does not exist: its handbook, questions about it, and what stands against it, general passages and facts.

Everything in the handbook is invented, so no model can have read it: an answer that is right came from the passage or from
training on it. All of it comes with the package; `corpora/README.md` is its card.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True)
class Passage:
    """One page of text."""

    title: str
    text: str
    id: str = ""
    held_out: bool = False
    """Kept out of training, so that the perplexity on it says what was learned about the handbook at large."""

    @property
    def whole(self) -> str:
        """Title and text, as a retriever indexes it and as training reads it."""
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
        """The passages that training may read."""
        return [passage for passage in self.passages if not passage.held_out]

    @property
    def unseen(self) -> list[Passage]:
        """The passages that no training reads."""
        return [passage for passage in self.passages if passage.held_out]

    def passage(self, question: Question) -> Passage:
        """The passage that answers a question."""
        return self.passages[self.place(question)]

    def place(self, question: Question) -> int:
        """Where that passage stands among all passages."""
        return next(place for place, passage in enumerate(self.passages) if passage.id == question.passage)


@lru_cache(maxsize=1)
def load() -> Handbook:
    """The handbook of Veldershaw Instruments: 60 passages, 12 of them held out, and a question about each."""
    said = _read("handbook")
    return Handbook(said["company"], _passages(said["passages"]), _questions(said["questions"]))


@lru_cache(maxsize=1)
def general() -> tuple[tuple[Passage, ...], tuple[Question, ...]]:
    """16 passages about the world at large, and 80 facts that many people know, as questions."""
    said = _read("general")
    return _passages(said["passages"]), _questions(said["facts"])


def _read(name: str) -> dict:
    return json.loads((resources.files("llmcourse.data") / "corpora" / f"{name}.json").read_text(encoding="utf-8"))


def _passages(found: list[Mapping]) -> tuple[Passage, ...]:
    return tuple(Passage(p["title"], p["text"], p.get("id", ""), p.get("held_out", False)) for p in found)


def _questions(found: list[Mapping]) -> tuple[Question, ...]:
    return tuple(
        Question(
            q["question"],
            q["answer"],
            tuple(q["accept"]),
            q.get("id", ""),
            q.get("passage", ""),
            q.get("paraphrase", ""),
        )
        for q in found
    )
