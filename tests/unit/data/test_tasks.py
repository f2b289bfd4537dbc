"""Tasks: what makes one, and what is refused."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcourse import CourseError
from llmcourse.data.tasks import SARCASM, Task
from llmcourse.predict.prompts import Prompt


@pytest.mark.parametrize("labels", [("one",), ("a", "A"), ("a", " "), ()])
def test_a_task_needs_two_label_words(labels):
    with pytest.raises(CourseError, match="two or more different"):
        dataclasses.replace(SARCASM, labels=labels)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*SARCASM.as_dict(), "sources", "x", ""]), json_values, max_size=3))
def test_any_values_make_a_task_or_are_refused(changes):
    try:
        task = Task.from_dict(SARCASM.as_dict() | changes)
    except CourseError:
        return
    assert isinstance(Prompt(task).head(), str) and Task.from_dict(task.as_dict()) == task


REFUSED = {
    "name='a/b'": {"name": "a/b"},
    "name='..'": {"name": ".."},
    "fallback=True": {"fallback": True},
    "fallback=1.0": {"fallback": 1.0},
    "fallback=2 is not a label": {"fallback": 2},
    r"labels.0=0 .*Write it as labels=\(": {"labels": (0, 1)},
    "labels.0=False": {"labels": [False, True]},
    "labels.0=nan": {"labels": (float("nan"), "a")},
    "labels='no,yes'": {"labels": "no,yes"},
    "the label 'yes ' has spaces": {"labels": ("no", "yes ")},
    r"the label 'a\\nb'": {"labels": ("a\nb", "c")},
    r"the label 'yes\\u200b'": {"labels": ("no", "yes\u200b")},
    "strip_marks='/s'.*with a comma": {"strip_marks": "/s"},
    "strip_marks has an empty": {"strip_marks": ("/s", " ")},
    r"fields=\['comment'\].*Write it as fields": {"fields": ["comment"]},
    "names no text column": {"fields": {}, "group_column": None},
    "need a word": {"fields": {"text": ""}, "group_column": None},
    "cannot be called 'label'": {"fields": {"label": "text"}, "group_column": None},
    "cannot be both text and label": {"label_column": "comment"},
    "instruction is empty": {"instruction": " "},
    "half a character": {"labels": ("no", "yes \ud800")},
    "its example needs": {"example": {"comment": "a"}},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_work_is_refused_at_once(message):
    with pytest.raises(CourseError, match=message):
        dataclasses.replace(SARCASM, **REFUSED[message])


@settings(max_examples=200, deadline=None)
@given(
    st.text(min_size=1, max_size=12),
    st.lists(st.text(max_size=8), min_size=2, max_size=4),
    st.dictionaries(st.text(max_size=6), st.text(max_size=6), min_size=1, max_size=2),
    st.none() | st.integers(-1, 5),
)
def test_a_task_that_is_made_comes_back_from_its_card(name, labels, fields, fallback):
    """Nothing is accepted before a training that the card would refuse after it."""
    import json

    try:
        task = Task(name, "Sort it.", fields, tuple(labels), fallback=fallback)
        Prompt(task).head()
    except CourseError:
        return
    try:
        card = json.dumps(task.as_dict(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        pytest.fail("half a character in a task")
    assert Task.from_dict(json.loads(card)) == task
    assert all(task.label_of(word) == label for label, word in enumerate(task.labels))
