"""What arguments describe, without a model."""

import argparse

import pytest

from llmcourse import CourseError
from llmcourse.cli import shared
from llmcourse.training import recipes


def recipe_of(*changes, recipe=None):
    return shared.recipe_of(argparse.Namespace(recipe=recipe, set=list(changes)))


def test_a_recipe_with_changes(monkeypatch):
    monkeypatch.setenv("LLMCOURSE_GEAR", "cpu")
    assert recipe_of() == recipes.QUICK and recipe_of(recipe="talk") == recipes.TALK
    changed = recipe_of("r=8", "upper_layers=None", "learning_rate=1e-4", "scheduler=cosine", recipe="few")
    assert changed == recipes.FEW.changed(r=8, upper_layers=None, learning_rate=1e-4, scheduler="cosine")


def test_what_a_training_had_to_do_is_noted():
    training = {
        "cut_rows": 3,
        "rows": 1000,
        "notes": ["2 of 125 steps were skipped: their gradients overflowed float16."],
    }
    cut, skipped = shared.notes_on(training)
    assert cut.startswith("Note: 3 of 1,000 training rows were too long") and skipped == f"Note: {training['notes'][0]}"
    assert shared.notes_on({"cut_rows": 0, "rows": 10}) == []  # the card of an older version


def test_columns():
    assert shared.columns_of(["comment=body", "label=a=b"]) == {"comment": "body", "label": "a=b"}
    for pair in ("comment", "=body", "comment="):
        with pytest.raises(CourseError, match=f"--column {pair} cannot be read. Write it as NAME=COLUMN"):
            shared.columns_of([pair])
