"""Figures say what they show, in words too, and are drawn the same each time."""

import re

import pytest

from llmcourse import figures

ARMS = [
    {"name": "majority", "kind": "baseline", "accuracy": 0.5, "accuracy_ci95": (0.4, 0.6), "invalid": 0, "n": 100},
    {"name": "4-shot", "kind": "prompted", "accuracy": 0.3, "accuracy_ci95": (0.2, 0.4), "invalid": 40, "n": 100},
]
MADE = {
    "waterfall": (lambda: figures.waterfall(ARMS), "majority 50%; 4-shot 30%"),
    "loss_curve": (lambda: figures.loss_curve([3.0, 1.0, 0.5]), "3 steps, from 3.00 to 0.50"),
    "confusions": (
        lambda: figures.confusions({"a": [[1, 2, 3], [4, 5, 6]]}, ["no", "yes"]),
        "gold yes: no 4, yes 5, invalid 6",
    ),
    "wrong_rows": (
        lambda: figures.wrong_rows(
            [("costs $5 & $6", "no", "yes"), ("word " * 99, "no", "invalid")], "a: 3 wrong", left=1
        ),
        "a: 3 wrong. “costs $5 &",
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_a_figure_is_told_in_words(name):
    make, words = MADE[name]
    figure = make()
    data, about = figure._repr_mimebundle_()
    assert words in figure.alt and about["image/png"]["alt"] == data["text/plain"] == figure.alt
    assert data["image/png"].startswith("iVBOR")


@pytest.mark.parametrize("name", MADE)
def test_svg_is_the_same_each_time_and_described(name):
    make, words = MADE[name]
    first, second = figures.svg(make()), figures.svg(make())
    assert first == second and first.startswith('<svg role="img" aria-label="') and words in first[:600]
    assert not re.search(r"<metadata|xlink:href=\"http", first)


def test_the_loss_mask_marks_what_is_learned_without_colour_alone():
    shown = figures.loss_mask(["a <b>", "\n", " Sarc", "<|im_end|>"], [-100, -100, 7, 2])
    html = shown._repr_html_()
    assert "a &lt;b&gt;" in html and "&lt;|im_end|&gt;" in html and "&#9166;<br>" in html
    assert html.count("border:2px") == html.count("font-weight:bold") == 2
    assert repr(shown) == "4 tokens; the 2 in boxes are learned, the grey ones are read only" and repr(shown) in html
