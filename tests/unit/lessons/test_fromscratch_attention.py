"""Attention from scratch is that of each architecture."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcourse import CourseError
from llmcourse.lessons.fromscratch import attention
from llmcourse.models import LoadedModel

TEXT = "The cat sat on the mat because it was tired. The cat sat on the"


def random_model(kind: str, tokenizer, **changes) -> LoadedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "initializer_range": 0.2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
        "pad_token_id": 2,
        **changes,
    }
    config = AutoConfig.for_model(kind, **shape)
    config._attn_implementation = "eager"
    return LoadedModel(kind, {}, AutoModelForCausalLM.from_config(config).eval(), tokenizer)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 6}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 5}),
        ("qwen3", {}),
    ],
)
def test_attention_is_that_of_the_architecture(kind, changes, tokenizer):
    """Output and weights; the eager implementation is the one that gives its weights out."""
    loaded = random_model(kind, tokenizer, **changes)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = loaded.model(ids, output_attentions=True, use_cache=False).attentions
    layers = attention.record_layers(loaded, TEXT)
    assert len(layers) == len(theirs) == 2
    for (module, hidden, output), weights in zip(layers, theirs, strict=True):
        ours = attention.self_attention(module, hidden)
        assert torch.allclose(ours.output, output, atol=1e-5) and torch.allclose(ours.weights, weights[0], atol=1e-5)
        assert torch.allclose(ours.weights.sum(-1), torch.ones(ours.weights.shape[:2]))


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(("llama", "mistral", "qwen3")),
    kv_heads=st.integers(1, 3),
    groups=st.integers(1, 3),
    head_dim=st.sampled_from((4, 8, 16)),
    length=st.integers(1, 12),
    window=st.none() | st.integers(1, 12),
    dtype=st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
    seed=st.integers(0, 10_000),
)
def test_attention_over_random_shapes(kind, kv_heads, groups, head_dim, length, window, dtype, seed):
    """One layer alone, against the eager implementation's output and weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        kind,
        vocab_size=50,
        hidden_size=72,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=kv_heads * groups,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        initializer_range=0.1
        if dtype == torch.bfloat16
        else 0.3,  # large scores have large errors in 8 bits of precision
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        pad_token_id=2,
        **({"sliding_window": window} if kind == "mistral" else {}),
    )
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    ids = torch.randint(0, 50, (1, length))
    records = []
    layer = model.model.layers[0].self_attn
    layer.register_forward_hook(
        lambda module, args, kwargs, out: records.append((kwargs["hidden_states"][0], out[0][0])), with_kwargs=True
    )
    with torch.no_grad():
        weights = model(ids, output_attentions=True, use_cache=False).attentions[0][0]
    hidden, output = records[0]
    ours = attention.self_attention(layer, hidden)
    near = 1e-5 if dtype != torch.bfloat16 else 2**-5
    assert ours.output.shape == (length, 72) and ours.weights.shape == (kv_heads * groups, length, length)
    assert (ours.output - output).abs().max() <= near * output.abs().max()
    assert (ours.weights - weights.float()).abs().max() <= near


def test_attention_is_that_of_the_embedded_model(embedded_model):
    """In every layer; later ones give numbers above 100, where float32 itself is coarser than 1e-5."""
    for module, hidden, output in attention.record_layers(embedded_model, TEXT):
        ours = attention.self_attention(module, hidden)
        assert torch.allclose(ours.output, output, rtol=1e-5, atol=1e-5)
    assert not embedded_model.model.model.layers[0].self_attn._forward_hooks


def test_a_turned_query_and_key_know_only_their_distance():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 1, 8, generator=generator), torch.randn(1, 1, 8, generator=generator)
    angle = attention.angles(30, 8, 10000.0)
    turned_q, turned_k = attention.rotate(query.expand(1, 30, 8), angle), attention.rotate(key.expand(1, 30, 8), angle)
    products = turned_q[0] @ turned_k[0].T
    assert torch.allclose(products[3, 1], products[28, 26], atol=1e-5)
    assert not torch.allclose(products[3, 1], products[3, 2], atol=1e-3)


def test_what_is_not_written_here_is_refused(tokenizer):
    fused = random_model("phi3", tokenizer, num_attention_heads=3, num_key_value_heads=3)
    module, hidden, _ = attention.record_layers(fused, TEXT)[0]
    with pytest.raises(CourseError, match="one matrix"):
        attention.self_attention(module, hidden)
    stretched = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}
    module, hidden, _ = attention.record_layers(random_model("llama", tokenizer, rope_parameters=stretched), TEXT)[0]
    with pytest.raises(CourseError, match="linear"):
        attention.self_attention(module, hidden)
