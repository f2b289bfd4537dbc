"""The gates of the bundled corpora: what several of them measure, and when they run.

Gates compare thousands of pairs of texts, and corpora change seldom. `corpora.json` holds a hash of each corpus with
the gates that it passed; as long as both are the same, its gates are skipped. `make gates` runs all of them and writes
the hashes.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

CONTENT = Path(__file__).parents[1] / "content"
PASSED = CONTENT / "corpora.json"
CORPORA = {
    "test_corpus_sarcasm.py": ("sarcasm.csv",),
    "test_corpus_sentiment.py": ("sentiment.csv",),
    "test_corpus_support.py": ("support.csv",),
    "test_corpus_injections.py": ("injections.csv",),
    "test_corpus_handbook.py": ("handbook.json", "general.json"),
}
"""The files of gates, and the corpora that each is about."""


def digest(gates: str) -> str:
    """Return the SHA-256 of a file of gates, of what it shares with others, and of its corpora."""
    folder = resources.files("llmcourse.data") / "corpora"
    parts = [CONTENT / gates, Path(__file__), *(folder / name for name in CORPORA[gates])]
    return hashlib.sha256(b"\0".join(part.read_bytes() for part in parts)).hexdigest()


def only_after_a_change(path: str) -> pytest.MarkDecorator:
    """Mark the gates in this file to be skipped while their corpora are those that passed them."""
    name = Path(path).name
    same = json.loads(PASSED.read_text(encoding="utf-8")).get(name) == digest(name)
    return pytest.mark.skipif(
        same and not os.environ.get("LLMCOURSE_GATES"), reason="the corpus has passed these gates: make gates"
    )


def main() -> int:
    """Run all gates and record which corpora passed them."""
    command = [sys.executable, "-m", "pytest", "-q", *(str(CONTENT / name) for name in CORPORA)]
    failed = subprocess.run(command, env={**os.environ, "LLMCOURSE_GATES": "1"}).returncode
    if not failed:
        PASSED.write_text(json.dumps({name: digest(name) for name in CORPORA}, indent=1) + "\n", encoding="utf-8")
    return failed


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


if __name__ == "__main__":
    raise SystemExit(main())
