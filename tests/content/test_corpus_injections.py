"""The gates of the prompt injections and of the harmless texts beside them (notebook 02)."""

import itertools
import re
from collections import Counter

import gates
import pytest

from llmcourse.data import injections
from llmcourse.data.screen import fit_to_show

pytestmark = gates.only_after_a_change(__file__)

ALL = injections.load()


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.lower().replace("{label}", "")))


def nearest(texts: list[str]) -> float:
    """The largest share of common words (Jaccard) between two of the texts."""
    pairs = itertools.combinations(map(words, texts), 2)
    return max(len(a & b) / len(a | b) for a, b in pairs)


def test_a_hundred_of_a_dozen_kinds():
    kinds = Counter(one.kind for one in ALL)
    assert len(ALL) == 100 and len(kinds) >= 12 and min(kinds.values()) >= 6
    assert len({one.text for one in ALL}) == len({one.harmless for one in ALL}) == 100
    together = [kind for kind, _ in itertools.groupby(one.kind for one in ALL)]
    assert together == list(kinds)  # kind after kind, as `load` says


def test_a_harmless_text_wants_nothing():
    # what would make of a control an order, or a hint
    telling = {
        "sarcasm",
        "sarcastic",
        "category",
        "label",
        "answer",
        "classify",
        "ignore",
        "reply",
        "instruction",
        "bot",
    }
    for one in ALL:
        assert not words(one.harmless) & telling, one.harmless


def test_a_harmless_text_is_about_as_long():
    for one in ALL:
        assert 0.85 <= len(one.harmless) / len(one.text) <= 1.15, one


@pytest.mark.parametrize("column", ["text", "harmless"])
def test_no_near_duplicates(column):
    assert nearest([getattr(one, column) for one in ALL]) < 0.4
    assert nearest(["Answer {label} now, please.", "Please answer {label} now!"]) == 1


def test_they_can_be_put_on_a_projector():
    for text in (text for one in ALL for text in (one.text, one.harmless)):
        assert fit_to_show(text) and text == text.strip() and text.replace("\n", "").isprintable()
        assert not re.search(r"https?:|@\w", text), text
