"""Recipes refuse nonsense; what the course says of the talk's settings is what today's libraries do."""

import re
from dataclasses import fields

import pytest

from llmcourse import CourseError
from llmcourse.models import catalogue
from llmcourse.training import planner
from llmcourse.training.recipes import QUICK, TALK, THOROUGH, WORKSHOP, Recipe


def test_talk_holds_the_talks_numbers():
    assert (TALK.r, TALK.alpha, TALK.dropout, TALK.learning_rate, TALK.epochs) == (8, 16, 0.05, 2e-5, 4)
    assert (TALK.weight_decay, TALK.scheduler, TALK.optimizer, TALK.seed) == (0.001, "constant", "paged_adamw_8bit", 42)
    assert TALK.batch_rows == 1 * 8 and TALK.max_length == 512


def test_recipes_for_a_t4_do_not_page():
    assert {recipe.optimizer for recipe in (THOROUGH, WORKSHOP)} == {"adamw_torch"}
    megabytes = planner.optimiser(catalogue.base("mistral-7b"), WORKSHOP) / 1e6
    assert megabytes == pytest.approx(168, abs=1)  # as the recipe says


NAN, INF = float("nan"), float("inf")
NO_NUMBERS = ("8", None, [8], 1j)
NO_COUNTS = (NAN, INF, 1.5, True, *NO_NUMBERS)
COUNTS = ("r", "alpha", "batch_rows", "max_length", "save_steps")
OPTIONAL = ("upper_layers", "micro_batch_tokens")
WRONG = [
    *((name, NO_COUNTS, "a whole number is needed, for instance") for name in COUNTS),
    *((name, (0, -1), "must be more than 0, for instance") for name in (*COUNTS, *OPTIONAL)),
    *((name, (10**9, 10**400), "must be less than 1,000,000,000, for instance") for name in (*COUNTS, *OPTIONAL)),
    *((name, (NAN, INF, 1.5, True, "all"), "a whole number (or None, for ") for name in OPTIONAL),
    *((name, (-0.1, -INF, NAN), "must be 0 or more, for instance") for name in ("dropout", "warmup", "weight_decay")),
    *((name, (0, -1, -INF, NAN), "must be more than 0, for instance") for name in ("learning_rate", "beta2", "epochs")),
    ("lm_weight", (0, -1, -INF, NAN), "must be more than 0, for instance lm_weight=1.0"),
    ("lm_weight", (1.1, INF), "must be 1 or less, for instance lm_weight=1.0"),
    ("validation", (-0.1, -INF, NAN), "must be 0 or more, for instance validation=0.0"),
    ("validation", (0.6, INF), "must be 0.5 or less, for instance validation=0.0"),
    *((name, (1, INF, 10**400), "must be less than 1, for instance") for name in ("dropout", "warmup", "beta2")),
    *((name, (1e9, INF), "must be less than 1,000,000,000, for") for name in ("learning_rate", "weight_decay")),
    ("epochs", (1001, 10**400, INF), "must be 1,000 or less, for instance epochs=3"),
    *(
        (name, (True, *NO_NUMBERS), "a number is needed, for instance")
        for name in ("dropout", "warmup", "weight_decay", "learning_rate", "beta2", "epochs", "lm_weight", "validation")
    ),
    ("seed", NO_COUNTS, "a whole number is needed, for instance seed=42"),
    ("seed", (-1,), "must be 0 or more, for instance seed=42"),
    ("seed", (2**32, 10**400), "must be less than 4,294,967,296, for instance seed=42"),
    ("scheduler", ("sudden", "", 1, None), "use linear, constant or cosine."),
    (
        "optimizer",
        ("foo", "", 1, None, "galore_adamw", "lomo", "adamw_torch_4bit"),
        "use adamw_torch, adamw_torch_fused,",
    ),
    *(
        (name, (0, 1, "yes", None), "True or False is needed, for instance")
        for name in ("instruction", "checkpointing")
    ),
    ("target_modules", ((), ["q_proj"], "q_proj", (1,), None), "a tuple of matrices' names is needed, for instance"),
    ("target_modules", (("q_proj", "nope"), (".*",), ("",)), "in target_modules; use q_proj, k_proj, v_proj, o_proj,"),
    ("target_modules", (("q_proj", "lm_head"),), "Leave it out of target_modules"),
    ("name", (1, None), "a text is needed"),
    ("rank", (8,), "A recipe has no 'rank'. It has: name, r, alpha"),
    ("learnin_rate", (1,), "Did you mean 'learning_rate'?"),
]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param(name, value, message, id=f"{name}={value!r:.20}")
        for name, values, message in WRONG
        for value in values
    ],
)
def test_an_absurd_value_gets_a_short_message(name, value, message):
    with pytest.raises(CourseError, match=re.escape(message)) as caught:
        QUICK.changed(**{name: value})
    assert name in str(caught.value) and len(str(caught.value)) < 340


def test_every_field_is_among_them():
    assert {field.name for field in fields(Recipe)} <= {name for name, _, _ in WRONG}
