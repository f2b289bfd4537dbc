"""Prompts as pure text: instruction, label words, examples, the row; and an answer's text back into a label.

The layout follows the talk's prompt: sections set apart by ####, examples in the form of the answer that is wanted, a
line for doubtful cases. Everything before the row is the same for all rows, so `llmcourse.predict` computes it once.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.data.texts import one_line

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Stand-ins for a row without content, used by contextual calibration (Zhao et al. 2021, arXiv:2102.09690, section 5). `one_line` makes
`[ MASK]` of the last, as of any text that looks like a control token."""


@dataclass(frozen=True)
class Prompt:
    """How a task's row becomes a prompt. Frozen and made of plain values: part of the name under which an arm is kept."""

    task: Task
    shots: tuple[Mapping[str, object], ...] = ()
    """Example rows shown with their label (few-shot); none is zero-shot."""
    instruction: bool = True
    """False leaves only the row's fields and the answer's name: short, for a model that is finetuned on it."""
    fallback: bool = True
    """Whether the line "If the text doesn't fit ..., classify it as" is there (when the task has a fallback)."""
    chat: bool = False
    """Whether the prompt goes through the model's chat template, as one user message."""

    @property
    def answer_start(self) -> str:
        """What separates prompt and answer: the space after "Category:"; nothing after a chat template's header."""
        return "" if self.chat else " "

    def head(self) -> str:
        """The part of the prompt that all rows share."""
        if not self.instruction and not self.shots:
            return ""
        parts = []
        if self.instruction:
            parts.append(self.task.instruction + "\n" + "\n".join(self.task.labels) + "\n")
        if self.shots:
            examples = "\n".join(self.row(shot) + " " + self.task.labels[shot["label"]] + "\n" for shot in self.shots)
            parts.append("####\nHere are some examples:\n" + examples)
        if self.instruction and self.fallback and self.task.fallback is not None:
            doubt = "If the text doesn't fit into any of the above categories, classify it as:\n"
            parts.append(doubt + self.task.labels[self.task.fallback] + "\n")
        return "\n".join(parts) + "\n####\n"

    def row(self, row: Mapping[str, object]) -> str:
        """The part that is the row's own: one line a field, then the answer's name, without a space at the end."""
        lines = [f"{name}: {one_line(row[column])}" for column, name in self.task.fields.items()]
        return "\n".join([*lines, f"{self.task.answer_name}:"])

    def text(self, row: Mapping[str, object]) -> str:
        """The whole prompt for a row, before any chat template."""
        return self.head() + self.row(row)

    def answer(self, label: int) -> str:
        """What a perfect model writes after the prompt."""
        return self.answer_start + self.task.labels[label]

    def content_free_rows(self) -> list[dict[str, str]]:
        """Rows that say nothing, to ask the prompt itself which label it prefers."""
        return [dict.fromkeys(self.task.fields, text) for text in CONTENT_FREE]

    def as_dict(self) -> dict:
        """JSON-able values that decide the prompt (for hashes and cards)."""
        shots = [{key: shot[key] for key in (*self.task.fields, "label")} for shot in self.shots]
        # the rendered text too: a change of the layout is another prompt, whatever the settings say
        blank = dict.fromkeys(self.task.fields, "x")
        return {
            "text": self.text(blank),
            "answers": [self.answer(label) for label in range(len(self.task.labels))],
            "task": self.task.as_dict(),
            "shots": shots,
            "instruction": self.instruction,
            "fallback": self.fallback,
            "chat": self.chat,
        }


def few_shots(task: Task, rows: Sequence[Mapping], k: int, seed: int = 0) -> tuple[dict, ...]:
    """`k` example rows, as many of each label as of any other (one more at most), drawn and shuffled by `seed`.

    Give it training rows: an example that is also a test row would hand the model its answer. Raises CourseError when
    there are not enough rows of a label.
    """
    chance = random.Random(seed)
    order = chance.sample(range(len(task.labels)), len(task.labels))
    shots = []
    for place, label in enumerate(order):
        wanted = k // len(order) + (place < k % len(order))
        candidates = [row for row in rows if row["label"] == label]
        if len(candidates) < wanted:
            raise CourseError(
                f"{wanted} examples of {task.labels[label]!r} are wanted; there are {len(candidates)} rows."
            )
        shots += chance.sample(candidates, wanted)
    chance.shuffle(shots)
    return tuple({key: shot[key] for key in (*task.columns, "label")} for shot in shots)


def parse_answer(text: str, task: Task) -> int | None:
    """The label that a generated answer gives, or None: garbage, an empty answer, or several labels at once.

    Read is the first line that is not empty, without the answer's name and quotes; it must begin with a label word, in any letter case.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(rf"^{re.escape(task.answer_name)}\s*:", "", line, flags=re.IGNORECASE)
    # a mark with which a label begins or ends belongs to it: -1 is not 1
    ends = {mark for label in task.labels for mark in (label.strip()[0], label.strip()[-1])}
    line = line.strip("".join(mark for mark in " \t*_`\"'“”‘’-" if mark not in ends))
    # longest first: "Not Sarcasm" also holds "Sarcasm"
    by_length = sorted(range(len(task.labels)), key=lambda label: -len(task.labels[label]))
    words = "|".join(rf"(?P<l{label}>{re.escape(task.labels[label])})" for label in by_length)
    found = re.match(rf"(?:{words})(?!\w)", line, flags=re.IGNORECASE)
    if not found:
        return None
    answers = {match.lastgroup for match in re.finditer(rf"(?<!\w)(?:{words})(?!\w)", line, flags=re.IGNORECASE)}
    return int(found.lastgroup[1:]) if len(answers) == 1 else None
