"""Training: the loss is on label and end of text, each row weighs the same, and a run that dies goes on as if it had
not."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import small
import torch
from small import TRAINING_ROWS, TWO_EPOCHS, trainer_for

from llmcourse import CourseError, predict
from llmcourse._base import files
from llmcourse.data.tasks import SARCASM
from llmcourse.training import configs, finetuning
from llmcourse.training.batches import accumulation_steps
from llmcourse.training.checkpoints import last_checkpoint
from llmcourse.training.examples import training_rows
from llmcourse.training.recipes import QUICK
from llmcourse.training.trainer import LabelTrainer, row_losses

pytestmark = pytest.mark.usefixtures("products")  # adapters are compared to rounding, over processes


def test_loss_is_on_label_and_end_of_text_only(tiny, tmp_path):
    trainer = trainer_for(tiny, tmp_path)
    for row, labels, ids in zip(
        TRAINING_ROWS, trainer.train_dataset["labels"], trainer.train_dataset["input_ids"], strict=True
    ):
        learned = [token for token in labels if token != -100]
        answer = tiny.tokenizer(" " + SARCASM.labels[row["label"]]).input_ids
        assert learned == [*answer, tiny.tokenizer.eos_token_id]
        assert ids[-len(learned) :] == learned and labels[: -len(learned)] == [-100] * (len(ids) - len(learned))


def test_each_row_weighs_the_same(tiny, tmp_path):
    """Value and gradients equal the mean over rows of each row's mean over its labelled tokens, computed a row at a
    time."""
    trainer = trainer_for(tiny, tmp_path)
    batch = trainer.data_collator([{k: trainer.train_dataset[i][k] for k in ("input_ids", "labels")} for i in range(6)])
    model = trainer.model
    torch.manual_seed(0)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_()
    loss = trainer.compute_loss(model, dict(batch))
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    alone = []
    for ids, labels in zip(trainer.train_dataset["input_ids"][:6], trainer.train_dataset["labels"][:6], strict=True):
        logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        places = [i for i, token in enumerate(labels) if token != -100]
        assert len(places) in (4, 5)
        alone.append(-torch.stack([logs[i - 1, labels[i]] for i in places]).mean())
    expected = torch.stack(alone).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert torch.allclose(found[name], p.grad, atol=1e-5), name


def test_micro_batches_add_up_to_the_batch(make_tiny, tmp_path):
    """The same adapter whether a step's 4 rows go through the model at once or in several micro-batches."""
    adapters = []
    for tokens in (10_000, 100):
        loaded = make_tiny(3)
        # plain gradient descent: Adam would blow float noise up where a gradient is nearly zero
        recipe = TWO_EPOCHS.changed(micro_batch_tokens=tokens, optimizer="sgd", learning_rate=1.0)
        examples, _ = training_rows(loaded, SARCASM, TRAINING_ROWS, recipe)
        lengths = [len(loaded.tokenizer(e["prompt"] + e["completion"]).input_ids) + 1 for e in examples]
        assert (accumulation_steps(lengths, recipe) > 1) == (tokens == 100)
        finetuning.finetune(loaded, SARCASM, TRAINING_ROWS[:20], recipe, tmp_path / str(tokens))
        adapters.append(adapter_of(loaded))
    for name in adapters[0]:
        assert torch.allclose(adapters[0][name], adapters[1][name], atol=1e-4), name


def adapter_of(loaded):
    return {name: p.detach().clone() for name, p in loaded.model.named_parameters() if "lora_" in name}


def test_row_losses_are_trl_losses_for_labels_of_equal_length(tiny, tmp_path):
    """Where all labels have as many tokens, our loss is TRL's: same value, same gradients."""
    from trl import SFTTrainer

    rows = [row for row in TRAINING_ROWS if row["label"] == 1][:5]
    trainer = trainer_for(tiny, tmp_path, rows=rows)
    batch = trainer.data_collator([{k: trainer.train_dataset[i][k] for k in ("input_ids", "labels")} for i in range(5)])
    results = []
    for compute in (trainer.compute_loss, lambda model, inputs: SFTTrainer.compute_loss(trainer, model, inputs)):
        trainer.model.zero_grad()
        loss = compute(trainer.model, dict(batch))
        loss.backward()
        results.append((loss.item(), [p.grad.clone() for p in trainer.model.parameters() if p.requires_grad]))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_only_labelled_columns_are_projected(tiny):
    ids = torch.randint(5, 1000, (3, 12))
    labels = torch.full_like(ids, -100)
    labels[0, 9:] = ids[0, 9:]
    labels[1, 8:10] = ids[1, 8:10]
    labels[2, 11] = ids[2, 11]
    shapes = []
    hook = tiny.model.lm_head.register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(output.shape[:2]))
    )
    losses = row_losses(tiny.model, labels, torch.ones_like(ids), input_ids=ids)
    hook.remove()
    assert shapes == [(3, 4)]
    logs = tiny.model(ids).logits.log_softmax(-1)
    assert losses[2].item() == pytest.approx(-logs[2, 10, ids[2, 11]].item(), abs=1e-5)
    assert losses[1].item() == pytest.approx(-(logs[1, 7, ids[1, 8]] + logs[1, 8, ids[1, 9]]).item() / 2, abs=1e-5)


def test_rows_of_any_length_are_projected_where_they_end(tiny, tmp_path):
    """Rows of 30 to 80 tokens, labels of 4 and 5: five columns go onto the vocabulary, not all in which some row has a
    label."""
    trainer = trainer_for(tiny, tmp_path)
    rows = [{k: trainer.train_dataset[i][k] for k in ("input_ids", "labels")} for i in range(6)]
    assert len({len(row["input_ids"]) for row in rows}) > 3
    shapes = []
    hook = tiny.model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(output.shape[:2]))
    )
    trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    hook.remove()
    assert shapes == [(6, 5)]


def test_frozen_layers_are_computed_once_and_change_nothing(make_tiny, tmp_path, monkeypatch):
    """Adapters on the upper 2 of 3 layers: the same adapter whether the first runs once a row or every step."""
    recipe = TWO_EPOCHS.changed(upper_layers=2, optimizer="sgd", learning_rate=1.0, micro_batch_tokens=300)
    adapters, passes = [], []
    for freeze in (True, False):
        loaded = make_tiny(3, num_hidden_layers=3)
        count = []
        hook = loaded.model.model.layers[0].register_forward_hook(lambda *_, count=count: count.append(1))
        with monkeypatch.context() as patch:
            if not freeze:
                patch.setattr(LabelTrainer, "freeze_below", lambda self, layers: None)
            finetuning.finetune(loaded, SARCASM, TRAINING_ROWS[:20], recipe, tmp_path / str(freeze))
        hook.remove()
        passes.append(len(count))
        adapters.append(adapter_of(loaded))
    assert passes[0] == 1 and passes[1] >= 10
    assert len(adapters[0]) == 2 * 7 * 2 and not any("layers.0." in name for name in adapters[0])
    for name in adapters[0]:
        assert torch.allclose(adapters[0][name], adapters[1][name], atol=1e-5), name
    with pytest.raises(CourseError, match="upper_layers=4, but the model has 3 layers"):
        finetuning.finetune(
            make_tiny(3, num_hidden_layers=3), SARCASM, TRAINING_ROWS, TWO_EPOCHS.changed(upper_layers=4), tmp_path
        )


def test_micro_batches_stay_below_the_bound():
    from transformers.trainer_pt_utils import BatchRebalanceSampler

    lengths = [20 + (37 * i) % 90 for i in range(200)] + [400]
    recipe = QUICK.changed(batch_rows=16, epochs=3)
    steps = accumulation_steps(lengths, recipe)
    sampler = BatchRebalanceSampler(lengths, 16, 1, steps, drop_last=False)
    largest = 0
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen = [i for group in sampler for i in group]
        assert sorted(seen) == list(range(201)) or len(seen) > 201
        largest = max(largest, *(len(group) * max(lengths[i] for i in group) for group in sampler))
    assert largest <= recipe.micro_batch_tokens and 16 % steps == 0
    with pytest.raises(CourseError, match="A training row of 1300 tokens"):
        accumulation_steps([1300], recipe)


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


def test_long_rows_lose_text_never_the_label(tiny, tmp_path):
    rows = [{**TRAINING_ROWS[0], "comment": "very " * 700}, *TRAINING_ROWS[:3]]
    examples, cut = training_rows(tiny, SARCASM, rows, TWO_EPOCHS)
    assert cut == 1 and examples[0]["completion"] == " Not Sarcasm" and examples[0]["prompt"].endswith("\nCategory:")
    lengths = [len(tiny.tokenizer(e["prompt"] + e["completion"]).input_ids) + 1 for e in examples]
    assert TWO_EPOCHS.max_length - 8 <= lengths[0] <= TWO_EPOCHS.max_length


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


def test_a_checkpoint_that_is_not_whole_is_not_used(tmp_path):
    for step, content in ((2, b"whole"), (4, b"whole"), (6, b"cut short")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(content)
        if step < 6:
            files.seal(folder)
    assert last_checkpoint(tmp_path).name == "checkpoint-4"
    (tmp_path / "checkpoint-4" / "adapter_model.safetensors").write_bytes(b"whale")
    with pytest.warns(files.Damaged, match=r"checkpoint-4 is damaged: adapter_model.safetensors has changed.*resumes"):
        assert last_checkpoint(tmp_path).name == "checkpoint-2"
    assert (tmp_path / "damaged-checkpoint-4").is_dir()
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_training_that_learns_nothing_or_breaks_down_is_refused(make_tiny, tmp_path):
    loaded = make_tiny(1)
    with pytest.raises(CourseError, match="still zero after training"):
        finetuning.finetune(
            loaded, SARCASM, TRAINING_ROWS[:4], TWO_EPOCHS.changed(learning_rate=1e-30, epochs=1), tmp_path / "a"
        )
    with pytest.raises(CourseError, match="The loss is nan at step"):
        loaded.model.lm_head.weight.data[7] = float("nan")
        finetuning.finetune(loaded, SARCASM, TRAINING_ROWS[:8], TWO_EPOCHS, tmp_path / "b")
    assert not loaded.has_adapter
