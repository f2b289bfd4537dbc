"""Two baselines: always the commonest label, and a bag of words and characters. The others are in test_features."""

import pytest

from llmcourse.data.tasks import SARCASM, Task
from llmcourse.experiment import baselines


def rows(labels, texts=None):
    texts = texts or ["same text"] * len(labels)
    return [{"label": label, "parent_comment": "p", "comment": text} for label, text in zip(labels, texts, strict=True)]


def correct(task, train, test):
    """Return the bag of words' share of correct answers."""
    labels = baselines.bag_of_words(task, train)(test).labels
    return sum(label == row["label"] for label, row in zip(labels, test, strict=True)) / len(test)


def test_majority_is_the_commonest_training_label_and_the_smaller_of_two():
    assert baselines.majority(SARCASM, rows([0, 1, 1]))(rows([0, 0])).labels == [1, 1]
    assert baselines.majority(SARCASM, rows([1, 0, 1, 0]))(rows([1])).labels == [0]


def test_a_bag_of_words_learns_words():
    train = rows([0, 1] * 10, ["how kind of you", "oh great another delay"] * 10)
    answers = baselines.bag_of_words(SARCASM, train)(rows([1, 0], ["great delay", "so kind"]))
    assert answers.labels == [1, 0] and answers.seconds > 0


@pytest.mark.parametrize("decisive", ["title", "place", "reference"])
def test_a_bag_of_words_reads_every_text_column(decisive):
    columns = {"title": "Title", "place": "Place", "reference": "Reference"}
    task = Task("columns", "Read the ticket.", columns, ("Bad", "Good"))
    ways = ("broken on arrival", "a joy to use")
    made = [{**dict.fromkeys(columns, f"text {n}"), decisive: f"{ways[n % 2]} {n}", "label": n % 2} for n in range(60)]
    assert correct(task, made[:40], made[40:]) == 1


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(("非常喜得推荐很好用第{}单", "质量差不值退货第{}单"), id="no spaces between words"),
        pytest.param(("😀 👍 {}", "😡 👎 {}"), id="emoji"),
        pytest.param(("😀", "😡"), id="a single emoji"),
        pytest.param(("a", "b"), id="a single letter"),
        pytest.param(("!", "?"), id="a single mark"),
        pytest.param(("unhappy{} xunhappyx", "happier{} xhappierx"), id="parts of words"),
    ],
)
def test_a_bag_of_words_reads_texts_of_every_kind(texts):
    task = Task("texts", "Read the text.", {"text": "Text"}, ("First", "Second"))
    made = [{"text": texts[n % 2].format(n), "label": n % 2} for n in range(60)]
    assert correct(task, made[:40], made[40:]) == 1


def test_a_column_may_have_any_name():
    task = Task("names", "Read the text.", {"text__a-1": "Text", "b": "B"}, ("First", "Second"))
    made = [{"text__a-1": ("yes", "no")[n % 2], "b": "-", "label": n % 2} for n in range(20)]
    assert correct(task, made, made) == 1
