"""What an LLM has to beat: always the same answer, and a bag of words.

Both take a second. A finetuned model that is not clearly better than they are was not worth its training.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llmcourse.data.tasks import Task
from llmcourse.predict import Predictions


def majority(task: Task, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]) -> Predictions:
    """Predict the training rows' commonest label for every row (the smallest of several that are equally common)."""
    counts = Counter(row["label"] for row in train)
    label = min(counts, key=lambda label: (-counts[label], label))
    return Predictions([label] * len(test), 0.0)


def bag_of_words(task: Task, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]) -> Predictions:
    """Predict with TF-IDF over words and pairs of words and logistic regression, with scikit-learn's defaults.

    It reads the last text column only (for sarcasm the reply): in SARC, as in the course's corpus, both classes answer
    the same parents, so adding the parent makes this baseline weaker.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    column = task.columns[-1]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=2000))
    model.fit([row[column] for row in train], [row["label"] for row in train])
    start = time.perf_counter()
    labels = model.predict([row[column] for row in test]).tolist()
    return Predictions(labels, time.perf_counter() - start)
