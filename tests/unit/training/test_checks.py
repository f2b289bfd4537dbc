"""The checks by themselves; that training runs them is shown in tests/robustness/test_quietly_wrong.py."""

import pytest
import torch

from llmcourse import CourseError
from llmcourse.training import checks
from llmcourse.training.callbacks import check_finite
from llmcourse.training.recipes import QUICK


class Letters:
    """A tokenizer whose tokens are code points."""

    decode = staticmethod(lambda tokens: "".join(map(chr, tokens)))


REFUSED = [
    (lambda: checks.check_end([5, 6], 2, 3), "Training row 3 does not end with a labelled end-of-text token"),
    (lambda: checks.check_end([], 2, 3), "Training row 3 does not end"),
    (lambda: checks.check_label([83], [78, 83], Letters, 0), r"row 0 would teach 'S', but its label is 'NS' \(tokens"),
    (lambda: checks.check_beginning([1, 1, 9], 1, 4), "row 4 begins with two beginning-of-text tokens"),
    (lambda: checks.check_trainable(0), "Nothing would be trained"),
    (lambda: checks.check_learned({"a.lora_B.w": torch.zeros(2, 2)}), "still zero after training"),
    (
        lambda: checks.check_learned({"a.lora_B.w": torch.zeros(2), "b.lora_B.w": torch.ones(2)}),
        "1 of the adapter's 2 matrices B are still zero after training, first a.lora_B.w",
    ),
    (
        lambda: checks.check_steps(12, QUICK.changed(epochs=1)),
        r"12 rows in steps of 16 make a single step, and warm-up.*learning rate of 0.*--set warmup=0",
    ),
    (lambda: check_finite(float("nan"), 7), "The loss is nan at step 7"),
]


@pytest.mark.parametrize(("check", "message"), REFUSED)
def test_what_is_wrong_is_refused(check, message):
    with pytest.raises(CourseError, match=message):
        check()


def test_what_is_right_passes():
    checks.check_end([5, 2], 2, 0)
    checks.check_label([83], [83], Letters, 0)
    checks.check_beginning([1, 9], 1, 0)
    checks.check_beginning([1, 1], None, 0)
    checks.check_learned({"a.lora_A.w": torch.zeros(2), "a.lora_B.w": torch.ones(2)})
    check_finite(0.1, 1)


def test_a_run_that_has_a_step_after_the_first_is_not_refused():
    checks.check_steps(12, QUICK.changed(epochs=2))
    checks.check_steps(17, QUICK.changed(epochs=1))
    checks.check_steps(12, QUICK.changed(epochs=1, warmup=0))
