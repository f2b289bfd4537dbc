"""Labelling by hand: buttons and typed words give the same labels, and what is not labelled is not counted."""

import pytest

from llmcourse import CourseError
from llmcourse.data.tasks import SARCASM
from llmcourse.lessons.widgets import labelling

ROWS = [
    {"parent_comment": "The bus is late.", "comment": text, "label": label}
    for text, label in (("<b>Lovely.</b>", 1), ("I am sorry.", 0), ("How late? " * 20, 0))
]


def test_nothing_is_labelled_at_first(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects, **how: shown.extend(objects))
    made = labelling.label_rows(SARCASM, ROWS)
    assert "running notebook" in shown[0]["text/plain"]
    assert made.labels == [None] * 3 and made.describe() == "You have labelled 0 of 3 rows."
    made.type_in(["", "", ""])
    table = made.compare({"prompted": [1, 1, None]}).splitlines()
    assert table[0].split() == ["row", "right", "you", "prompted"]
    assert table[-1].split() == ["not", "labelled", "1", "of", "3"]
    assert table[2].endswith("Sarcasm ✗") and table[3].endswith("-")


def test_buttons_and_typed_words_give_labels():
    made = labelling.Labelling(SARCASM, ROWS)
    made.type_in(["Sarcasm", "s", ""])
    assert made.labels == [1, 1, None]
    made.buttons[1].index = 0
    made.buttons[2].index = 1
    assert made.labels == [1, 0, 1] and made.describe() == "You have labelled 3 of 3 rows."
    assert made.compare({}).splitlines()[-1].split() == ["2", "of", "3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["s"], "3 rows and 1 answers"), (["s", "irony", ""], "Row 2: 'irony' is not a label. Type one of: Not Sarcasm")],
)
def test_what_cannot_be_a_label_is_refused(words, message):
    with pytest.raises(CourseError, match=message):
        labelling.Labelling(SARCASM, ROWS).type_in(words)


def test_texts_are_shown_as_text_and_cut():
    made = labelling.Labelling(SARCASM, ROWS)
    texts = [pair.children[0].value for pair in made.box.children]
    assert "&lt;b&gt;Lovely.&lt;/b&gt;" in texts[0]
    assert " …" in texts[2] and len(texts[2]) < 120
