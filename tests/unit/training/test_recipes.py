"""Recipes refuse nonsense; what the course says of the talk's settings is what today's libraries do."""

import pytest

from llmcourse import CourseError
from llmcourse.models import catalogue
from llmcourse.training import planner
from llmcourse.training.recipes import QUICK, TALK, THOROUGH, WORKSHOP


def test_talk_holds_the_talks_numbers():
    assert (TALK.r, TALK.alpha, TALK.dropout, TALK.learning_rate, TALK.epochs) == (8, 16, 0.05, 2e-5, 4)
    assert (TALK.weight_decay, TALK.scheduler, TALK.optimizer, TALK.seed) == (0.001, "constant", "paged_adamw_8bit", 42)
    assert TALK.batch_rows == 1 * 8 and TALK.max_length == 512


def test_recipes_for_a_t4_do_not_page():
    assert {recipe.optimizer for recipe in (THOROUGH, WORKSHOP)} == {"adamw_torch"}
    megabytes = planner.optimiser(catalogue.base("mistral-7b"), WORKSHOP) / 1e6
    assert megabytes == pytest.approx(168, abs=1)  # as the recipe says


@pytest.mark.parametrize(
    "change",
    [
        {"r": 0},
        {"epochs": -1},
        {"dropout": 1.0},
        {"scheduler": "sudden"},
        {"rank": 8},
        {"r": 2.0},
        {"upper_layers": "all"},
    ],
)
def test_nonsense_is_refused(change):
    with pytest.raises(CourseError, match=next(iter(change))):
        QUICK.changed(**change)
