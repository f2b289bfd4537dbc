"""What the gates of several corpora measure: words, skeletons of sentences, and how alike texts are."""

import re

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

FUNCTION_WORDS = re.findall(
    r"\w+", "a an the and or but so if of to in on at for with as is was are be it that this you i we my your"
)
PUNCTUATION = ".,!?;:…\"'()"


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def skeleton(text: str) -> str:
    """The order of function words and marks, with everything else blanked out."""
    tokens = re.findall(r"[\w']+|[.,!?]", text.lower())
    return re.sub(r"(_ )+", "_ ", " ".join(t if t in FUNCTION_WORDS or t in PUNCTUATION else "_" for t in tokens) + " ")


def similarity(texts: list[str]) -> np.ndarray:
    vectors = TfidfVectorizer(ngram_range=(1, 2)).fit_transform(texts)
    near = (vectors @ vectors.T).toarray()
    np.fill_diagonal(near, 0)
    return near
