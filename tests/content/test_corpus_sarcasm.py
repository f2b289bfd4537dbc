"""The gates of the bundled corpus."""

import csv
import re
from collections import Counter

import gates
import numpy as np
import pytest
from gates import similarity, skeleton, words
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

from llmcourse import data
from llmcourse.data.tasks import SARCASM

pytestmark = gates.only_after_a_change(__file__)

with open(data.bundled_path(SARCASM), encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
REPLIES = [row["comment"] for row in ROWS]
LABELS = np.array([int(row["label"]) for row in ROWS])
_, PARENTS = np.unique([row["parent_comment"] for row in ROWS], return_inverse=True)


def cross_validated(model, features) -> float:
    """Mean accuracy over 10 folds that never part a parent's two replies, drawn three times."""
    draws = [StratifiedGroupKFold(10, shuffle=True, random_state=seed) for seed in range(3)]
    return float(np.mean([cross_val_score(model, features, LABELS, groups=PARENTS, cv=folds) for folds in draws]))


def test_size_and_balance():
    assert len(ROWS) == 1200 and len(set(PARENTS)) == 600
    assert len({row["topic"] for row in ROWS}) >= 25
    assert Counter((row["split"], row["label"]) for row in ROWS) == {
        ("train", "0"): 500,
        ("train", "1"): 500,
        ("test", "0"): 100,
        ("test", "1"): 100,
    }
    # each parent has one reply of each label
    assert set(Counter(zip(PARENTS, LABELS, strict=True)).values()) == {1}


def test_parents_are_on_one_side():
    sides = {side: {row["parent_comment"] for row in ROWS if row["split"] == side} for side in ("train", "test")}
    assert not sides["train"] & sides["test"]


def test_no_duplicates_and_no_near_duplicates():
    assert len({" ".join(words(reply)) for reply in REPLIES}) == 1200
    assert similarity(REPLIES).max() < 0.6
    assert similarity(sorted({row["parent_comment"] for row in ROWS})).max() < 0.6


def test_length_tells_nothing():
    lengths = np.array([[len(words(reply)), len(reply)] for reply in REPLIES])
    assert abs(cross_validated(LogisticRegression(), lengths) - 0.5) < 0.03
    assert lengths[:, 0].min() >= 2 and lengths[:, 0].max() <= 40


@pytest.mark.parametrize("mark", ["!", "?", "...", ","])
def test_punctuation_tells_little(mark):
    shares = [
        np.mean([mark in reply for reply, label in zip(REPLIES, LABELS, strict=True) if label == k]) for k in (0, 1)
    ]
    assert abs(shares[0] - shares[1]) < 0.1


def test_no_opening_and_no_skeleton_is_repeated():
    openings = Counter(" ".join(words(reply)[:2]) for reply in REPLIES)
    assert openings.most_common(1)[0][1] <= 12
    # very short replies ("Good for you!") share a skeleton because there is little to share
    common = Counter(skeleton(reply) for reply in REPLIES if len(words(reply)) >= 6)
    assert common.most_common(1)[0][1] <= 12


def test_plain_text():
    for row in ROWS:
        for column in ("comment", "parent_comment"):
            text = row[column]
            assert text == " ".join(text.split()) and text.isprintable()
            assert not re.search(r"/s\b|#\w|https?:|@\w|[\U0001F300-\U0001FAFF]", text), text
