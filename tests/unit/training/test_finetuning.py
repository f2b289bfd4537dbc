"""Training: the loss is on label and end of text, each row weighs the same, and a run that dies goes on as if it had
not."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import get_args

import pytest
import small
import torch
from small import ONE_EPOCH, TRAINING_ROWS, TWO_EPOCHS, adapter_of
from trl import SFTTrainer

from llmcourse import CourseError, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.training import configs, finetuning
from llmcourse.training.callbacks import check_skipped
from llmcourse.training.checkpoints import last_checkpoint
from llmcourse.training.examples import hold_out, training_notes
from llmcourse.training.recipes import Optimizer

pytestmark = pytest.mark.usefixtures("products")  # adapters are compared to rounding, over processes


def test_micro_batches_add_up_to_the_batch(make_tiny, tmp_path):
    """The same adapter whether a step's 4 rows go through the model at once or in several micro-batches."""
    adapters, runs = [], []
    for tokens in (10_000, 100):
        loaded = make_tiny(3)
        # plain gradient descent: Adam would blow float noise up where a gradient is nearly zero
        recipe = TWO_EPOCHS.changed(micro_batch_tokens=tokens, optimizer="sgd", learning_rate=1.0)
        run = finetuning.finetune(loaded, SARCASM, TRAINING_ROWS[:20], recipe, tmp_path / str(tokens))
        assert run.micro_tokens <= tokens and run.micro_rows == {10_000: 4, 100: 2}[tokens]
        runs.append(run)
        adapters.append(adapter_of(loaded))
    assert runs[0].losses == pytest.approx(runs[1].losses, abs=1e-4)
    for name in adapters[0]:
        assert torch.allclose(adapters[0][name], adapters[1][name], atol=1e-4), name


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_each_optimiser_of_a_recipe_trains_with_the_courses_packages(tiny, tmp_path, optimizer):
    run = finetuning.finetune(tiny, SARCASM, TRAINING_ROWS[:8], ONE_EPOCH.changed(optimizer=optimizer), tmp_path)
    assert run.steps == 2


def test_training_changes_the_adapter_and_nothing_else(tiny, tmp_path):
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    steps = []
    run = finetuning.finetune(
        tiny, SARCASM, TRAINING_ROWS, TWO_EPOCHS, tmp_path, progress=lambda *step: steps.append(step)
    )
    assert run.steps == 12 and [step for step, *_ in steps] == list(range(13)) and len(run.losses) == 12
    assert sum(run.losses[-3:]) < sum(run.losses[:3])
    assert tiny.has_adapter and not tiny.model.training and "forward" not in tiny.model.get_base_model().__dict__
    prompt = configs.training_prompt(SARCASM, TWO_EPOCHS)
    tuned = predict.score(tiny, prompt, TRAINING_ROWS).logprobs
    with tiny.without_adapter():
        base = predict.score(tiny, prompt, TRAINING_ROWS).logprobs
    tiny.drop_adapter()
    assert predict.score(tiny, prompt, TRAINING_ROWS).logprobs == base != tuned
    assert all(torch.equal(p, before[name]) for name, p in tiny.model.named_parameters())


def test_a_resumed_run_ends_with_the_same_adapter(make_tiny, tmp_path, monkeypatch):
    recipe = TWO_EPOCHS.changed(dropout=0.1)
    whole = make_tiny(1)
    finetuning.finetune(whole, SARCASM, TRAINING_ROWS, recipe, tmp_path / "whole")

    def stop_after_five(step, steps, loss):
        if step == 5:  # asked for when step 5 is over, done when step 6 is
            os.kill(os.getpid(), signal.SIGINT)

    broken = make_tiny(1)
    with pytest.raises(finetuning.Interrupted, match="after step 6 of 12"):
        finetuning.finetune(broken, SARCASM, TRAINING_ROWS, recipe, tmp_path / "broken", progress=stop_after_five)
    assert not broken.has_adapter and last_checkpoint(tmp_path / "broken").name == "checkpoint-6"
    real, safely = torch.load, []

    def load(*args, **kwargs):
        safely.append(kwargs.get("weights_only"))
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "load", load)
    run = finetuning.finetune(broken, SARCASM, TRAINING_ROWS, recipe, tmp_path / "broken")
    assert run.resumed_from == 6 and len(run.losses) == 12
    assert len(safely) >= 3 and all(safely)  # optimiser, scheduler, random states: no pickle runs code
    first, second = adapter_of(whole), adapter_of(broken)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_run_goes_on(make_tiny, tmp_path):
    """SIGKILL in mid-training: the last whole checkpoint is used, and the end is the same."""
    program = textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[2])
        import small
        from llmcourse.data.tasks import SARCASM
        from llmcourse.training import finetuning
        loaded = small.tiny_model(small.tokenizer(), 1)
        finetuning.finetune(loaded, SARCASM, small.TRAINING_ROWS, small.TWO_EPOCHS.changed(epochs=200), sys.argv[1])
    """)
    victim = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(Path(small.__file__).parent)])
    for _ in range(2400):
        found = last_checkpoint(tmp_path)
        if (found and int(found.name.split("-")[1]) >= 4) or victim.poll() is not None:
            break
        time.sleep(0.05)
    assert victim.poll() is None, "training ended before it could be killed"
    victim.kill()
    victim.wait()
    kept = int(last_checkpoint(tmp_path).name.split("-")[1])
    recipe = TWO_EPOCHS.changed(epochs=200)

    def stop_soon(step, steps, loss):
        if step == kept + 3:
            os.kill(os.getpid(), signal.SIGINT)

    states = []
    for folder in (tmp_path, tmp_path / "never killed"):
        with pytest.raises(finetuning.Interrupted):
            finetuning.finetune(make_tiny(1), SARCASM, TRAINING_ROWS, recipe, folder, progress=stop_soon)
        assert last_checkpoint(folder).name == f"checkpoint-{kept + 4}"
        states.append((last_checkpoint(folder) / "adapter_model.safetensors").read_bytes())
    assert states[0] == states[1]


class Overflows:
    """Puts float16's gradient scaler, which is used on GPUs only, into a training on the CPU, and makes the gradients
    of the steps in `at` overflow."""

    def __init__(self, patch, at):
        self.at, self.step = at, 0
        real = finetuning._Job._trainer

        def with_scaler(job, *args):
            trainer = real(job, *args)
            trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
            weight = next(p for p in trainer.model.parameters() if p.requires_grad)
            weight.register_hook(lambda gradient: gradient * (float("inf") if self.step in self.at else 1.0))
            return trainer

        patch.setattr(finetuning._Job, "_trainer", with_scaler)

    def __call__(self, step, steps, loss):
        self.step = step


def test_steps_that_float16_skips_are_counted(make_tiny, tmp_path, monkeypatch):
    """The scaler skips a step whose gradients overflow. That is counted over an interruption too, and noted."""
    overflows = Overflows(monkeypatch, at={1, 4, 8})

    def stop_after_five(step, steps, loss):
        overflows(step, steps, loss)
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    loaded = make_tiny(1)
    with pytest.raises(finetuning.Interrupted):
        finetuning.finetune(loaded, SARCASM, TRAINING_ROWS, TWO_EPOCHS, tmp_path, progress=stop_after_five)
    run = finetuning.finetune(loaded, SARCASM, TRAINING_ROWS, TWO_EPOCHS, tmp_path, progress=overflows)
    assert (run.resumed_from, run.steps, run.skipped_steps) == (6, 12, 3)
    assert run.notes == ["3 of 12 steps were skipped: their gradients overflowed float16."]
    overflows.at = ()
    run = finetuning.finetune(make_tiny(1), SARCASM, TRAINING_ROWS, TWO_EPOCHS, tmp_path / "well", progress=overflows)
    assert run.skipped_steps == 0 and not run.notes


def test_training_stops_when_float16_skips_too_much(make_tiny, tmp_path, monkeypatch):
    overflows = Overflows(monkeypatch, at=range(100))
    loaded = make_tiny(1)
    with pytest.raises(CourseError, match=r"11 of 11 training steps were skipped.*overflowed float16"):
        finetuning.finetune(loaded, SARCASM, TRAINING_ROWS, TWO_EPOCHS, tmp_path, progress=overflows)
    assert not loaded.has_adapter
    check_skipped(10, 10)  # the scaler looks for its scale
    check_skipped(12, 125)
    with pytest.raises(CourseError, match="13 of 125"):
        check_skipped(13, 125)


def test_training_that_learns_nothing_or_breaks_down_is_refused(make_tiny, tmp_path):
    loaded = make_tiny(1)
    with pytest.raises(CourseError, match="still zero after training"):
        finetuning.finetune(
            loaded, SARCASM, TRAINING_ROWS[:4], TWO_EPOCHS.changed(learning_rate=1e-60, warmup=0), tmp_path / "a"
        )
    with pytest.raises(CourseError, match="The loss is nan at step"):
        loaded.model.lm_head.weight.data[7] = float("nan")
        finetuning.finetune(loaded, SARCASM, TRAINING_ROWS[:8], TWO_EPOCHS, tmp_path / "b")
    assert not loaded.has_adapter


HELD_OUT = TWO_EPOCHS.changed(epochs=3, validation=0.25, scheduler="constant", warmup=0.0)


def test_held_out_rows_are_whole_groups_and_in_proportion():
    rows = [{"parent_comment": f"p{i // 2}", "comment": f"c{i}", "label": i % 2} for i in range(40)]
    train, held_out = hold_out(SARCASM, rows, HELD_OUT)
    assert len(train) == 30 and len(held_out) == 10 and [row for row in rows if row in train] == train
    assert not {row["parent_comment"] for row in train} & {row["parent_comment"] for row in held_out}
    assert sum(row["label"] for row in held_out) == 5
    assert hold_out(SARCASM, rows, TWO_EPOCHS) == (rows, [])
    with pytest.raises(CourseError, match=r"validation=0.25 needs 4 rows of each label.*--set validation=0"):
        hold_out(SARCASM, rows[:6], HELD_OUT)
    # a label in few groups could be held out as a whole
    rare = [
        {"parent_comment": "p0" if i < 20 else f"p{i}", "comment": f"c{i}", "label": int(i < 20)} for i in range(40)
    ]
    with pytest.raises(CourseError, match="rows in 4 groups"):
        hold_out(SARCASM, rare, HELD_OUT)


def test_the_adapter_of_the_best_epoch_is_kept(make_tiny, tmp_path, monkeypatch):
    """The held-out loss is smallest after the first of three epochs: the adapter is that of a run of one epoch."""
    losses = iter([0.5, 0.7, 0.6])
    seen = []

    def validate(job, trained, prompt):
        seen.append(adapter_of(trained))
        real = measure(job, trained, prompt)
        return {**real, "eval_loss": next(losses)}

    measure = finetuning._Job._validate
    monkeypatch.setattr(finetuning._Job, "_validate", validate)
    loaded = make_tiny(1)
    run = finetuning.finetune(loaded, SARCASM, TRAINING_ROWS, HELD_OUT, tmp_path / "three")
    assert [(entry["epoch"], entry["loss"]) for entry in run.validation] == [(1, 0.5), (2, 0.7), (3, 0.6)]
    assert run.held_out == 6 and run.rows == 16 and all(0 <= entry["accuracy"] <= 1 for entry in run.validation)
    kept = adapter_of(loaded)
    assert all(torch.equal(kept[name], seen[0][name]) for name in kept)
    assert not all(torch.equal(kept[name], seen[2][name]) for name in kept)
    note = training_notes(run.as_dict(), HELD_OUT.as_dict())[0]
    assert note.startswith("6 training rows were held out. Their loss was smallest after epoch 1 of 3, with ")
    monkeypatch.setattr(finetuning._Job, "_validate", measure)
    rows, _ = hold_out(SARCASM, TRAINING_ROWS, HELD_OUT)
    once = make_tiny(1)
    finetuning.finetune(once, SARCASM, rows, HELD_OUT.changed(epochs=1, validation=0.0), tmp_path / "one")
    alone = adapter_of(once)
    assert all(torch.equal(kept[name], alone[name]) for name in kept)


def test_an_adapter_of_another_than_the_best_epoch_is_refused(make_tiny, tmp_path, monkeypatch):
    """TRL only logs that the best checkpoint is missing, and goes on with the last epoch."""
    save = SFTTrainer._load_best_model

    def lose(trainer):
        shutil.rmtree(trainer.state.best_model_checkpoint)
        save(trainer)

    monkeypatch.setattr(SFTTrainer, "_load_best_model", lose)
    with pytest.raises(CourseError, match=r"checkpoint of the best epoch is missing in .*train again"):
        finetuning.finetune(make_tiny(1), SARCASM, TRAINING_ROWS, HELD_OUT, tmp_path)


def test_a_resumed_run_keeps_the_same_best_epoch(make_tiny, tmp_path):
    recipe = HELD_OUT.changed(learning_rate=0.3)  # so large that a later epoch is worse
    whole = make_tiny(1)
    expected = finetuning.finetune(whole, SARCASM, TRAINING_ROWS, recipe, tmp_path / "whole")

    def stop_in_the_third_epoch(step, steps, loss):
        if step == 9:
            os.kill(os.getpid(), signal.SIGINT)

    broken = make_tiny(1)
    folder = tmp_path / "broken"
    with pytest.raises(finetuning.Interrupted):
        finetuning.finetune(broken, SARCASM, TRAINING_ROWS, recipe, folder, progress=stop_in_the_third_epoch)
    run = finetuning.finetune(broken, SARCASM, TRAINING_ROWS, recipe, folder)
    assert run.resumed_from == 10 and run.validation == expected.validation
    first, second = adapter_of(whole), adapter_of(broken)
    assert all(torch.equal(first[name], second[name]) for name in first)
