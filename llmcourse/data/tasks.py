"""What a task is, and the course's own tasks. A task is data, not code: this is the only module that knows sarcasm, or a customer.

To teach the course another domain, make another `Task` (two or more label words) and give its rows to the loaders of
`llmcourse.data`; everything after them stays as it is.
"""

import dataclasses
import re
from dataclasses import dataclass, field

from llmcourse._base.errors import CourseError


@dataclass(frozen=True)
class Task:
    """A text classification task, as an LLM is told it.

    Raises CourseError when the label words cannot work: fewer than two, or two that differ in letter case only.
    """

    name: str
    """Short name, used in file names: letters, digits and hyphens."""
    instruction: str
    """What the model is asked to do: one or two sentences, without the label words, which are listed after it."""
    fields: dict[str, str]
    """Text columns, in the order in which a prompt shows them, each with the name that it has in the prompt."""
    labels: tuple[str, ...]
    """Label words; a row's integer `label` is an index into them."""
    answer_name: str = "Category"
    """What a prompt writes before the answer."""
    fallback: int | None = None
    """The label of the prompt's line "if the text does not fit ..., classify it as"; None for no such line."""
    group_column: str | None = None
    """Rows with the same text here (two replies to one comment) never fall on both sides of a split."""
    strip_marks: tuple[str, ...] = ()
    """Endings that writers use to give the label away; cleaning removes them."""
    sources: dict[str, str] = field(default_factory=dict)
    """Where rows come from: a name for `data.load`, and where that is."""
    label_column: str = "label"
    kaggle: tuple[str, str] | None = None
    """Data set and file on Kaggle, for the source "kaggle"."""
    hub: tuple[str, str, str] | None = None
    """Data set, file and pinned revision on the Hugging Face hub, for the source "hub"."""
    example: dict | None = None
    """One row, with its label, that every arm of a comparison answers for all to see; it is in no data set."""

    def __post_init__(self):
        words = [word.strip().lower() for word in self.labels]
        if len(words) < 2 or len(set(words)) < len(words) or not all(words):
            raise CourseError(
                f"Task {self.name!r} needs two or more different, non-empty label words; it has {list(self.labels)}."
            )
        if not self.fields:
            raise CourseError(f"Task {self.name!r} names no text column.")
        if self.group_column is not None and self.group_column not in self.fields:
            raise CourseError(
                f"Task {self.name!r}: its group column {self.group_column!r} is not among {list(self.fields)}."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The text columns, in prompt order."""
        return tuple(self.fields)

    @classmethod
    def from_dict(cls, values: dict) -> "Task":
        """A task from what `as_dict` gave, however it came here.

        Raises CourseError for a value of the wrong kind, and for one that as_dict does not give: a stranger's card cannot say where
        rows come from.
        """

        def words(value) -> bool:
            return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)

        checks = {
            "name": lambda value: isinstance(value, str) and re.fullmatch(r"[^/\\\x00-\x1f]{1,100}", value),
            "instruction": lambda value: isinstance(value, str),
            "fields": lambda value: isinstance(value, dict) and words(list(value.values())) and words(list(value)),
            "labels": words,
            "answer_name": lambda value: isinstance(value, str),
            "fallback": lambda value: (
                value is None
                or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(values["labels"]))
            ),
            "group_column": lambda value: value is None or isinstance(value, str),
            "strip_marks": words,
            "label_column": lambda value: isinstance(value, str),
        }
        for name in ("name", "instruction", "fields", "labels"):
            if name not in values:
                raise CourseError(f"A task without {name!r}.")
        odd = next((name for name in values if name not in checks), None)
        unfit = (name for name, fits in checks.items() if name in values and not fits(values[name]))
        wrong = next(unfit, None) if odd is None else odd
        if wrong is not None:
            raise CourseError(f"A task with {wrong}={values[wrong]!r:.60}, which is not what a task holds there.")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def as_dict(self) -> dict:
        """What decides the model's answers, as JSON-able values (for hashes and cards)."""
        values = {
            key: value
            for key, value in dataclasses.asdict(self).items()
            if key not in ("sources", "example", "kaggle", "hub")
        }
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


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
            "The article itself is only worse than your summary of it. A grubby little commentary by someone who still believes"
            " Orwell got it right when he thought his prophesy was of a *Socialist* society, and not a warning about Capitalism"
            " as it is seen today."
        ),
        "comment": "we should definitely run away from 'tyranny' into the hands of capitalism",
        "label": 1,
    },
)

SUPPORT = Task(
    name="support",
    instruction=(
        "You read the messages that customers write to an online shop. Your task is to say what the writer wants, and to"
        " sort the message into one of these categories:"
    ),
    fields={"message": "message"},
    # an answer; a repair; out; nothing at all
    labels=("Question", "Problem", "Cancellation", "Praise"),
    sources={"bundled": "the course's own corpus, written for teaching (CC BY 4.0)"},
)

TASKS = {task.name: task for task in (SARCASM, SUPPORT)}
