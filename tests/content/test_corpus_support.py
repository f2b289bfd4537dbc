"""The gates of the bundled support messages."""

import csv
import re
from collections import Counter

import gates
import numpy as np
import pytest
from gates import similarity, skeleton, words
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from llmcourse import data
from llmcourse.data import screen
from llmcourse.data.tasks import SUPPORT

pytestmark = gates.only_after_a_change(__file__)

with open(data.bundled_path(SUPPORT), encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
MESSAGES = [row["message"] for row in ROWS]
LABELS = np.array([int(row["label"]) for row in ROWS])
CHANCE = 1 / len(SUPPORT.labels)


def cross_validated(model, features) -> float:
    """Mean accuracy over 10 folds, drawn three times."""
    draws = [StratifiedKFold(10, shuffle=True, random_state=seed) for seed in range(3)]
    return float(np.mean([cross_val_score(model, features, LABELS, cv=folds) for folds in draws]))


def shares(mark) -> list[float]:
    """For each label the share of messages for which `mark(message)` is true."""
    return [
        float(np.mean([mark(m) for m, k in zip(MESSAGES, LABELS, strict=True) if k == label])) for label in range(4)
    ]


def test_size_and_balance():
    assert len(ROWS) == 400 and list(ROWS[0]) == ["label", "message", "topic", "split"]
    assert Counter((row["split"], row["label"]) for row in ROWS) == {
        (split, str(label)): n for split, n in (("train", 75), ("test", 25)) for label in range(4)
    }
    # every topic has as many messages of each label, and one of each in the test set: a topic tells nothing
    assert Counter((row["topic"], row["label"]) for row in ROWS) == {
        (row["topic"], str(label)): 4 for row in ROWS for label in range(4)
    }
    assert len({row["topic"] for row in ROWS}) == 25
    assert set(Counter((row["topic"], row["label"]) for row in ROWS if row["split"] == "test").values()) == {1}


def test_no_duplicates_and_no_near_duplicates():
    assert len({" ".join(words(message)) for message in MESSAGES}) == 400
    assert similarity(MESSAGES).max() < 0.6


def test_a_bag_of_words_does_badly():
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=2000))
    assert CHANCE + 0.1 < cross_validated(model, np.array(MESSAGES)) <= 0.65


def test_words_point_to_other_labels_than_the_right_one():
    """The words that one would look for are found under at least three labels, and none is a label's own."""
    for word in ("cancel", "refund", "broke", "love", "please", "return", "wrong", "late", "lovely"):
        found = Counter(
            SUPPORT.labels[k]
            for message, k in zip(MESSAGES, LABELS, strict=True)
            if re.search(rf"\b{word}", message, re.I)
        )
        assert len(found) >= 2 and found.most_common(1)[0][1] < 0.8 * sum(found.values()), (word, found)


def test_length_tells_little():
    lengths = np.array([[len(words(message)), len(message)] for message in MESSAGES])
    model = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_validated(model, lengths) < CHANCE + 0.08
    assert lengths[:, 0].min() >= 2 and lengths[:, 0].max() <= 45
    assert np.ptp([lengths[label == LABELS, 0].mean() for label in range(4)]) < 3


@pytest.mark.parametrize("mark", ["!", "...", ".", '"'])
def test_punctuation_tells_little(mark):
    assert np.ptp(shares(lambda message: mark in message)) < 0.2


def test_a_question_mark_is_not_a_question():
    questions, *others = shares(lambda message: "?" in message)
    assert questions < 0.8 and min(others) > 0.1
    # of all messages with a question mark a good third asks nothing that an answer would settle
    asked = [k for message, k in zip(MESSAGES, LABELS, strict=True) if "?" in message]
    assert np.mean([k != 0 for k in asked]) > 0.4
    unmarked = shares(lambda message: message[-1].isalnum())
    assert min(unmarked) > 0.1 and max(unmarked) < 0.3


def test_no_opening_and_no_skeleton_is_repeated():
    assert Counter(" ".join(words(message)[:2]) for message in MESSAGES).most_common(1)[0][1] <= 12
    common = Counter(skeleton(message) for message in MESSAGES if len(words(message)) >= 6)
    assert common.most_common(1)[0][1] <= 8


def test_plain_text():
    for message in MESSAGES:
        assert message == " ".join(message.split()) and message.isprintable()
        assert not re.search(r"#\w|https?:|www\.|\w@\w|[\U0001F300-\U0001FAFF]", message), message
        assert screen.fit_to_show(message)


def test_the_label_words_can_be_told_apart():
    lowered = [word.lower() for word in SUPPORT.labels]
    assert not any(a in b for a in lowered for b in lowered if a != b)
