"""A trained copy changes what it should and leaves the base alone; perplexity and divergence are the formulas."""

import math

import pytest
import torch

from llmcourse.data.handbook import Question
from llmcourse.lessons import adaptation
from llmcourse.lessons.adaptation import IGNORED, Settings
from llmcourse.training.recipes import ALL_LINEAR

TEXTS = ["The mast is nine metres high.", "Visitors park in the yard, and sign the book.", "The tide turns at six."]
WAYS = {"full": Settings("full", 3e-3, epochs=2, rows=2), "lora": Settings("lora", 1e-2, epochs=2, rows=2, r=4)}


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_learns_and_the_base_stays(tiny, way):
    before, seen = weights(tiny.model), []
    rows = adaptation.passage_rows(tiny.tokenizer, TEXTS)
    trained = adaptation.train(
        tiny, rows, WAYS[way], lambda now, epoch: seen.append((epoch, now.loaded.model.training))
    )
    assert seen == [(1, False), (2, False)] and len(trained.losses) == 4 and trained.seconds > 0
    after = weights(tiny.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.grad is not None for parameter in tiny.model.parameters()) and not tiny.has_adapter
    assert adaptation.perplexity(trained.loaded, TEXTS) < adaptation.perplexity(tiny, TEXTS)
    assert adaptation.divergence(trained.loaded, tiny, TEXTS) > 0


def test_lora_trains_its_matrices_and_nothing_else(tiny):
    full = adaptation.trainable_copy(tiny, WAYS["full"])
    assert all(parameter.requires_grad for parameter in full.parameters())
    lora = adaptation.trainable_copy(tiny, WAYS["lora"])
    trained = {name for name, parameter in lora.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 7 * 2 and all("lora_" in name for name in trained)  # A and B, seven matrices, two layers
    assert {matrix for matrix in ALL_LINEAR if any(matrix in name for name in trained)} == set(ALL_LINEAR)


def test_the_same_seed_gives_the_same_weights(tiny):
    rows = adaptation.passage_rows(tiny.tokenizer, TEXTS)
    first, second = (adaptation.train(tiny, rows, WAYS["lora"]).losses for _ in range(2))
    assert first == second != adaptation.train(tiny, rows, Settings("lora", 1e-2, epochs=2, rows=2, r=4, seed=1)).losses


def test_train_once_trains_once(tiny, monkeypatch):
    monkeypatch.setattr(adaptation, "_cache", {})
    rows = adaptation.passage_rows(tiny.tokenizer, TEXTS)
    first = adaptation.train_once(tiny, rows, WAYS["lora"])
    assert adaptation.train_once(tiny, rows, WAYS["lora"]) is first
    settings = [Settings("lora", 1e-2, epochs=1, rows=2, r=4, seed=seed) for seed in range(4)]
    assert len({id(adaptation.train_once(tiny, rows, other)) for other in settings}) == 4 == len(adaptation._cache)
    assert adaptation.train_once(tiny, rows, WAYS["lora"]) is not first  # the oldest has made room


def test_what_is_learned_is_the_passage_or_the_answer_alone(tokenizer):
    ((ids, labels),) = adaptation.passage_rows(tokenizer, TEXTS[:1])
    assert ids == labels and tokenizer.decode(ids) == TEXTS[0]
    question = Question("How high is the mast?", "nine metres", ("nine metres",))
    ((ids, labels),) = adaptation.answer_rows(tokenizer, [question], "Veldershaw")
    learned = [label for label in labels if label != IGNORED]
    assert tokenizer.decode(learned) == "nine metres<|im_end|>" and ids[-len(learned) :] == learned
    assert "How high is the mast?" in tokenizer.decode(ids[: -len(learned)])


def test_padding_is_masked_and_not_learned():
    ids, mask, labels = adaptation.pad([([5, 6, 7], [5, 6, 7]), ([8], [8])])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert labels.tolist() == [[5, 6, 7], [8, IGNORED, IGNORED]]


def test_perplexity_is_that_of_the_models_own_loss(tiny):
    ids = tiny.tokenizer(TEXTS[0], return_tensors="pt").input_ids
    with torch.inference_mode():
        loss = tiny.model(input_ids=ids, labels=ids).loss.item()
    assert adaptation.perplexity(tiny, TEXTS[:1]) == pytest.approx(math.exp(loss), rel=1e-4)
    # over texts of different lengths it is the mean over tokens, not over texts
    lengths = [len(tiny.tokenizer(text).input_ids) - 1 for text in TEXTS]
    logs = [math.log(adaptation.perplexity(tiny, [text])) for text in TEXTS]
    mean = sum(n * log for n, log in zip(lengths, logs, strict=True)) / sum(lengths)
    assert adaptation.perplexity(tiny, TEXTS) == pytest.approx(math.exp(mean), rel=1e-4)


def test_divergence_is_zero_to_itself_and_that_of_torch_to_another(make_tiny):
    one, other = make_tiny(0), make_tiny(1)
    assert adaptation.divergence(one, one, TEXTS) == 0
    ids = one.tokenizer(TEXTS[0], return_tensors="pt").input_ids
    with torch.inference_mode():
        p, q = (loaded.model(input_ids=ids).logits[0, :-1].log_softmax(-1) for loaded in (one, other))
    expected = torch.nn.functional.kl_div(q, p, reduction="batchmean", log_target=True).item()
    assert adaptation.divergence(other, one, TEXTS[:1]) == pytest.approx(expected, rel=1e-4)
