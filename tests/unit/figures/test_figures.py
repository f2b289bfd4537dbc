"""Figures say what they show, in words too, and are drawn the same each time."""

import re

import numpy as np
import pytest

from llmcourse import figures
from llmcourse.lessons import recorded

ARMS = [
    {"name": "majority", "kind": "baseline", "accuracy": 0.5, "accuracy_ci95": (0.4, 0.6), "invalid": 0, "n": 100},
    {"name": "4-shot", "kind": "prompted", "accuracy": 0.3, "accuracy_ci95": (0.2, 0.4), "invalid": 40, "n": 100},
]
PART = {"n": 60, "probability": 0.25, "accuracy": 0.5, "accuracy_ci95": (0.4, 0.6)}
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
    "ai_map": (figures.ai_map, "artificial intelligence contains machine learning"),
    "networks": (figures.networks, "one with 1 hidden layer, a deep one with 4"),
    "token_bars": (
        lambda: figures.token_bars(["a", "b"], {"p": [0.75, 0.25]}, "x"),
        "Probability of the next token after",
    ),
    "head_maps": (lambda: figures.head_maps({"looks back": np.array([[0.25, 0.75]])}), "on average 50%, at most 75%"),
    "attention_heads": (lambda: figures.attention_heads(["a", "b"], {"head": [[1, 0], [0.3, 0.7]]}), "70%"),
    "reduced_parameters": (lambda: figures.reduced_parameters({"m": (1000, {"LoRA": 10})}), "m, LoRA: 10"),
    "lora_picture": (lambda: figures.lora_picture((6, 4), 2), "6"),
    "forgetting": (
        lambda: figures.forgetting({"full": [(50.0, 0.0), (40.0, 0.1)], "lora": [(50.0, 0.0), (45.0, 0.2)]}),
        "full: perplexity on unseen passages 50.0 and 0.000 nats, then",
    ),
    "answer_rates": (
        lambda: figures.answer_rates([{"name": "no passage", "right": 3, "n": 60, "ci95": (0.02, 0.14)}]),
        "no passage 3 of 60",
    ),
    "ablation": (lambda: figures.ablation({"whole": PART, "less": PART}, "Sarcasm"), "probability of Sarcasm 25%"),
    "shots_and_draws": (lambda: figures.shots_and_draws(recorded.read("prompting")), "100 rows"),
    "order_effect": (lambda: figures.order_effect(recorded.read("prompting")), "100 rows"),
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
    assert first == second and first.startswith('<svg role="img" aria-label="') and words in first.partition(">")[0]
    assert not re.search(r"<metadata|xlink:href=\"http", first)


def test_the_loss_mask_marks_what_is_learned_without_colour_alone():
    shown = figures.loss_mask(["a <b>", "\n", " Sarc", "<|im_end|>"], [-100, -100, 7, 2])
    html = shown._repr_html_()
    assert "a &lt;b&gt;" in html and "&lt;|im_end|&gt;" in html and "&#9166;<br>" in html
    assert html.count("border:2px") == html.count("font-weight:bold") == 2
    assert repr(shown) == "4 tokens; the 2 in boxes are learned, the grey ones are read only" and repr(shown) in html
