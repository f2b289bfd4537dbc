"""Installed versions: which are the same, and which were swapped under a running kernel."""

import sys

import pytest

from llmcourse.setup import installed


def test_swaps_are_seen_by_name_or_by_another(monkeypatch):
    import types

    for name in ("numpy", "sklearn"):
        module = types.ModuleType(name)
        module.__version__ = "0.0.1"
        monkeypatch.setitem(sys.modules, name, module)
    lazy = types.ModuleType("tqdm")
    lazy.__getattr__ = lambda name: pytest.fail("a module that loads its parts on demand was asked for one")
    monkeypatch.setitem(sys.modules, "tqdm", lazy)
    assert [(swap.name, swap.loaded) for swap in installed.swaps()] == [("numpy", "0.0.1"), ("scikit-learn", "0.0.1")]


@pytest.mark.parametrize(
    ("loaded", "now", "same"),
    [
        ("2026.05.20", "2026.5.20", True),
        ("2026.10.19", "2026.10.19.post1", True),  # certifi
        ("2.1", "2.1.0", True),
        ("2.1.3", "2.1.4", False),
        ("2.11.0+cu128", "2.11.0+cpu", False),
        ("2.11.0+cu128", "2.11.0+cu128", True),
        ("2.13.0+cu130", "2.13.0", True),  # torch from PyPI: the module names its build, the package does not
        ("2.13.0+cu130", "2.13.1", False),
        ("unknown", "unknown", True),
        ("unknown", "1.0", False),
    ],
)
def test_which_versions_are_the_same(loaded, now, same):
    assert installed._same(loaded, now) is same
