"""What an LLM has to beat: always the same answer, and a bag of words.

Both take a second. A finetuned model that is not clearly better than they are was not worth its training.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from llmcourse.data.tasks import Task
from llmcourse.predict import Predictions

Answer = Callable[[Sequence[Mapping]], Predictions]
"""A fitted baseline: rows -> predictions."""

Fit = Callable[[Task, Sequence[Mapping]], Answer]
"""A baseline: a task and its training rows -> a fitted baseline."""


def majority(task: Task, train: Sequence[Mapping]) -> Answer:
    """Answer every row with the training rows' commonest label (the smaller label if several are equally common)."""
    counts = Counter(row["label"] for row in train)
    label = min(counts, key=lambda label: (-counts[label], label))
    return lambda rows: Predictions([label] * len(rows), 0.0)


def bag_of_words(task: Task, train: Sequence[Mapping]) -> Answer:
    """Fit TF-IDF over words and pairs of words with logistic regression: scikit-learn's defaults, fitted in a second.

    It reads the last text column only (for sarcasm the reply). In SARC, as in the course's corpus, both classes answer
    the same parents, and adding the parent makes this baseline weaker.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    column = task.columns[-1]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=2000))
    model.fit([row[column] for row in train], [row["label"] for row in train])

    def answer(rows: Sequence[Mapping]) -> Predictions:
        start = time.perf_counter()
        labels = model.predict([row[column] for row in rows]).tolist()
        return Predictions(labels, time.perf_counter() - start)

    return answer
