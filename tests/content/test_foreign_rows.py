"""No row of a data set that is not ours is saved anywhere: not in an output, a result, a page or a slide.

`foreign_rows.txt` holds hashes of how the real rows begin that the course was developed on: the first six words of each
text.
"""

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HASHES = frozenset((Path(__file__).parent / "foreign_rows.txt").read_text(encoding="utf-8").split())
KINDS = ("*.ipynb", "*.md", "*.json", "*.csv", "*.html", "*.svg")
SKIPPED = (".venv", "runs", ".git", "node_modules", "build")


def beginnings(text: str) -> set[str]:
    """Hashes of every six words in a row."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    windows = (" ".join(words[start : start + 6]) for start in range(len(words) - 5))
    return {hashlib.sha256(window.encode()).hexdigest()[:10] for window in windows}


def saved() -> list[Path]:
    found = [path for kind in KINDS for path in ROOT.rglob(kind)]
    return [path for path in found if not path.relative_to(ROOT).parts[0].startswith(SKIPPED)]


@pytest.mark.parametrize("path", saved(), ids=lambda path: path.name)
def test_no_foreign_row_is_saved(path):
    text = path.read_text(encoding="utf-8")
    # the line breaks of a notebook's JSON are no part of a sentence
    assert not beginnings(text.replace("\\n", " ")) & HASHES


def test_a_foreign_row_would_be_found(monkeypatch):
    planted = "The quick brown fox jumps over the lazy dog."
    one = hashlib.sha256(b"the quick brown fox jumps over").hexdigest()[:10]
    assert one in beginnings(f'{{"text": ["so: {planted}"]}}') and one not in beginnings(
        "The quick brown fox jumped over it"
    )
    assert len(HASHES) > 7000
