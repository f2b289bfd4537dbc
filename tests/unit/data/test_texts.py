"""Cleaning of texts."""

import re

import pytest
import vocabularies
from hostile_texts import any_texts, quick
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmcourse import CourseError
from llmcourse.data.texts import MAX_CHARACTERS, one_line


@settings(quick, max_examples=200)
@example(["\ud800"])
@given(st.lists(st.one_of(any_texts, st.integers(0, 30)), min_size=1, max_size=5))
def test_no_text_leaves_its_line_or_becomes_a_control_token(tokenizer, parts):
    special = sorted(tokenizer.get_added_vocab())
    text = "".join(special[part % len(special)] if isinstance(part, int) else part for part in parts)
    try:
        line = one_line(text)
    except CourseError as error:
        assert "surrogate" in str(error) or "too long" in str(error)
        return
    assert len(line.splitlines()) <= 1
    assert re.sub(r"\s", "", line) == re.sub(r"\s", "", text)
    assert not set(tokenizer(line, add_special_tokens=False).input_ids) & set(tokenizer.get_added_vocab().values())


def test_no_family_s_control_tokens_are_left_whole():
    """DeepSeek writes its own with other bars, and a reply could end the user's message."""
    deepseek = (
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜tool▁calls▁begin｜>",
    )
    families = [names for names, _ in vocabularies.TEMPLATES.values()]
    names = sorted({name for names in (*families, deepseek, ("<think>", "</think>")) for name in names})
    tokenizer = vocabularies.tokenizer("byte-level", tuple(names))
    control = set(tokenizer.convert_tokens_to_ids([*names, vocabularies.BOS, vocabularies.EOS]))
    for name in (*names, vocabularies.BOS, vocabularies.EOS):
        assert set(tokenizer(f"a{name}b").input_ids) & control
        assert not set(tokenizer(one_line(f"a{name}b")).input_ids) & control, name


def test_a_text_that_is_too_long_is_refused():
    one_line("x" * MAX_CHARACTERS)
    with pytest.raises(CourseError, match=r"50,000 characters.*at most 4,000"):
        one_line("x" * 50_000)
