"""What happens between two training steps: progress, stopping on request, sealing checkpoints.

Importing this module imports transformers, so only `finetuning` does so, when it trains.
"""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmcourse._base import files
from llmcourse._base.errors import CourseError

Progress = Callable[[int, int, float | None], None]
"""Called with the step, the number of steps, and the step's loss (None when training begins)."""


SKIPS_ALLOWED = 10
"""Skipped steps that are no cause for alarm: float16's gradient scaler starts at 65,536, and skips a step each time it
halves its scale, until no gradient overflows."""

SKIPPED_SHARE = 0.1
"""Share of skipped steps above which training stops."""


class Watch(TrainerCallback):
    """Report steps, stop on request, count the steps that the gradient scaler skipped, and seal checkpoints."""

    def __init__(
        self, stop: threading.Event, progress: Progress | None, seconds: Callable[[], float], skipped: int = 0
    ):
        self.stop, self.progress, self.seconds, self.skipped = stop, progress, seconds, skipped

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.progress:
            self.progress(state.global_step, state.max_steps, None)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        check_finite(loss, state.global_step)
        if self.progress:
            self.progress(state.global_step, state.max_steps, loss)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.skipped += kwargs["optimizer"].step_was_skipped
        check_skipped(self.skipped, state.global_step)
        if any(gather_object([self.stop.is_set()])):  # all processes stop after the same step
            self.stop.set()
            control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.stop.is_set() and not float(state.epoch or 0).is_integer():
            control.should_evaluate = False  # the epoch was cut short, and the resumed run evaluates it at its end

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        PartialState().wait_for_everyone()  # each process has written its random state
        if state.is_world_process_zero:
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            files.seal(checkpoint, seconds=self.seconds(), skipped=self.skipped)


def check_finite(loss: float, step: int) -> None:
    """Raise CourseError for a loss that is not a number."""
    if not math.isfinite(loss):
        raise CourseError(
            f"The loss is {loss} at step {step}, so training broke down. Lower the learning rate. On a GPU before"
            " Ampere, the model may overflow float16."
        )


def check_skipped(skipped: int, steps: int) -> None:
    """Raise CourseError when float16 made the gradient scaler skip too many of the steps so far."""
    if skipped > max(SKIPS_ALLOWED, SKIPPED_SHARE * steps):
        raise CourseError(
            f"{skipped} of {steps} training steps were skipped, because their gradients overflowed float16, so little"
            " was learned. Lower the learning rate (--set learning_rate=...), use another model, or train on a GPU of"
            " the Ampere generation or newer, which uses bfloat16."
        )
