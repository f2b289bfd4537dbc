"""An arm and a paired test print themselves so that a notebook needs no format string."""

import dataclasses

from llmcourse.experiment import Arm, PairedTest
from llmcourse.experiment.metrics import evaluate
from llmcourse.predict import Generated

LABELS = ("no", "yes")
GOLD = [0, 1, 0, 1]


def arm(name="zero-shot, generated", labels=(0, 1, None, 0)):
    return Arm(name, "prompted", {}, Generated(list(labels), 2.0, ["a"] * 4), evaluate(GOLD, list(labels), LABELS))


def test_an_arm_prints_accuracy_interval_and_invalid_answers():
    assert str(arm()) == "zero-shot, generated              50.0%   95 % interval 15.0% to 85.0%, 1 invalid"
    assert str(arm(labels=GOLD)).endswith("100.0%   95 % interval 51.0% to 100.0%")


def test_an_arms_entry_holds_its_training_only_if_there_was_one():
    entry = arm().as_dict()
    assert entry["seconds_per_row"] == 0.5 and entry["invalid"] == 1 and "training_seconds" not in entry
    trained = dataclasses.replace(arm(), training={"seconds": 12.34, "trainable": 7, "cut_rows": 0, "recipe": {}})
    assert trained.as_dict() | {"training_seconds": 12.3, "trained_parameters": 7} == trained.as_dict()


def test_a_paired_test_names_both_arms():
    test = PairedTest(arm("LoRA"), arm("majority"), 0.00123)
    assert str(test) == f"LoRA against {'majority':<32} p = 0.0012"
    assert test.as_dict() == {"a": "LoRA", "b": "majority", "p": 0.00123}
