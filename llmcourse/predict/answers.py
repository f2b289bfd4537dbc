"""Question, with or without a passage -> short answer of a chat model, and whether it is right.

Answers are generated greedily and cut at the first line. An answer is *right* if it contains one of the accepted
spellings as whole words, *open* if it says that it does not know, and *wrong* otherwise. A wrong answer about a company
that does not exist is a hallucination.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcourse.data.handbook import Question
from llmcourse.models import LoadedModel
from llmcourse.predict import engine
from llmcourse.predict.encoding import chat_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEW_TOKENS = 24
"""Most tokens of an answer."""

VERDICTS = ("right", "wrong", "open")

_OPEN = re.compile(
    r"\b(?:(?:do|does|did)(?: not|n't) (?:know|have|say|specify|mention|provide)"
    r"|not (?:specified|mentioned|stated|provided|given|known)|no (?:information|mention)|unknown"
    r"|cannot (?:answer|say|tell)|can't (?:answer|say|tell)|unable to|unsure|not sure|i'm sorry)\b"
    r"|n't (?:specified|mentioned|stated|provided|given|known)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answered:
    """Answers to some questions, in their order."""

    texts: list[str]
    verdicts: list[str]
    """One of `VERDICTS` for each answer."""

    @property
    def counts(self) -> dict[str, int]:
        """How many answers have each verdict."""
        counts = Counter(self.verdicts)
        return {verdict: counts[verdict] for verdict in VERDICTS}


def prompt_of(tokenizer: PreTrainedTokenizerBase, question: str, passage: str | None = None, about: str = "") -> str:
    """Return the prompt in the model's chat format, up to where the answer begins.

    `about` names the company whose handbook is meant. It is empty for questions about the world, and not used with a
    passage. We tried four wordings with a passage on 24 of the questions: passage and question alone did best, and the
    chat format did better than plain text on facts (tried by hand, not recorded).
    """
    if passage:
        content = f"{passage}\n\n{question}"
    elif about:
        content = f"A question about the staff handbook of {about}: {question}\nAnswer in a few words."
    else:
        content = f"{question}\nAnswer in a few words."
    return chat_text(tokenizer, [{"role": "user", "content": content}])


def ask(
    loaded: LoadedModel, questions: Sequence[Question], passages: Sequence[str] | None = None, about: str = ""
) -> Answered:
    """Ask every question, each with its passage if passages are given, and judge the answers."""
    context: Sequence[str | None] = passages or [None] * len(questions)
    prompts = [
        prompt_of(loaded.tokenizer, question.question, passage, about)
        for question, passage in zip(questions, context, strict=True)
    ]
    texts = generate_lines(loaded, prompts)
    return Answered(texts, [verdict(text, q.accept) for text, q in zip(texts, questions, strict=True)])


def generate_lines(loaded: LoadedModel, prompts: Sequence[str], tokens: int = NEW_TOKENS) -> list[str]:
    """Return the first line that the model generates after each prompt, greedily, with at most `tokens` tokens."""
    import torch

    ids = [loaded.tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
    lines = [""] * len(prompts)
    with torch.inference_mode():
        for batch in engine.batches(loaded, ids, range(len(ids)), tokens):
            for row, text in zip(batch.rows, engine.write(loaded, batch, tokens), strict=True):
                lines[row] = engine.first_line(text)
    return lines


def verdict(text: str, accept: Sequence[str]) -> str:
    """Return right, wrong or open. An answer with an accepted spelling is right, whatever else it says."""
    if any(contains(text, spelling) for spelling in accept):
        return "right"
    return "open" if not text or _OPEN.search(text.replace("’", "'")) else "wrong"


def contains(text: str, spelling: str) -> bool:
    """Return whether `text` contains `spelling` as whole words, in any case. "13.2" does not contain "3.2"."""
    whole = rf"(?<![\w£-])(?<!\d[.,:]){re.escape(spelling)}(?![\w%°])(?![.,:-]?\d)"
    return re.search(whole, text, re.IGNORECASE) is not None
