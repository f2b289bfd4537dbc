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
