"""Cleaning many texts at once gives what cleaning each of them gives."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from llmcourse.data.cleaning import _clean
from llmcourse.data.tasks import SARCASM, SUPPORT
from llmcourse.data.texts import fold, is_blank, squeeze

PIECES = ["a", "B c", " ", "  ", "\t", "\n", "\0", "\x1f", "\x7f", "/s", "/S.", "!", "é", "Σ", "İ", "ﬁ", "\u200b", "\u2028"]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.text(st.characters(codec="utf-8")))


@given(st.lists(TEXTS, min_size=1, max_size=8), st.sampled_from([SARCASM, SUPPORT]))
def test_many_texts_are_cleaned_as_each_alone(texts, task):
    cleaned, folded, marked = _clean(task, texts)
    alone = [task.clean(text) for text in texts]
    assert list(zip(cleaned, marked.tolist(), strict=True)) == alone
    assert folded == [fold(text) for text, _ in alone]


def test_a_text_shows_nothing_exactly_if_nothing_is_left_when_it_is_folded():
    for character in map(chr, range(sys.maxunicode + 1)):
        assert is_blank(character) == (not fold(squeeze(character))), hex(ord(character))
