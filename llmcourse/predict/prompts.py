"""Prompts as plain text (instruction, label words, examples, the row), and reading a label from an answer's text.

The layout follows the talk's prompt: sections separated by ####, examples in the form of the wanted answer, and a line
for doubtful cases. Everything before the row is the same for all rows, so `engine` computes it once.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.data.texts import identity, one_line

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts without content, used by contextual calibration (Zhao et al. 2021, arXiv:2102.09690, section 5). `one_line`
turns the last one into `[ MASK]`, as it does with any text that looks like a control token."""


Chat = bool | Literal["turns"]
"""Whether a prompt is in the model's chat format: False, True for one user message, or "turns" for a conversation in
which the user gives each example and the model has answered with its label."""


@dataclass(frozen=True)
class Prompt:
    """How a task's row becomes a prompt. Frozen and made of plain values, because its hash names kept results."""

    task: Task
    shots: tuple[Mapping[str, Any], ...] = ()
    """Example rows with their labels (few-shot). Empty for zero-shot."""
    instruction: bool = True
    """False leaves only the row's fields and the answer's name: a short prompt for a model that is finetuned on it."""
    fallback: bool = True
    """Whether to add the line "If the text doesn't fit ..., classify it as" (if the task has a fallback)."""
    chat: Chat = False
    """Whether to use the model's chat template, and how."""
    max_length: int | None = None
    """Most tokens of prompt and answer. The texts of a longer row are cut at their ends (see `encoding.fit`). None cuts
    nothing."""

    def __post_init__(self) -> None:
        if self.chat not in (True, False, "turns"):
            raise CourseError(f'chat={self.chat!r:.60} is unknown. Use chat=True, chat=False or chat="turns".')

    @classmethod
    def from_card(cls, card: Mapping[str, Any], task: Task | None = None) -> "Prompt":
        """Return the prompt that an adapter was trained on, by its card. `task` takes the place of the card's."""
        max_length = card.get("recipe", {}).get("max_length")
        return cls(task or Task.from_dict(card["task"]), **card["prompt"], max_length=max_length)

    @property
    def answer_start(self) -> str:
        """The text between prompt and answer: a space after "Category:", nothing of ours after a chat template's
        header (see `encoding.answer_texts`)."""
        return "" if self.chat else " "

    def head(self) -> str:
        """Return the part of the prompt that all rows share. Examples that are turns of a chat are not part of it."""
        shots = () if self.chat == "turns" else self.shots
        if not self.instruction and not shots:
            return ""
        parts = []
        if self.instruction:
            parts.append(self.task.instruction + "\n" + "\n".join(self.task.labels) + "\n")
        if shots:
            examples = "\n".join(self.row(shot) + " " + self.task.labels[shot["label"]] + "\n" for shot in shots)
            parts.append("####\nHere are some examples:\n" + examples)
        if self.instruction and self.fallback and self.task.fallback is not None:
            question = "If the text doesn't fit into any of the above categories, classify it as:\n"
            parts.append(question + self.task.labels[self.task.fallback] + "\n")
        return "\n".join(parts) + "\n####\n"

    def row(self, row: Mapping[str, object]) -> str:
        """Return the row's own part: one line for each field, then the answer's name without a space at the end."""
        lines = [f"{name}: {one_line(row[column])}" for column, name in self.task.fields.items()]
        return "\n".join([*lines, f"{self.task.answer_name}:"])

    def text(self, row: Mapping[str, object]) -> str:
        """Return the whole prompt for a row, before any chat template."""
        return "\n".join(message["content"] for message in self.messages(row))

    def messages(self, row: Mapping[str, object]) -> list[dict[str, str]]:
        """Return the prompt for a row as messages of a chat, which the user begins and ends.

        The instruction is part of the first user message, because some chat templates refuse a system message.
        """
        turns = []
        for shot in self.shots if self.chat == "turns" else ():
            turns.append({"role": "user", "content": self.row(shot)})
            turns.append({"role": "assistant", "content": self.task.labels[shot["label"]]})
        first, *others = [*turns, {"role": "user", "content": self.row(row)}]
        return [{"role": "user", "content": self.head() + first["content"]}, *others]

    def answer(self, label: int) -> str:
        """Return what a perfect model writes after the prompt."""
        return self.answer_start + self.task.labels[label]

    def content_free_rows(self) -> list[dict[str, str]]:
        """Return rows without content, which show the label that the prompt itself prefers."""
        return [dict.fromkeys(self.task.fields, text) for text in CONTENT_FREE]

    def as_dict(self) -> dict:
        """Return the values that determine the prompt, for JSON: hashes and cards."""
        shots = [{key: shot[key] for key in (*self.task.fields, "label")} for shot in self.shots]
        # the rendered text too, because a change of the layout makes another prompt with the same settings
        blank = dict.fromkeys(self.task.fields, "x")
        values = {
            "text": self.text(blank),
            "answers": [self.answer(label) for label in range(len(self.task.labels))],
            "task": self.task.as_dict(),
            "shots": shots,
            "instruction": self.instruction,
            "fallback": self.fallback,
            "chat": self.chat,
        }
        return values if self.max_length is None else {**values, "max_length": self.max_length}


def few_shots(task: Task, rows: Sequence[Mapping], k: int, seed: int = 0) -> tuple[dict, ...]:
    """Return `k` example rows, drawn and shuffled by `seed`, with equally many of each label (some one more).

    Give it training rows, because an example that is also a test row would give the model its answer.
    Raises CourseError if a label has too few rows.
    """
    rng = random.Random(seed)
    order = rng.sample(range(len(task.labels)), len(task.labels))
    shots = []
    for position, label in enumerate(order):
        wanted = k // len(order) + (position < k % len(order))
        candidates = [row for row in rows if row["label"] == label]
        if len(candidates) < wanted:
            raise CourseError(
                f"{k} examples need {wanted} rows with the label {task.labels[label]!r}, and there are"
                f" {len(candidates)}. Use fewer examples, or more rows."
            )
        shots += rng.sample(candidates, wanted)
    rng.shuffle(shots)
    return tuple({key: shot[key] for key in (*task.columns, "label")} for shot in shots)


def parse_answer(text: str, task: Task) -> int | None:
    """Return the label of a generated answer, or None for garbage, an empty answer, or several labels at once.

    Only the first line that is not empty counts, without the answer's name and quotes. It must begin with a label word,
    in upper or lower case (see `texts.identity`).
    """
    line = identity(next((line for line in text.splitlines() if line.strip()), ""))
    line = re.sub(rf"^{re.escape(identity(task.answer_name))}\s*:", "", line).strip()
    labels = [identity(label) for label in task.labels]
    # a character at the beginning or end of a label is part of it: -1 is not 1
    ends = {character for label in labels for character in (label[0], label[-1])}
    line = line.strip("".join(character for character in " \t*_`\"'“”‘’-" if character not in ends))
    # longest first, because "Not Sarcasm" contains "Sarcasm"
    by_length = sorted(range(len(labels)), key=lambda label: -len(labels[label]))
    words = "|".join(rf"(?P<l{label}>{re.escape(labels[label])})" for label in by_length)
    if not re.match(rf"(?:{words})(?!\w)", line):
        return None
    answers = {match.lastgroup for match in re.finditer(rf"(?<!\w)(?:{words})(?!\w)", line)}
    return int(str(answers.pop())[1:]) if len(answers) == 1 else None
