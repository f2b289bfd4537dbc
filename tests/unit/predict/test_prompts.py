"""Prompts and answers as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcourse import CourseError
from llmcourse.data.tasks import SARCASM, Task
from llmcourse.predict.prompts import Prompt, few_shots, parse_answer

ROW = {"parent_comment": "The train is late.", "comment": "What a surprise.", "label": 1}
COLOURS = Task("colours", "Name the colour.", {"text": "text"}, ("Red", "Green", "Dark Green"))


def test_the_layout_of_a_few_shot_prompt():
    text = Prompt(SARCASM, shots=(ROW,)).text({"parent_comment": "a", "comment": "b"})
    assert text == (
        SARCASM.instruction + "\nNot Sarcasm\nSarcasm\n\n####\nHere are some examples:\n"
        "comment: The train is late.\nreply: What a surprise.\nCategory: Sarcasm\n\n"
        "If the text doesn't fit into any of the above categories, classify it as:\nNot Sarcasm\n\n####\n"
        "comment: a\nreply: b\nCategory:"
    )
    assert "If the text" not in Prompt(SARCASM, fallback=False).text(ROW)
    assert Prompt(SARCASM, instruction=False).text(ROW) == (
        "comment: The train is late.\nreply: What a surprise.\nCategory:"
    )


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" Sarcasm\n", 1),
        ("Not Sarcasm", 0),
        ("not sarcasm.", 0),
        ("**Sarcasm**", 1),
        ('"Sarcasm"\ncomment: more', 1),
        ("\n\n Category: Not Sarcasm", 0),
        ("Sarcasm, because it says so", 1),
        ("", None),
        ("саркам", None),
        ("sarcastic", None),
        ("Sarcasms", None),
        ("Sarcasm or Not Sarcasm", None),
        ("It is Sarcasm", None),
        ("none\nSarcasm", None),
    ],
)
def test_answers(text, label):
    assert parse_answer(text, SARCASM) == label


def test_the_longer_label_wins():
    assert parse_answer("Dark green it is", COLOURS) == 2
    assert parse_answer("green", COLOURS) == 1


@pytest.mark.parametrize("labels", [("-1", "0", "1"), ("+1", "-1"), ("*", "**")])
def test_a_mark_of_a_label_is_no_decoration(labels):
    """A minus sign was taken off as a dash is, and -1 read as 1."""
    task = Task("signs", "Rate it.", {"text": "text"}, labels)
    for number, label in enumerate(labels):
        for text in (label, f" {label}\n", f'"{label}"', f"Category: {label}"):
            assert parse_answer(text, task) == number, text


@given(st.text(max_size=60), st.sampled_from([0, 1]))
def test_a_right_answer_is_read_whatever_follows_on_other_lines(noise, label):
    assert parse_answer(f" {SARCASM.labels[label]}\n{noise}", SARCASM) == label


def test_shots_are_balanced_and_seeded():
    rows = [{"parent_comment": str(i), "comment": str(i), "label": i % 2} for i in range(40)]
    shots = few_shots(SARCASM, rows, 6, seed=3)
    assert sorted(shot["label"] for shot in shots) == [0, 0, 0, 1, 1, 1]
    assert shots == few_shots(SARCASM, rows, 6, seed=3) != few_shots(SARCASM, rows, 6, seed=4)
    assert {abs(sum(s["label"] for s in few_shots(SARCASM, rows, 3, n)) - 1.5) for n in range(9)} == {0.5}
    assert few_shots(SARCASM, rows, 0) == ()
    with pytest.raises(CourseError, match=r"60 examples need 30 rows .* there are 20"):
        few_shots(SARCASM, rows, 60)


def test_an_answer_is_read_as_a_file_s_label_is():
    """Letter case, Unicode form, and labels that are codes: the same rules as in `data`."""
    pairs = {("café", "thé"): "CAFE\u0301.", ("ΌΧΙ", "ναί"): "όχι", ("straße", "platz"): "STRASSE!"}
    for labels, text in pairs.items():
        assert parse_answer(text, Task("own", "Sort it.", {"text": "text"}, labels)) == 0
    codes = Task("codes", "Sort it.", {"text": "text"}, ("C", "C++", "C#", ".NET", "N/A"))
    for label, word in enumerate(codes.labels):
        assert parse_answer(f"{word}\n", codes) == parse_answer(f'Category: "{word.lower()}"', codes) == label
    many = Task("many", "Sort it.", {"text": "text"}, tuple(f"intent {n}" for n in range(151)))
    assert [parse_answer(f"intent {n}.", many) for n in (1, 15, 150)] == [1, 15, 150]
