"""The trainer: each row weighs the same, and what is saved in computing changes nothing."""

from dataclasses import replace

import pytest
import torch
from hostile_texts import quick
from hypothesis import given
from hypothesis import strategies as st
from small import TRAINING_ROWS, TWO_EPOCHS, adapter_of, shrunk, trainer_for

from llmcourse import CourseError, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.training import configs, finetuning, planner
from llmcourse.training.trainer import LabelTrainer, answer_logits, choice_losses, lm_losses

pytestmark = pytest.mark.usefixtures("products")  # adapters are compared to rounding


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


def test_losses_are_trl_losses_for_labels_of_equal_length(tiny, tmp_path):
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
    losses = lm_losses(*answer_logits(tiny.model, labels, torch.ones_like(ids), input_ids=ids))
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


def test_more_upper_layers_than_the_model_has_are_all(make_tiny, tmp_path):
    """The quick recipe's 12 upper layers train every layer of a smaller model."""
    adapters = []
    for layers in (12, None):
        loaded = make_tiny(3)
        recipe = TWO_EPOCHS.changed(upper_layers=layers)
        finetuning.finetune(loaded, SARCASM, TRAINING_ROWS, recipe, tmp_path / str(layers))
        adapters.append(adapter_of(loaded))
    assert adapters[0].keys() == adapters[1].keys() and len(adapters[0]) == 2 * 7 * 2
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    tiny = shrunk("mistral-7b")
    for recipe in (TWO_EPOCHS.changed(upper_layers=12), TWO_EPOCHS):
        assert planner.adapter_parameters(tiny, recipe) == sum(map(sum, planner.adapter_shapes(tiny, TWO_EPOCHS)))
    with pytest.raises(CourseError, match=r"upper_layers needs the model's config"):
        configs.lora_config(TWO_EPOCHS.changed(upper_layers=1))


LETTERS = st.text(alphabet="abcdefgh", min_size=1, max_size=4)
LABELS = st.lists(LETTERS, min_size=2, max_size=6, unique=True).map(
    lambda words: [*words, words[0] + " " + words[1], words[0] + " " + words[1] + " too"]
)


@quick
@given(LABELS, st.data())
def test_the_choice_losses_are_the_probabilities_of_score(tiny, labels, data):
    """Any number of labels, of any length, with common beginnings, one the beginning of another: the loss of a row is
    minus the log-probability that `score` gives its own label."""
    task = replace(SARCASM, name="any", labels=tuple(labels), fallback=None, example=None)
    rows = [{**row, "label": data.draw(st.integers(0, len(labels) - 1))} for row in TRAINING_ROWS[:6]]
    prompt, end = configs.training_prompt(task, TWO_EPOCHS), tiny.tokenizer.eos_token_id
    words = predict.label_tokens(tiny, prompt)
    texts = [tokens + words[row["label"]] for tokens, row in zip(predict.encode(tiny, prompt, rows), rows, strict=True)]
    longest = max(map(len, texts)) + 1
    ids = torch.tensor([[end] * (longest - len(text) - 1) + text + [end] for text in texts])
    columns = torch.arange(longest)
    mask = torch.stack([(columns >= longest - len(text) - 1).long() for text in texts])
    learned = torch.tensor([[longest - len(words[row["label"]]) - 1] for row in rows])
    targets = ids.masked_fill(columns < learned, -100)
    with torch.no_grad():
        losses = choice_losses(*answer_logits(tiny.model, targets, mask, input_ids=ids), words)
    scored = predict.score(tiny, prompt, rows).logprobs
    expected = [-row_scores[row["label"]] for row_scores, row in zip(scored, rows, strict=True)]
    assert losses.tolist() == pytest.approx(expected, abs=1e-4)


def test_a_rows_loss_is_the_choice_and_a_share_of_the_ordinary_loss(tiny, tmp_path):
    trainer = trainer_for(tiny, tmp_path, TWO_EPOCHS.changed(lm_weight=0.25))
    batch = trainer.data_collator([{k: trainer.train_dataset[i][k] for k in ("input_ids", "labels")} for i in range(6)])
    prompt = configs.training_prompt(SARCASM, TWO_EPOCHS)
    chosen = predict.score(tiny, prompt, TRAINING_ROWS[:6]).logprobs
    choice = -sum(row[i % 2] for i, row in enumerate(chosen)) / 6
    with torch.no_grad():
        mixed = trainer.compute_loss(trainer.model, dict(batch)).item()
        trainer.lm_weight = 1.0
        ordinary = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert mixed == pytest.approx(0.25 * ordinary + 0.75 * choice, abs=1e-4)


def test_the_gradient_of_the_choice_moves_labels_only():
    """Where labels differ in their first token, the gradient is that of a softmax over these tokens; at the end of the
    label and of the text it is zero."""
    torch.manual_seed(0)
    words, end = [[3, 7], [4, 7], [5, 7]], 2
    logits = torch.randn(2, 3, 10, requires_grad=True)
    targets = torch.tensor([[3, 7, end], [5, 7, end]])
    choice_losses(logits, targets, words).sum().backward()
    expected = torch.zeros(2, 3, 10)
    chances = logits.detach()[:, 0, 3:6].softmax(dim=-1)
    expected[:, 0, 3:6] = chances - torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    assert torch.allclose(logits.grad, expected, atol=1e-6)


def test_a_model_that_learns_the_choice_still_writes_its_label_and_stops(make_tiny, tmp_path):
    """A random model writes noise. Trained with a tenth of the ordinary loss, it writes each row's label and stops."""
    loaded = make_tiny(1)
    recipe = TWO_EPOCHS.changed(r=16, alpha=32, epochs=40, lm_weight=0.1, save_steps=1000)
    finetuning.finetune(loaded, SARCASM, TRAINING_ROWS, recipe, tmp_path)
    prompt = configs.training_prompt(SARCASM, recipe)
    generated = predict.generate(loaded, prompt, TRAINING_ROWS)
    assert generated.labels == predict.score(loaded, prompt, TRAINING_ROWS).labels
    assert generated.labels == [row["label"] for row in TRAINING_ROWS]
    assert {text.strip() for text in generated.texts} == set(SARCASM.labels)
