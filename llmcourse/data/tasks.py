"""What a task is, and the course's own tasks. A task is data, not code: only this module knows sarcasm or customers.

To teach the course another domain, make another `Task` with two or more label words, and give it to the loaders of
`llmcourse.data` with its rows. Everything after them stays as it is.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from llmcourse._base.errors import CourseError
from llmcourse._base.validation import refuse_with
from llmcourse.data.texts import identity, is_blank, is_unicode, squeeze

Words = Annotated[tuple[str, ...], BeforeValidator(lambda words: tuple(words) if isinstance(words, list) else words)]
"""A list will do as well, because JSON has no tuples."""
_AFTER_MARK = " .!?"
"""What may follow an ending of `strip_marks`."""
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
        for problem in self._problems():
            raise CourseError(f"Task {self.name!r:.60}: {problem}")

    def _problems(self) -> Iterator[str]:
        """Yield what cannot work, each with what to do about it."""
        if not is_unicode(json.dumps(self.as_dict(), ensure_ascii=False)):
            yield "a text holds half a character (a lone surrogate). Give it as Unicode text."
        if not re.fullmatch(r"\w([\w .-]{0,98}\w)?", self.name):
            yield (
                f"name={self.name!r:.60} cannot be a file's name. Give up to 100 letters, digits, hyphens, dots or"
                " spaces, with a letter or digit at both ends."
            )
        words = [identity(word) for word in self.labels]
        if len(words) < 2 or len(set(words)) < len(words) or not all(words):
            yield (
                "it needs two or more different, non-empty label words, and letter case is no difference; it has"
                f" {list(self.labels)}."
            )
        for word in self.labels:
            if word != squeeze(word) or is_blank(word[0]) or is_blank(word[-1]) or re.search(r"[\x00-\x1f\x7f]", word):
                yield (
                    f"the label {word!r:.60} has spaces at its ends, several in a row, or invisible characters."
                    f" Write {squeeze(word)!r:.60}."
                )
        if not self.fields:
            yield "it names no text column. Give its columns as fields={column: name in the prompt}."
        for column, name in self.fields.items():
            if is_blank(column) or is_blank(name) or "\n" in name:
                yield f"fields={{{column!r}: {name!r}}}. A column and its name in the prompt need a word on one line."
            if column == "label":
                yield (
                    "a text column cannot be called 'label', the name of every row's label. Call it 'text', and read it"
                    " from your file with columns={'text': 'label'} or --column text=label."
                )
        if self.label_column in self.fields:
            yield f"the column {self.label_column!r} cannot be both text and label. Name another label_column."
        for name in ("instruction", "answer_name", "label_column"):
            if is_blank(getattr(self, name)):
                yield f"{name} is empty. Give it a word or a sentence."
        if any(is_blank(mark) for mark in self.strip_marks):
            yield "strip_marks has an empty ending, which every text has. Leave it out."
        if self.group_column is not None and self.group_column not in self.fields:
            yield f"its group column {self.group_column!r} is not among {list(self.fields)}."
        if self.fallback is not None and not 0 <= self.fallback < len(self.labels):
            yield f"fallback={self.fallback} is not a label. Give 0 to {len(self.labels) - 1}, or None."
        if self.example is not None and not {*self.fields, "label"} <= set(self.example):
            yield f"its example needs the columns {', '.join([*self.fields, 'label'])}."

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the text columns, in prompt order."""
        return tuple(self.fields)

    @property
    def number_column(self) -> str:
        """Return what a row calls its number in the file: "row", or a longer name if a text column is called that."""
        name = "row"
        while name in self.fields:
            name += "_number"
        return name

    @functools.cached_property
    def label_values(self) -> dict[str, int]:
        """Return what a label column may hold (label words or numbers, see `texts.identity`), each with its label."""
        words = {identity(word): label for label, word in enumerate(self.labels)}
        if any(_is_number(word) for word in words):  # where words are numbers themselves ("1", "2"), a number is a word
            return words
        return {str(label): label for label in range(len(self.labels))} | words

    def label_of(self, value: str) -> int | None:
        """Return the label that a file's value means, or None.

        A value means a label word, whatever its case and white space, in quotation marks or not, or a label's number.
        1.0 and 01 are the number 1. With two labels true and false are 1 and 0.
        """
        known, key = self.label_values, identity(value)
        if key not in known and len(key) > 2 and key[0] == key[-1] and key[0] in "\"'":
            key = key[1:-1].strip()
        if key not in known and len(self.labels) == 2 and "0" in known and "1" in known:
            key = {"true": "1", "false": "0"}.get(key, key)
        if key not in known and re.fullmatch(r"[+-]?[0-9]{1,15}(\.0{1,15})?", key):
            key = str(int(key.split(".")[0]))
        return known.get(key)

    def clean(self, text: str) -> tuple[str, bool]:
        """Return a text on one line without endings that give the label away, and whether there was one."""
        text, marks = squeeze(text), self._marks
        if not marks or not text.rstrip(_AFTER_MARK).lower().endswith(marks):
            return text, False
        while (core := text.rstrip(_AFTER_MARK)).lower().endswith(marks):
            mark = next(mark for mark in marks if core.lower().endswith(mark))
            text = core[: -len(mark)].rstrip()
        return text, True

    @functools.cached_property
    def _marks(self) -> tuple[str, ...]:
        return tuple(mark.lower() for mark in self.strip_marks)

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


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _explain(error: ValidationError) -> str:
    """Return what is wrong with the first value that pydantic refuses, as a sentence."""
    first = error.errors()[0]
    place, value = ".".join(map(str, first["loc"])), f"{first['input']!r:.60}"
    if first["type"] == "missing":
        return f"{place!r} is missing."
    if first["type"] == "unexpected_keyword_argument":
        return f"{place}={value} is unknown. A task has: {', '.join(Task.__dataclass_fields__)}."
    advice = _FORMS.get(str(first["loc"][0]))
    return f"{place}={value} does not fit. {first['msg'].replace('Input should', 'It must')}." + (
        f" Write it as {advice}." if advice else ""
    )


_FORMS = {
    "labels": 'labels=("no", "yes"), words in quotation marks',
    "fields": 'fields={"text": "Text"}, each column with its name in the prompt',
    "strip_marks": 'strip_marks=("/s",), with a comma',
    "fallback": "fallback=0, the number of a label",
}
"""How values that people often write in another way have to be written."""


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
"""Is a reply sarcastic? Rows are replies, each with the comment that it answers. The talk's task."""

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
"""What does a customer of an online shop want? Four labels."""

SENTIMENT = Task(
    name="sentiment",
    # the talk's first prompt: "Classify the text into neutral, negative or positive."
    instruction="Classify the text into one of these categories:",
    fields={"text": "Text"},
    labels=("neutral", "negative", "positive"),
    answer_name="Sentiment",
    sources={"bundled": "the course's own corpus, written for teaching (CC BY 4.0)"},
    example={"text": "I think the vacation is okay.", "label": 0},  # quoted from the talk
)
"""Is a short everyday text neutral, negative or positive? The talk's first prompt."""

TALK_EXAMPLES = (
    {
        "parent_comment": "Most of the Bernie people got what they wanted on the platform, or most of it.",
        "comment": "dont trigger them with facts!",
        "label": 1,
    },
    {
        # the slide cuts this comment off
        "parent_comment": (
            "The Dallas Morning News: What you need to know about the enemies of the American people the president"
            " warned"
        ),
        "comment": "What a brilliant and well written article that was.",
        "label": 0,
    },
)
"""The two examples of the talk's few-shot prompt for sarcasm, word for word."""

TASKS = {task.name: task for task in (SARCASM, SENTIMENT, SUPPORT)}
"""The course's tasks by name."""
