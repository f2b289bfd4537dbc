"""What a task is, and the course's own tasks. A task is data, not code: only this module knows sarcasm or customers.

To teach the course another domain, make another `Task` with two or more label words, and give it to the loaders of
`llmcourse.data` with its rows. Everything after them stays as it is.
"""

import dataclasses
import re
from dataclasses import field
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from llmcourse._base.errors import CourseError
from llmcourse._base.validation import refuse_with

Words = Annotated[tuple[str, ...], BeforeValidator(lambda words: tuple(words) if isinstance(words, list) else words)]
"""A list will do as well, because JSON has no tuples."""
NOT_IN_CARDS = ("sources", "kaggle", "hub", "example")
"""What does not decide a model's answers. Cards cannot set it, so no stranger's card says where rows come from."""


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Task:
    """A text classification task, as it is described to an LLM.

    Raises CourseError for a value of the wrong type, and for label words that cannot work: fewer than two, or two that
    differ in letter case only.
    """

    name: str
    """Short name, used in file names: letters, digits and hyphens."""
    instruction: str
    """What the model is asked to do: one or two sentences, without the label words, which are listed after it."""
    fields: dict[str, str]
    """Text columns, in the order in which a prompt shows them, each with its name in the prompt."""
    labels: Words
    """Label words. A row's integer `label` is an index into them."""
    answer_name: str = "Category"
    """What a prompt writes before the answer."""
    fallback: int | None = None
    """The label of the prompt's line "if the text does not fit ..., classify it as"; None for no such line."""
    group_column: str | None = None
    """Rows with the same text here (two replies to one comment) never appear on both sides of a split."""
    strip_marks: Words = ()
    """Endings that writers use to give the label away. Cleaning removes them."""
    sources: dict[str, str] = field(default_factory=dict)
    """Where rows come from: names for `data.load`, each with a description."""
    label_column: str = "label"
    """What files call the column of the labels."""
    kaggle: tuple[str, str] | None = None
    """Data set and file on Kaggle, for the source "kaggle"."""
    hub: tuple[str, str, str] | None = None
    """Data set, file and pinned revision on the Hugging Face hub, for the source "hub"."""
    example: dict[str, Any] | None = None
    """One row with its label that is in no data set. A comparison shows every method's answer to it."""

    _refuse = refuse_with("Task", lambda error: _explain(error))

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^/\\\x00-\x1f]{1,100}", self.name):
            raise CourseError(
                f"Task name={self.name!r:.60}: a name has 1 to 100 characters, without slashes or control characters."
            )
        words = [word.strip().lower() for word in self.labels]
        if len(words) < 2 or len(set(words)) < len(words) or not all(words):
            raise CourseError(
                f"Task {self.name!r} needs two or more different, non-empty label words; it has {list(self.labels)}."
            )
        if not self.fields:
            raise CourseError(f"Task {self.name!r} names no text column. Give its columns as fields={{column: name}}.")
        if self.group_column is not None and self.group_column not in self.fields:
            raise CourseError(
                f"Task {self.name!r}: its group column {self.group_column!r} is not among {list(self.fields)}."
            )
        if self.fallback is not None and not 0 <= self.fallback < len(self.labels):
            raise CourseError(
                f"Task {self.name!r}: fallback={self.fallback} is no label. Give 0 to {len(self.labels) - 1}, or None."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the text columns, in prompt order."""
        return tuple(self.fields)

    @property
    def label_values(self) -> dict[str, int]:
        """Return what a label column may hold (label words or numbers, in lower case), each with its label."""
        words = {word.strip().lower(): label for label, word in enumerate(self.labels)}
        if any(word.isdigit() for word in words):  # where words are numbers themselves ("1", "2"), a number is a word
            return words
        return {str(label): label for label in range(len(self.labels))} | words

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Task":
        """Make a task of what `as_dict` returned. Raises CourseError for anything else: a card may be a stranger's."""
        for name in NOT_IN_CARDS:
            if name in values:
                raise CourseError(f"A task's card cannot set {name}={values[name]!r:.60}. Remove it.")
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the model's answers, as JSON can hold it, for hashes and cards."""
        values = {key: value for key, value in dataclasses.asdict(self).items() if key not in NOT_IN_CARDS}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _explain(error: ValidationError) -> str:
    """Return what is wrong with the first value that pydantic refuses, as a sentence."""
    first = error.errors()[0]
    place, value = ".".join(map(str, first["loc"])), f"{first['input']!r:.60}"
    if first["type"] == "missing":
        return f"{place!r} is missing."
    if first["type"] == "unexpected_keyword_argument":
        return f"{place}={value} is unknown. A task has: {', '.join(Task.__dataclass_fields__)}."
    return f"{place}={value} does not fit. {first['msg'].replace('Input should', 'It must')}."


SARCASM = Task(
    name="sarcasm",
    # after the talk's prompt: "You are a sarcasm detection bot for social media posts. Your task is to assess ..."
    instruction=(
        "You are a sarcasm detection bot for social media posts. Your task is to assess a comment and the reply to it,"
        " and to classify the reply into one of these categories:"
    ),
    fields={"parent_comment": "comment", "comment": "reply"},
    labels=("Not Sarcasm", "Sarcasm"),
    fallback=0,
    group_column="parent_comment",
    strip_marks=("/s",),
    sources={
        "bundled": "the course's own corpus, written for teaching (CC BY 4.0)",
        "kaggle": "SARC as danofer/sarcasm on Kaggle (Khodak et al. 2018), downloaded at run time",
        "hub": "the same file, mirrored on the Hugging Face hub",
    },
    kaggle=("danofer/sarcasm", "train-balanced-sarcasm.csv"),
    hub=("daniel2588/sarcasm", "train-balanced-sarcasm.csv", "2d4453774d5a8a9801f0195f41cfa8facf69ed11"),
    # quoted from the talk, where few-shot prompting of Mistral-7B answered it with garbage
    example={
        "parent_comment": (
            "The article itself is only worse than your summary of it. A grubby little commentary by someone who still"
            " believes Orwell got it right when he thought his prophesy was of a *Socialist* society, and not a warning"
            " about Capitalism as it is seen today."
        ),
        "comment": "we should definitely run away from 'tyranny' into the hands of capitalism",
        "label": 1,
    },
)

SUPPORT = Task(
    name="support",
    instruction=(
        "You read the messages that customers write to an online shop. Your task is to say what the writer wants, and"
        " to sort the message into one of these categories:"
    ),
    fields={"message": "message"},
    # an answer; a repair; out; nothing at all
    labels=("Question", "Problem", "Cancellation", "Praise"),
    sources={"bundled": "the course's own corpus, written for teaching (CC BY 4.0)"},
)

TASKS = {task.name: task for task in (SARCASM, SUPPORT)}
