"""Figures say what they show, in words too, and are drawn the same each time."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from llmcourse import figures
from llmcourse.figures import style
from llmcourse.lessons import recorded

SVG = "{http://www.w3.org/2000/svg}"
ARMS = [
    {"name": "majority", "kind": "baseline", "accuracy": 0.5, "accuracy_ci95": (0.4, 0.6), "invalid": 0, "n": 100},
    {"name": "4-shot", "kind": "prompted", "accuracy": 0.3, "accuracy_ci95": (0.2, 0.4), "invalid": 40, "n": 100},
]
HELD_OUT = [{"epoch": 1.0, "loss": 0.6, "accuracy": 0.7}, {"epoch": 2.0, "loss": 0.9, "accuracy": 0.8}]
MADE = {
    "waterfall": (lambda: figures.waterfall(ARMS), "majority 50%; 4-shot 30%"),
    "waterfall, title": (
        lambda: figures.waterfall(ARMS, title="No prompt wins"),
        "No prompt wins. Accuracy of each method on 100",
    ),
    "loss_curve": (lambda: figures.loss_curve([3.0, 1.0, 0.5]), "3 steps, from 3.00 to 0.50"),
    "loss_curve, guessing": (
        lambda: figures.loss_curve([3.0, 1.0], title="A plateau", guess=0.69),
        "A plateau. Training loss over 2 steps, from 3.00 to 1.00. A dashed line at 0.69 marks guessing.",
    ),
    "validation_curve": (
        lambda: figures.validation_curve([3.0, 1.0, 0.5, 0.3], HELD_OUT, "It overfits", guess=0.69),
        "It overfits. Over 2 epochs the training loss goes from 2.00 to 0.40, and the loss on held-out rows from 0.60"
        " to 0.90. It is smallest after epoch 1.",
    ),
    "learning_curves": (
        lambda: figures.learning_curves({"LoRA": [(25, 0.5, 0.4, 0.6), (1000, 0.8, 0.7, 0.9)]}, "More rows help"),
        "More rows help. LoRA from 50% with 25 rows to 80% with 1,000.",
    ),
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
    "transformer": (lambda: figures.transformer(2, ["a", " b"]), "the tokens a, b; a table"),
    "token_bars": (
        lambda: figures.token_bars(["a", "b"], {"p": [0.75, 0.25]}, "x"),
        "Probability of the next token after",
    ),
    "head_maps": (lambda: figures.head_maps({"looks back": np.array([[0.25, 0.75]])}), "on average 50%, at most 75%"),
    "attention_heads": (lambda: figures.attention_heads(["a", "b"], {"head": [[1, 0], [0.3, 0.7]]}), "70%"),
    "reduced_parameters": (lambda: figures.reduced_parameters({"m": (1000, {"LoRA": 10})}), "m, LoRA: 10"),
    "lora_flow": (figures.lora_flow, "W, which is frozen"),
    "training_runs": (lambda: figures.training_runs({"a": [2.0, 1.0]}, "It learns"), "It learns. Loss over 2 steps. a"),
    "lora_picture": (lambda: figures.lora_picture((6, 4), 2), "6"),
    "rag_picture": (figures.rag_picture, "the question goes to the retriever"),
    "forgetting": (
        lambda: figures.forgetting({"full": [(50.0, 0.0), (40.0, 0.1)], "lora": [(50.0, 0.0), (45.0, 0.2)]}),
        "full: perplexity on unseen passages 50.0 and 0.000 nats, then",
    ),
    "answer_rates": (
        lambda: figures.answer_rates([{"name": "no passage", "right": 3, "n": 60, "ci95": (0.02, 0.14)}]),
        "no passage 3 of 60",
    ),
    "prompt_levers": (
        lambda: figures.prompt_levers(recorded.read("prompting"), ("number of examples",), "More examples"),
        "Accuracy on 300 rows. reference: scored",
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
    assert first == second and first.startswith('<svg role="img" aria-label="') and words in first.partition(">")[0]
    assert not re.search(r"<metadata|xlink:href=\"http", first)


@pytest.mark.parametrize(
    "draw",
    [
        lambda title: figures.ai_map(title=title),
        lambda title: figures.token_bars(["a"], {"p": [0.5], "q": [0.25]}, "x", title),
        lambda title: figures.head_maps({"h": np.array([[0.25]])}, title),
        lambda title: figures.attention_heads(["a"], {"h": [[1]]}, title),
        lambda title: figures.reduced_parameters({"m": (1000, {"LoRA": 10})}, title),
        lambda title: figures.lora_picture((6, 4), 2, "W", title),
        lambda title: figures.training_runs({"a": [2.0, 1.0]}, title),
        lambda title: figures.spectra(recorded.read("lora")["full"], title=title),
        lambda title: figures.ranks(recorded.read("lora"), title=title),
        lambda title: figures.levels([0.5], {"int4": [0, 1]}, {"int4": 0.1}, title),
    ],
)
def test_the_message_is_above_the_figure(draw):
    assert draw("The message").get_suptitle() == "The message" and draw("").get_suptitle() != "The message"


LABELS = ["退款问题与投诉", "🤣 funny", "नमस्ते"]
STRANGE = {
    "confusions": lambda: figures.confusions({"零样本": [[1, 2, 0, 0]] * 3}, LABELS),
    "verdicts": lambda: figures.verdicts({"零样本": [0.5, 0.3, 0.2]}, LABELS),
    "wrong_rows": lambda: figures.wrong_rows([("零样本", *LABELS[:2]), ("a", LABELS[2], "b")], "a: 1 wrong"),
    "waterfall": lambda: figures.waterfall([{**ARMS[0], "name": name} for name in ("零样本", *LABELS)]),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.filterwarnings("error::UserWarning")  # matplotlib warns once for each character that its font lacks
def test_characters_that_matplotlibs_font_lacks_are_texts_for_the_browser(name):
    figure = STRANGE[name]()
    data, about = figure._repr_mimebundle_()
    assert list(data) == ["image/svg+xml", "text/plain"] and about["image/svg+xml"]["alt"] == figure.alt
    texts = [element.text for element in ElementTree.fromstring(data["image/svg+xml"]).iter(f"{SVG}text")]
    assert {"零样本", *LABELS} <= set(texts)
    assert not set("".join(texts)) & {chr(number) for number in range(0xFE00, 0xFE10)}


def test_a_wide_label_has_room():
    (axes,) = (figure := figures.confusions({"a": [[1, 0, 0]] * 2}, LABELS[:2])).axes
    for text in ElementTree.fromstring(figures.svg(figure)).iter(f"{SVG}text"):
        if text.text == LABELS[0] and "text-anchor: end" in text.get("style"):
            assert float(text.get("x")) >= 11 * len(LABELS[0])  # each character is as wide as its 11 points
            break
    else:
        pytest.fail("the label is not there")
    assert axes.get_yticklabels()[0].get_text() == LABELS[0]  # drawing leaves the figure as it was
    assert max(map(len, style.wrap("很" * 100, 78))) == 39 and style.wrap("two words", 5) == ["two", "words"]


def test_a_text_cannot_break_an_svg():
    """Control characters, half a pair, markup, and the characters that stand in for a "<" when a figure is drawn."""
    stand_in = "–" + "".join(chr(0xFE00 + int(digit, 16)) for digit in f"{ord('<'):06x}")
    text = f"很\x07\ud800</text><script>&\u202e {stand_in}script"
    figure = figures.confusions({text: [[1, 0]]}, [text])
    drawn = ElementTree.fromstring(figures.svg(figure))
    shown = [element.text for element in drawn.iter(f"{SVG}text")]
    assert shown.count(f"很\ufffd\ufffd</text><script>&[U+202E] {stand_in}script") == 3
    assert "\ufffd" in drawn.get("aria-label") and not list(drawn.iter(f"{SVG}script"))
    assert figures.confusions({"\x07": [[1, 0]]}, ["a"])._repr_mimebundle_()[0]["image/png"]


def test_the_loss_mask_marks_what_is_learned_without_colour_alone():
    shown = figures.loss_mask(["a <b>", "\n", " Sarc", "<|im_end|>"], [-100, -100, 7, 2])
    html = shown._repr_html_()
    assert "a &lt;b&gt;" in html and "&lt;|im_end|&gt;" in html and "&#9166;<br>" in html
    assert html.count("border:2px") == html.count("font-weight:bold") == 2
    assert repr(shown) == "4 tokens; the 2 in boxes count in the loss, the grey ones are only read"
    assert repr(shown) in html
