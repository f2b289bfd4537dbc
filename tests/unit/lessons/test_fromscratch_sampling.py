"""Sampling from scratch gives what transformers gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcourse import CourseError
from llmcourse.lessons.fromscratch import sampling

TEXT = "The cat sat on the mat because it was tired. The cat sat on the"


@pytest.fixture
def logits():
    return 3 * torch.randn(4, 500, generator=torch.Generator().manual_seed(0))


DTYPES = st.sampled_from((torch.float32, torch.float16, torch.bfloat16))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(2, 300)),
    dtype=DTYPES,
    temperature=st.floats(0.05, 20.0),
    p=st.floats(0.01, 0.99),
    seed=st.integers(0, 10_000),
)
def test_temperature_and_top_p_are_those_of_transformers(shape, dtype, temperature, p, seed):
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    scores = (3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)
    expected = TemperatureLogitsWarper(temperature)(None, scores.float()).softmax(-1)
    probs = sampling.probabilities(scores, temperature)
    assert probs.dtype == torch.float32 and torch.allclose(probs, expected, atol=1e-6)
    # equal scores, which are frequent in 16 bits, may be kept or dropped in any order, so make all scores different
    scores = scores.float() + torch.linspace(0, 1e-3, shape[1])
    plain = sampling.probabilities(scores)
    edge = (plain.sort(-1, descending=True).values.cumsum(-1) - p).abs().min()
    nucleus, expected = sampling.top_p(plain, p), TopPLogitsWarper(p)(None, scores).softmax(-1)
    if edge > 1e-5:  # where the sum meets p to the last digits, either answer is right
        assert torch.equal(nucleus > 0, expected > 0) and torch.allclose(nucleus, expected, atol=1e-6)
    assert torch.allclose(nucleus.sum(-1), torch.ones(shape[0]))


def test_a_share_of_one_keeps_everything(logits):
    """generate does not even call its warper then."""
    assert torch.equal(sampling.top_p(logits.softmax(-1), 1), logits.softmax(-1))


def test_large_scores_stay_numbers():
    assert sampling.probabilities(torch.tensor([1000.0, 0.0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_what_no_temperature_is(logits, wrong):
    with pytest.raises(CourseError, match="above 0"):
        sampling.probabilities(logits, wrong)


@pytest.mark.parametrize("wrong", [0, 1.1])
def test_what_no_share_is(logits, wrong):
    with pytest.raises(CourseError, match="share"):
        sampling.top_p(logits.softmax(-1), wrong)


def generated(loaded, text, tokens, **how):
    inputs = loaded.tokenizer(text, return_tensors="pt")
    out = loaded.model.generate(**inputs, max_new_tokens=tokens, pad_token_id=2, **how)
    start = loaded.tokenizer.decode(inputs.input_ids[0], skip_special_tokens=True)
    return loaded.tokenizer.decode(out[0], skip_special_tokens=True)[len(start) :]


def test_greedy_text_is_that_of_generate(tiny, embedded_model):
    for loaded in (tiny, embedded_model):
        written = sampling.write_on(loaded, "The capital of France is", 12)
        assert written.text == generated(loaded, "The capital of France is", 12, do_sample=False)
        assert 0 < len(written.steps) <= 12


@pytest.mark.parametrize(("temperature", "p"), [(0.7, 1.0), (1.0, 0.9), (1.5, 0.6)])
def test_the_same_seed_draws_what_generate_draws(embedded_model, temperature, p):
    written = sampling.write_on(embedded_model, "Once upon a time", 8, temperature, p, seed=3)
    torch.manual_seed(3)
    how = {"do_sample": True, "temperature": temperature, "top_p": p, "top_k": 0}
    assert written.text == generated(embedded_model, "Once upon a time", 8, **how)


def test_writing_stops_at_the_end_of_text(embedded_model):
    question = "Question: What is the largest planet of our solar system?\nAnswer:"
    ended = sampling.write_on(embedded_model, question, 40)
    assert "Jupiter" in ended.text and len(ended.steps) < 40
    assert ended.steps[-1].token == embedded_model.tokenizer.eos_token_id and "<|" not in ended.text


def test_tokens_show_the_space_before_a_word(tokenizer):
    assert sampling.token_texts(tokenizer, tokenizer("The cat sat").input_ids) == ["The", " cat", " sat"]

    class SentencePiece:
        def convert_ids_to_tokens(self, ids):
            return ["<s>", "▁The", "▁cat", "s"]

        def decode(self, ids):
            return ["<s>", "The", "cat", "s"][ids[0]]

    assert sampling.token_texts(SentencePiece(), range(4)) == ["<s>", " The", " cat", "s"]
