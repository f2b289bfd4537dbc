"""Our attentions compute what SDPA does: logits and gradients, with padding, a cache, grouped heads and windows."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MistralConfig

from llmcourse._base import hardware
from llmcourse.models import attention

SMALL = {
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
CONFIGS = {
    "heads of their own": LlamaConfig(**SMALL, num_key_value_heads=4),
    "grouped": LlamaConfig(**SMALL, num_key_value_heads=2),
    "window": MistralConfig(**SMALL, num_key_value_heads=1, sliding_window=4),
}
FUNCTIONS = {attention.NO_GQA: attention.without_gqa, attention.BESIDE_ONEDNN: attention.beside_onednn}


@pytest.fixture(autouse=True)
def allowed():
    """As on a machine where products go to oneDNN."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    assert torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision(before)


@pytest.fixture(params=CONFIGS)
def model(request):
    torch.manual_seed(1)
    # In float64, because on processors with AMX "medium" rounds the inputs of float32 products to bfloat16. There a sum
    # that differs in its last bit may round the other way, and two correct kernels give different numbers.
    return AutoModelForCausalLM.from_config(CONFIGS[request.param]).eval().double()


def asked(model, ids, mask):
    """Logits of a batch, then of three more tokens and of one more, on its cache."""
    with torch.inference_mode():
        out = model(ids[:, :-4], attention_mask=mask[:, :-4], use_cache=True)
        more = model(ids[:, -4:-1], attention_mask=mask[:, :-1], past_key_values=out.past_key_values)
        last = model(ids[:, -1:], attention_mask=mask, past_key_values=more.past_key_values)
    return torch.cat([out.logits, more.logits, last.logits], dim=1)[mask.bool()]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("padding", [0, 3])
def test_logits_are_the_same(name, padding, model):
    ids = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    expected = asked(model, ids, mask)
    model.set_attn_implementation(attention.register(name, FUNCTIONS[name]))
    torch.testing.assert_close(asked(model, ids, mask), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [9, attention.PLAIN_LENGTH + 1])
def test_gradients_are_the_same(length, model):
    ids = torch.randint(0, 50, (2, length), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, -4:] = 0

    def gradients():
        model.zero_grad()
        model(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients()
    model.set_attn_implementation(attention.register(attention.BESIDE_ONEDNN, attention.beside_onednn))
    for mine, theirs in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-3)


def test_the_machine_decides(t4, monkeypatch):
    monkeypatch.setattr(hardware, "prefer_onednn", lambda: True)
    cpu = hardware.Hardware("cpu", "AMD EPYC", None, 2, 12.0, None)
    assert attention.choose(cpu) == attention.BESIDE_ONEDNN
    assert attention.choose(t4) == attention.NO_GQA
    monkeypatch.setattr(hardware, "prefer_onednn", lambda: False)
    assert attention.choose(cpu) == "sdpa"


@pytest.mark.parametrize(
    ("kind", "expected"), [("llama", attention.NO_GQA), ("falcon", "sdpa"), ("gemma2", "eager"), ("mamba", "eager")]
)
def test_a_model_gets_an_attention_that_it_knows(kind, expected):
    assert attention.supported(AutoConfig.for_model(kind), attention.NO_GQA) == expected


def test_falcon_is_loaded_on_a_t4(t4):
    tiny = {"vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("falcon", **tiny)
    with pytest.raises(KeyError, match=attention.NO_GQA):  # once this raises nothing, `supported` may say less
        AutoModelForCausalLM.from_config(config, attn_implementation=attention.choose(t4))
    chosen = attention.supported(config, attention.choose(t4))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=chosen)
    assert model(torch.tensor([[5]])).logits.isfinite().all()
