"""TRUST.md names a test for each claim, and shows the figures that were kept."""

import re
from pathlib import Path

import pytest
import record

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "TRUST.md").read_text(encoding="utf-8")
CLAIMS = [line for line in TEXT.split("## Figures")[0].splitlines() if line.startswith("| ") and "shown by" not in line]


@pytest.mark.parametrize("line", CLAIMS, ids=lambda line: line[2:40])
def test_each_claim_names_tests_that_are_there(line):
    named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", line.rstrip("|").rsplit("|", 1)[1])
    assert named
    for module, test in named:
        text = next((ROOT / "tests").rglob(f"{module}.py")).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{module}::{test}"


def test_the_figures_are_those_that_were_kept():
    assert len(CLAIMS) > 25
    assert record.rewritten(TEXT, {"trust": record.trust_table()}, "TRUST.md") == TEXT


def test_figures_are_of_tests_that_are_there():
    names = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r'measured\(\s*"(\w+)"', path.read_text(encoding="utf-8"))
    }
    kept = {path.stem for path in (ROOT / "benchmarks" / "results" / "trust").glob("*.json")}
    assert kept and kept <= names
