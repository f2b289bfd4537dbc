"""Prompt designs of notebook 02: everything that a prompt can change, as the fields of one object.

`benchmarks/prompting.py` measures one change after another, and the notebook builds the same prompts again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from llmcourse import data
from llmcourse.data.tasks import SARCASM, SENTIMENT, Task
from llmcourse.predict.prompts import Chat, Prompt, few_shots

EXAMPLES = 60
"""Training rows that may be examples, equally many of each label. The others choose between prompts."""

WORDS = {
    SENTIMENT.name: {
        "as in the talk": SENTIMENT.labels,
        "capitalised": ("Neutral", "Negative", "Positive"),
        "everyday words": ("okay", "bad", "good"),
        "numbers": ("1", "2", "3"),
    },
    SARCASM.name: {
        "as in the talk": SARCASM.labels,
        "capitalised": SARCASM.labels,
        "everyday words": ("honest", "sarcastic"),
        "numbers": ("1", "2"),
    },
}
"""Label words of each task, in the order of its labels."""

INSTRUCTIONS = {
    SENTIMENT.name: {
        "short": SENTIMENT.instruction,
        "long": (
            "You are an expert in sentiment analysis. You read short texts from reviews, messages and posts. Your task"
            " is to decide how the writer feels about what they describe. Read the whole text first. A text that only"
            " states facts, or in which good and bad are in balance, is neutral. Classify the text into one of these"
            " categories:"
        ),
    },
    SARCASM.name: {"short": "Classify the reply into one of these categories:", "long": SARCASM.instruction},
}
"""Instructions of each task, which a list of the label words follows."""


@dataclass(frozen=True)
class Design:
    """How to write a prompt, for any of the two tasks. The defaults are the reference prompt of notebook 02."""

    shots: int = 3
    """Number of examples."""
    draw: int = 0
    """Seed that chooses the examples."""
    order: int = 0
    """Which of all orders the examples have. 0 is the order in which they were drawn."""
    wrong_labels: bool = False
    """Whether each example has another label than its own."""
    words: str = "as in the talk"
    """Label words: a key of `WORDS`."""
    instruction: str = "short"
    """A key of `INSTRUCTIONS`, "talk" for one sentence that names the labels, or "none"."""
    separators: str = "####"
    """What separates the sections: "####", "blank lines" or "none"."""
    chat: Chat = False
    """Whether to use the model's chat format, and how (see `Prompt.chat`)."""

    def prompt(self, task: Task, examples: Sequence[Mapping[str, Any]]) -> Prompt:
        """Return the prompt for a task, with some of these `examples`."""
        shots = few_shots(task, examples, self.shots, self.draw)
        order = list(permutations(range(len(shots))))[self.order] if self.order else range(len(shots))
        change = int(self.wrong_labels)
        shots = tuple({**shots[place], "label": (shots[place]["label"] + change) % len(task.labels)} for place in order)
        labels = WORDS[task.name][self.words]
        instruction = INSTRUCTIONS[task.name].get(self.instruction, "")
        if self.instruction == "talk":  # the talk's prompt: "Classify the text into neutral, negative or positive."
            instruction = f"Classify the {list(task.fields.values())[-1].lower()} into {', '.join(labels[:-1])}"
            instruction += f" or {labels[-1]}."
        task = replace(task, labels=labels, instruction=instruction or task.instruction)
        return DesignedPrompt(
            task,
            shots,
            self.instruction != "none",
            chat=self.chat,
            separators=self.separators,
            listed=self.instruction != "talk",
        )


@dataclass(frozen=True)
class DesignedPrompt(Prompt):
    """A prompt with other separators, or without the list of labels after the instruction."""

    separators: str = "####"
    listed: bool = True

    def head(self) -> str:
        """Return the part of the prompt that all rows share."""
        head = super().head()
        if not self.listed:
            head = head.replace("\n" + "\n".join(self.task.labels), "", 1)
        if self.separators == "blank lines":
            head = head.removeprefix("####\n").replace("\n####\n", "\n")
        if self.separators == "none":
            head = re.sub(r"\n(####\n|\n)*", "\n", head.removeprefix("####\n"))
        return head


def split(task: Task, train: Sequence[Mapping[str, Any]]) -> tuple[list[dict], list[Mapping[str, Any]]]:
    """Return the training rows that may be examples, and the other ones, on which prompts are chosen."""
    train = data.in_order(task, train)
    examples = few_shots(task, train, EXAMPLES)
    taken = {data.rows_id(task, [row]) for row in examples}
    return list(examples), [row for row in train if data.rows_id(task, [row]) not in taken]


@dataclass(frozen=True)
class WrittenPrompt(Prompt):
    """A prompt that begins with a text of your own. The row follows on the next line."""

    beginning: str = ""

    def head(self) -> str:
        """Return the part of the prompt that all rows share."""
        return f"{self.beginning}\n" if self.beginning else ""


def labels_of(point: Mapping[str, Any]) -> list[int | None]:
    """Return the labels of a point of the results file, one for each row in `data.in_order`. None is invalid."""
    return [None if label == "x" else int(label) for label in point["labels"]]
