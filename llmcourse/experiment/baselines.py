"""What a finetuned LLM has to beat: always the same answer, a bag of words and characters, and logistic regression on
sentence embeddings or on the frozen LLM's own vectors.

They take seconds. A finetuned model that is not clearly better than they are was not worth its training.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llmcourse.data.tasks import Task
from llmcourse.models import LoadedModel
from llmcourse.predict import Predictions, features

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

WORD = r"\w+|[^\w\s]"
"""A word: letters and digits that stand together, or a single mark or emoji."""

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
    """Fit `bag_of_words_model` to the training rows."""
    return _fitted(bag_of_words_model(task.columns), train, lambda rows: rows)


def sentence_embeddings(task: Task, train: Sequence[Mapping]) -> Answer:
    """Fit logistic regression to the sentence embeddings of the training rows' text columns.

    Raises CourseError if the embedding model is not installed (see `predict.retrieval`).
    """
    return _fitted(vector_model(), train, lambda rows: features.embeddings(task, rows))


def frozen_features(loaded: LoadedModel, task: Task, train: Sequence[Mapping]) -> Answer:
    """Fit logistic regression to what the base model makes of the training rows (see `features.hidden_states`)."""
    return _fitted(vector_model(), train, lambda rows: features.hidden_states(loaded, task, rows))


def _fitted(model: "Pipeline", train: Sequence[Mapping], vectors: Callable[[Sequence[Mapping]], Any]) -> Answer:
    model.fit(vectors(train), [row["label"] for row in train])

    def answer(rows: Sequence[Mapping]) -> Predictions:
        start = time.perf_counter()
        labels = model.predict(vectors(rows)).tolist()
        return Predictions(labels, time.perf_counter() - start)

    return answer


def vector_model() -> "Pipeline":
    """Return logistic regression on standardised numbers, with a penalty that suits some hundred rows of as many
    numbers (chosen with benchmarks/baselines.py)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))


def bag_of_words_model(columns: Sequence[str]) -> "Pipeline":
    """Return logistic regression on the TF-IDF of words, pairs of words and character n-grams, for each text column.

    Every mark and every emoji is a word. The n-grams of 1 to 5 characters find endings, misspellings, and words in
    languages that put no spaces between them. All this was chosen by cross-validation on training rows
    (benchmarks/baselines.py).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    parts = []
    for column in columns:
        read = partial(_lower, column=column)
        words = TfidfVectorizer(preprocessor=read, token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True)
        characters = TfidfVectorizer(preprocessor=read, analyzer="char", ngram_range=(1, 5), sublinear_tf=True)
        parts += [words, characters]
    return make_pipeline(make_union(*parts), LogisticRegression(max_iter=2000))


def _lower(row: Mapping, column: str) -> str:
    return row[column].lower()
