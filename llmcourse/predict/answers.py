"""Question, with a passage or without -> short answer of a chat model, checked against the answers that count.

Greedy and cut at the first line. An answer is *right* when it holds one of the accepted spellings as whole words, *open* when it says
that it does not know, and *wrong* otherwise: a wrong answer about a company that does not exist is an invention.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llmcourse.data.handbook import Question
from llmcourse.models import LoadedModel
from llmcourse.predict import engine

NEW_TOKENS = 24
VERDICTS = ("right", "wrong", "open")

_OPEN = re.compile(
    r"\b(?:(?:do|does|did)(?: not|n't) (?:know|have|say|specify|mention|provide)|not (?:specified|mentioned|stated|provided|given|known)"
    r"|no (?:information|mention)|unknown|cannot (?:answer|say|tell)|can't (?:answer|say|tell)|unable to|unsure|not sure|i'm sorry)\b"
    r"|n't (?:specified|mentioned|stated|provided|given|known)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answered:
    """Answers to some questions, in their order."""

    texts: list[str]
    verdicts: list[str]
    """One of `VERDICTS` for each."""

    @property
    def counts(self) -> dict[str, int]:
        """How many answers got each verdict."""
        found = Counter(self.verdicts)
        return {verdict: found[verdict] for verdict in VERDICTS}


def prompt_of(tokenizer, question: str, passage: str | None = None, about: str = "") -> str:
    """The prompt as the chat format has it, ending where the answer begins.

    `about` names the company whose handbook is meant; it is left out for questions about the world, and where a passage stands before
    the question. Of four wordings tried with a passage on 24 of the questions, passage and question alone did best, and chat better than plain
    text on facts (tried by hand, not recorded).
    """
    if passage:
        asked = f"{passage}\n\n{question}"
    elif about:
        asked = f"A question about the staff handbook of {about}: {question}\nAnswer in a few words."
    else:
        asked = f"{question}\nAnswer in a few words."
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
    )


def ask(
    loaded: LoadedModel, questions: Sequence[Question], passages: Sequence[str] | None = None, about: str = ""
) -> Answered:
    """Ask every question, each with its passage if there are any. Greedy; a few rows at a time, padded on the left."""
    given = passages or [None] * len(questions)
    prompts = [
        prompt_of(loaded.tokenizer, question.question, passage, about)
        for question, passage in zip(questions, given, strict=True)
    ]
    texts = written(loaded, prompts)
    return Answered(texts, [verdict(text, q.accept) for text, q in zip(texts, questions, strict=True)])


def written(loaded: LoadedModel, prompts: Sequence[str], tokens: int = NEW_TOKENS) -> list[str]:
    """What the model writes after each prompt: the first line, at most `tokens` tokens, always the likeliest one."""
    import torch

    ids = [loaded.tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
    lines = [""] * len(prompts)
    with torch.inference_mode():
        for batch in engine.batches(loaded, ids, range(len(ids))):
            for row, text in zip(batch.rows, engine.write(loaded, batch, tokens), strict=True):
                lines[row] = engine.first_line(text)
    return lines


def verdict(text: str, accept: Sequence[str]) -> str:
    """right, wrong or open; an answer that holds an accepted spelling is right, whatever else it says."""
    if any(says(text, spelling) for spelling in accept):
        return "right"
    return "open" if not text or _OPEN.search(text.replace("’", "'")) else "wrong"


def says(text: str, spelling: str) -> bool:
    """Whether `spelling` stands in `text` as whole words, in any case; "3.2" is not said by "13.2", nor "31" by "31.5"."""
    whole = rf"(?<![\w£-])(?<!\d[.,:]){re.escape(spelling)}(?![\w%°])(?![.,:-]?\d)"
    return re.search(whole, text, re.IGNORECASE) is not None
