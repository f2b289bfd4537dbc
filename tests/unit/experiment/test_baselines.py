"""The two baselines: always the commonest label, and a bag of words."""

from llmcourse.data.tasks import SARCASM
from llmcourse.experiment import baselines


def rows(labels, texts=None):
    texts = texts or ["same text"] * len(labels)
    return [{"label": label, "parent_comment": "p", "comment": text} for label, text in zip(labels, texts, strict=True)]


def test_majority_is_the_commonest_training_label_and_the_smaller_of_two():
    assert baselines.majority(SARCASM, rows([0, 1, 1]))(rows([0, 0])).labels == [1, 1]
    assert baselines.majority(SARCASM, rows([1, 0, 1, 0]))(rows([1])).labels == [0]


def test_a_bag_of_words_reads_the_last_text_column():
    train = rows([0, 1] * 10, ["how kind of you", "oh great another delay"] * 10)
    answers = baselines.bag_of_words(SARCASM, train)(rows([1, 0], ["great delay", "so kind"]))
    assert answers.labels == [1, 0] and answers.seconds > 0
