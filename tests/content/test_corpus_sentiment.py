"""The gates of the bundled sentiment texts."""

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
from llmcourse.data.tasks import SENTIMENT

pytestmark = gates.only_after_a_change(__file__)

with open(data.bundled_path(SENTIMENT), encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
TEXTS = [row["text"] for row in ROWS]
LABELS = np.array([int(row["label"]) for row in ROWS])


def test_size_and_balance():
    assert len(ROWS) == 600 and list(ROWS[0]) == ["label", "text", "topic", "split"]
    cells = Counter((row["topic"], row["split"], row["label"]) for row in ROWS)
    assert len(cells) == 20 * 2 * 3 and set(cells.values()) == {5}  # a topic tells nothing


def test_no_duplicates_and_no_near_duplicates():
    assert len({" ".join(words(text)) for text in TEXTS}) == 600
    assert similarity(TEXTS).max() < 0.6


def test_length_tells_little():
    lengths = np.array([[len(words(text)), len(text)] for text in TEXTS])
    assert lengths[:, 0].min() >= 3 and lengths[:, 0].max() <= 30
    assert np.ptp([lengths[label == LABELS, 0].mean() for label in range(3)]) < 2
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    assert cross_val_score(model, lengths, LABELS, cv=folds).mean() < 0.43


def test_no_opening_is_repeated():
    assert Counter(" ".join(words(text)[:2]) for text in TEXTS).most_common(1)[0][1] <= 12


def test_plain_text():
    for text in TEXTS:
        assert text == " ".join(text.split()) and text.isascii() and text.isprintable()
        assert not re.search(r"#\w|https?:|www\.|\w@\w", text), text
        assert screen.fit_to_show(text)
