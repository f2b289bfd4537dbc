"""The gates of the bundled support messages."""

import csv
import re
from collections import Counter

import gates
import numpy as np
from gates import similarity, words
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


def test_size_and_balance():
    assert len(ROWS) == 1000 and list(ROWS[0]) == ["label", "message", "topic", "split"]
    # every topic has as many messages of each label on each side: a topic tells nothing
    cells = Counter((row["topic"], row["split"], row["label"]) for row in ROWS)
    assert len(cells) == 25 * 2 * 4
    assert {(split, count) for (_, split, _), count in cells.items()} == {("train", 7), ("test", 3)}


def test_no_duplicates_and_no_near_duplicates():
    assert len({" ".join(words(message)) for message in MESSAGES}) == 1000
    assert similarity(MESSAGES).max() < 0.6


def test_length_tells_little():
    lengths = np.array([[len(words(message)), len(message)] for message in MESSAGES])
    model = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_validated(model, lengths) < CHANCE + 0.11
    assert lengths[:, 0].min() >= 2 and lengths[:, 0].max() <= 60
    assert np.ptp([lengths[label == LABELS, 0].mean() for label in range(4)]) < 4


def test_a_question_mark_is_not_always_a_question():
    asked = [k for message, k in zip(MESSAGES, LABELS, strict=True) if "?" in message]
    assert np.mean([k != 0 for k in asked]) > 0.15


def test_no_opening_is_repeated():
    assert Counter(" ".join(words(message)[:2]) for message in MESSAGES).most_common(1)[0][1] <= 30


def test_plain_text():
    for message in MESSAGES:
        assert message == " ".join(message.split()) and message.isprintable()
        assert not re.search(r"#\w|https?:|www\.|\w@\w|[\U0001F300-\U0001FAFF]", message), message
        assert screen.fit_to_show(message)


def test_the_label_words_can_be_told_apart():
    lowered = [word.lower() for word in SUPPORT.labels]
    assert not any(a in b for a in lowered for b in lowered if a != b)
