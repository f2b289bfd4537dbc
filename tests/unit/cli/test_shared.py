"""What arguments describe, without a model."""

import argparse

import pytest

from llmcourse import CourseError
from llmcourse.cli import shared
from llmcourse.data.tasks import SARCASM, TASKS
from llmcourse.training import recipes


def recipe_of(*changes, recipe=None):
    return shared.recipe_of(argparse.Namespace(recipe=recipe, set=list(changes)))


def test_a_recipe_with_changes(monkeypatch):
    monkeypatch.setenv("LLMCOURSE_GEAR", "cpu")
    assert recipe_of() == recipes.QUICK and recipe_of(recipe="talk") == recipes.TALK
    changed = recipe_of("r=8", "upper_layers=None", "learning_rate=1e-4", "scheduler=cosine", recipe="quick")
    assert changed == recipes.QUICK.changed(r=8, upper_layers=None, learning_rate=1e-4, scheduler="cosine")


def test_columns():
    assert shared.columns_of(["comment=body", "label=a=b"]) == {"comment": "body", "label": "a=b"}
    for pair in ("comment", "=body", "comment="):
        with pytest.raises(CourseError, match=f"--column {pair} cannot be read. Write it as NAME=COLUMN"):
            shared.columns_of([pair])


def test_the_help_names_every_task_of_the_course():
    assert f"{SARCASM.name} (default), {', '.join(list(TASKS)[1:])}, or a name for your own" == shared.TASK_NAMES
