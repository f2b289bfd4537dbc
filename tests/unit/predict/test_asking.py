"""The shared prefix and the batches change nothing: every row gets what it would get alone, computed the naive way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcourse import models, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel
from llmcourse.predict import engine
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import Prompt, few_shots

ROWS = [
    {"parent_comment": "Rain again.", "comment": "Lovely.", "label": 1},
    {
        "parent_comment": "We won the cup after a very long season, and the whole town came out to see it!",
        "comment": "So glad!",
        "label": 0,
    },
    {
        "parent_comment": "The train is late.",
        "comment": "At least the announcement was on time, which is something to build on.",
        "label": 1,
    },
    {"parent_comment": "x", "comment": "y", "label": 0},
    {"parent_comment": "My phone fell into the soup.", "comment": "Take it out.", "label": 0},
]
PROMPTS = [
    Prompt(SARCASM),
    Prompt(SARCASM, shots=few_shots(SARCASM, ROWS, 2)),
    Prompt(SARCASM, instruction=False),
    Prompt(SARCASM, shots=few_shots(SARCASM, ROWS, 4), chat=True, fallback=False),
]


def naive_logprobs(loaded: LoadedModel, prompt: Prompt, row: dict) -> list[float]:
    """One full forward a label: at each token, the choice between all tokens that go on to some label."""
    tokenizer, task = loaded.tokenizer, prompt.task
    text = predict.render(tokenizer, prompt, row)
    start = len(tokenizer(text).input_ids)
    words = [tokenizer(text + prompt.answer(label)).input_ids[start:] for label in range(len(task.labels))]
    result = []
    for word in words:
        ids = tokenizer(text).input_ids + word
        with torch.inference_mode():
            logs = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        total = 0.0
        for place, token in enumerate(word):
            rivals = {other[place] for other in words if other[:place] == word[:place] and len(other) > place}
            at = logs[start + place - 1]
            total += float(at[token] - torch.logsumexp(at[sorted(rivals)], 0))
        result.append(total)
    return result


@pytest.mark.parametrize("prompt", PROMPTS, ids=["zero-shot", "few-shot", "short", "chat"])
@pytest.mark.parametrize("config", [{}, {"num_key_value_heads": 4, "num_hidden_layers": 3}], ids=["gqa", "mha"])
def test_scores_equal_the_naive_way(make_tiny, prompt, config):
    loaded = make_tiny(1, **config)
    together = predict.score(loaded, prompt, ROWS).logprobs
    for row, logprobs in zip(ROWS, together, strict=True):
        assert logprobs == pytest.approx(naive_logprobs(loaded, prompt, row), abs=1e-4)
        assert sum(torch.tensor(logprobs).exp()) == pytest.approx(1)


@pytest.mark.parametrize("prompt", PROMPTS, ids=["zero-shot", "few-shot", "short", "chat"])
def test_generated_text_equals_one_row_at_a_time(make_tiny, prompt):
    loaded = make_tiny(2)
    together = predict.generate(loaded, prompt, ROWS).texts
    for row, text in zip(ROWS, together, strict=True):
        ids = loaded.tokenizer(predict.render(loaded.tokenizer, prompt, row), return_tensors="pt")
        out = loaded.model.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=2)
        alone = loaded.tokenizer.decode(out[0, ids.input_ids.shape[1] :], skip_special_tokens=True)
        assert alone.startswith(text.rstrip("\n")) and len(text) > 0


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60)), min_size=1, max_size=6),
    st.booleans(),
)
def test_any_texts_score_as_they_do_alone(make_tiny, pairs, instruction):
    loaded = _shared_tiny(make_tiny)
    rows = [{"parent_comment": a, "comment": b} for a, b in pairs]
    prompt = Prompt(SARCASM, instruction=instruction)
    together = predict.score(loaded, prompt, rows).logprobs
    for row, logprobs in zip(rows, together, strict=True):
        assert logprobs == pytest.approx(predict.score(loaded, prompt, [row]).logprobs[0], abs=1e-4)


def _shared_tiny(make_tiny, cache={}):  # noqa: B006 - made once for all examples
    return cache.setdefault("tiny", None) or cache.update(tiny=make_tiny(3)) or cache["tiny"]


def test_the_embedded_model_scores_in_batches_as_alone(embedded_model, bundled):
    rows = list(bundled.test)[:6]
    prompt = Prompt(SARCASM, shots=few_shots(SARCASM, list(bundled.train), 2))
    together = predict.score(embedded_model, prompt, rows).logprobs
    assert together[0] == pytest.approx(naive_logprobs(embedded_model, prompt, rows[0]), abs=1e-4)
    assert together[3] == pytest.approx(predict.score(embedded_model, prompt, [rows[3]]).logprobs[0], abs=1e-4)


def test_under_an_adapter_the_output_matrix_is_not_repeated_for_each_row(embedded_model, bundled):
    """It was, and oneDNN copied it: 5 GiB, and four times as long, for a few rows at once."""
    models.put_adapter(embedded_model, models.shipped_adapter("sarcasm"))
    try:
        with torch.profiler.profile(record_shapes=True) as profile:
            predict.generate(embedded_model, Prompt(SARCASM, instruction=False), list(bundled.test)[:4])
    finally:
        embedded_model.drop_adapter()
    words = embedded_model.model.config.vocab_size
    products = [event for event in profile.events() if any(words in shape for shape in event.input_shapes)]
    assert products and not any(event.name == "aten::bmm" for event in products)


def test_small_batches_change_nothing(make_tiny, monkeypatch):
    loaded = make_tiny(4)
    whole = predict.score(loaded, PROMPTS[0], ROWS).logprobs
    monkeypatch.setattr(engine, "TOKENS_AT_ONCE", 1)
    steps = []
    one_by_one = predict.score(loaded, PROMPTS[0], ROWS, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 5) for n in range(1, 6)]
    for a, b in zip(whole, one_by_one.logprobs, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_calibration_makes_the_content_free_prompt_undecided(make_tiny):
    loaded = make_tiny(6)
    prompt = Prompt(SARCASM)
    free = predict.score(loaded, prompt, prompt.content_free_rows())
    probabilities = torch.tensor(free.logprobs).exp().mean(0)
    calibrated = predict.score(loaded, prompt, ROWS, calibrate=True)
    assert torch.tensor(calibrated.bias).exp().tolist() == pytest.approx(probabilities.tolist())
    plain = predict.score(loaded, prompt, ROWS)
    for after, before in zip(calibrated.logprobs, plain.logprobs, strict=True):
        weights = torch.tensor(before).exp() / probabilities
        assert torch.tensor(after).exp().tolist() == pytest.approx((weights / weights.sum()).tolist(), abs=1e-6)


@pytest.mark.parametrize("way", ["generated", "scored", "calibrated"])
def test_a_journal_can_be_filled_part_by_part(make_tiny, way):
    loaded, prompt, journal = make_tiny(10), PROMPTS[0], Journal()
    count = len(predict.rows_to_ask(prompt, ROWS, way))
    assert count == len(ROWS) + 3 * (way == "calibrated")
    for part in ([4, 1], [1, 2]):
        predict.fill_journal(loaded, prompt, ROWS, way, journal, part)
    assert sorted(journal.answers) == [1, 2, 4]
    predict.fill_journal(loaded, prompt, ROWS, way, journal)
    whole = Journal()
    predict.fill_journal(loaded, prompt, ROWS, way, whole)
    assert sorted(journal.answers) == list(range(count))
    for index, answer in whole.answers.items():
        assert journal.answers[index] == (answer if way == "generated" else pytest.approx(answer, abs=1e-4))
