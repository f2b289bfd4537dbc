"""What an LLM has to beat: always the same answer, and a bag of words.

Both cost nothing to run. A finetuned model that is not clearly ahead of them has not earned its electricity.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from llmcourse.data.tasks import Task
from llmcourse.predict import Predictions


def majority(task: Task, train: Sequence[Mapping], test: Sequence[Mapping]) -> Predictions:
    """The training rows' commonest label, for every row (the smaller label if several are equally common)."""
    counts = Counter(row["label"] for row in train)
    label = min(counts, key=lambda label: (-counts[label], label))
    return Predictions([label] * len(test), 0.0)


def bag_of_words(task: Task, train: Sequence[Mapping], test: Sequence[Mapping]) -> Predictions:
    """TF-IDF over words and pairs of words, then logistic regression: scikit-learn's defaults, trained in a second.

    It reads the last text column only (for sarcasm the reply): in SARC, as in the course's corpus, both classes answer the same
    parents, and adding the parent makes this baseline weaker.
    """
    from sklearn.linear_model import LogisticRegression

    column = task.columns[-1]
    model = _pipeline(LogisticRegression(max_iter=2000))
    model.fit([row[column] for row in train], [row["label"] for row in train])
    start = time.perf_counter()
    labels = model.predict([row[column] for row in test]).tolist()
    return Predictions(labels, time.perf_counter() - start)


def _pipeline(classifier):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), classifier)
