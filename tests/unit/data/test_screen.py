"""The filter for a projector: it hides whole words, spares their neighbours, and touches only what is shown."""

from llmcourse.data import screen
from llmcourse.data.tasks import SARCASM


def test_words_of_the_list_are_hidden_and_others_are_not(monkeypatch):
    import hashlib

    monkeypatch.setattr(screen, "_HASHES", frozenset({hashlib.sha256(b"grumpf").hexdigest()[:12]}))
    assert not screen.fit_to_show("What a GRUMPF, again!") and not screen.fit_to_show("grumpf")
    assert screen.fit_to_show("grumpfy weather") and screen.fit_to_show("") and screen.fit_to_show("gr umpf")
    rows = [
        {"comment": "a", "parent_comment": "b"},
        {"comment": "grumpf", "parent_comment": "b"},
        {"comment": "c", "parent_comment": "grumpf!"},
    ]
    assert list(screen.shown(SARCASM, rows)) == rows[:1]


def test_the_bundled_rows_all_pass(bundled):
    for side in (bundled.train, bundled.test):
        assert len(list(screen.shown(SARCASM, side))) == len(side)


def test_there_is_a_list():
    assert len(screen._HASHES) > 40 and all(len(entry) == 12 for entry in screen._HASHES)
