"""LoRA from scratch computes, learns, counts and merges what PEFT does."""

import copy

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from llmcourse import CourseError, models
from llmcourse.lessons.fromscratch import lora
from llmcourse.models import catalogue
from llmcourse.training import planner
from llmcourse.training.configs import lora_config
from llmcourse.training.recipes import ALL_LINEAR, THOROUGH


def both(base: nn.Linear, r: int, alpha: int, seed: int):
    """Our layer and PEFT's on copies of one base, with the same A and B."""
    from peft import LoraConfig
    from peft.tuners.lora.layer import Linear

    torch.manual_seed(seed)
    ours = lora.LoRALinear(copy.deepcopy(base), r, alpha)
    theirs = Linear(copy.deepcopy(base), "default", config=LoraConfig(r=r, lora_alpha=alpha), r=r, lora_alpha=alpha)
    # the base in 16 bits, the adapter in 32, as in QLoRA
    theirs.lora_A.float(), theirs.lora_B.float()
    with torch.no_grad():
        ours.B.normal_()
        theirs.lora_A["default"].weight.copy_(ours.A)
        theirs.lora_B["default"].weight.copy_(ours.B)
    return ours, theirs


@example(inputs=9, outputs=9, r=1, alpha=17, bias=False, lead=[], dtype=torch.bfloat16, seed=350)
@settings(max_examples=40, deadline=None)
@given(
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    r=st.integers(1, 12),
    alpha=st.integers(1, 64),
    bias=st.booleans(),
    lead=st.lists(st.integers(1, 4), max_size=2),
    dtype=st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
    seed=st.integers(0, 10_000),
)
def test_forward_gradients_and_merge_are_those_of_peft(inputs, outputs, r, alpha, bias, lead, dtype, seed):
    torch.manual_seed(seed)
    ours, theirs = both(nn.Linear(inputs, outputs, bias, dtype=dtype), r, alpha, seed)
    x = torch.randn(*lead, inputs, dtype=dtype, requires_grad=True)
    x2 = x.detach().clone().requires_grad_()
    # in bfloat16 the two may round a few times more or less, each time by up to 1/256, scaled by alpha / r. Where the
    # outputs of the frozen layer and of the adapter nearly cancel, that is a large part of the sum
    near = 1e-4 if dtype != torch.bfloat16 else 1 / 16

    def close(mine, other):
        return (mine - other).abs().max() <= near * other.abs().max().clamp(min=1)

    a, b = ours(x), theirs(x2)
    assert a.shape == (*lead, outputs) and a.dtype == dtype and close(a.detach(), b.detach().to(dtype))
    grad = torch.randn_like(a)
    a.backward(grad)
    b.backward(grad.to(b.dtype))
    for mine, other in ((ours.A, theirs.lora_A["default"].weight), (ours.B, theirs.lora_B["default"].weight), (x, x2)):
        assert close(mine.grad, other.grad.to(mine.grad))
    assert ours.base.weight.grad is None
    assert close(ours.delta().detach(), theirs.get_delta_weight("default").detach().float())
    theirs.merge()
    merged = ours.merged()
    assert close(merged.weight.detach(), theirs.base_layer.weight.detach())
    # each weight was rounded after the sum, so the outputs differ by a share of the terms, which may cancel
    terms = x.abs() @ (ours.base.weight.abs() + ours.delta().abs()).to(dtype).T
    assert (merged(x) - a).abs().max() <= near / 4 * terms.max().clamp(min=1)


def test_it_starts_as_the_frozen_layer_and_merging_leaves_that_alone():
    torch.manual_seed(0)
    base = nn.Linear(30, 20)
    before = base.weight.detach().clone()
    layer = lora.LoRALinear(base, 4, 8)
    x = torch.randn(5, 30)
    assert torch.equal(layer(x), base(x)) and torch.equal(layer.delta(), torch.zeros(20, 30))
    optimiser = torch.optim.SGD([p for p in layer.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        layer(x).pow(2).mean().backward()
        optimiser.step()
    assert layer.B.abs().max() > 0 and torch.equal(base.weight, before)
    layer.merged()
    assert torch.equal(layer.base.weight, before)
    assert torch.linalg.matrix_rank(layer.delta()) <= 4


def test_a_whole_model_gives_the_logits_of_pefts(make_tiny):
    from peft import LoraConfig, get_peft_model

    ids = torch.randint(0, 1000, (2, 9), generator=torch.Generator().manual_seed(0))
    theirs, ours = make_tiny().model, make_tiny().model
    unchanged = ours(ids).logits
    names = ["q_proj", "down_proj"]
    theirs = get_peft_model(theirs, LoraConfig(r=3, lora_alpha=6, target_modules=names, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    layers = lora.like_peft(ours, theirs)
    assert len(layers) == 4 and lora.trained(ours) == lora.trained(theirs)
    with torch.no_grad():
        expected = theirs(ids).logits
        assert not torch.allclose(unchanged, expected, atol=1e-3)
        assert torch.allclose(ours(ids).logits, expected, atol=1e-5)
        merged = lora.merge_all(ours)
        assert torch.allclose(merged(ids).logits, expected, atol=1e-5)
        assert torch.allclose(theirs.merge_and_unload()(ids).logits, expected, atol=1e-5)
    assert not [m for m in merged.modules() if isinstance(m, lora.LoRALinear)]


@pytest.mark.parametrize(
    ("name", "parameters"), [("mistral-7b", 20_971_520), ("llama-3-8b", 20_971_520), ("phi-3-mini", 12_582_912)]
)
def test_the_count_is_pefts_on_the_real_shapes(name, parameters):
    """On the meta device: the real config's matrices, and not a byte of them."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    base = catalogue.base(name)
    config = models.config_of(base)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    recipe = THOROUGH.changed(target_modules=ALL_LINEAR)
    model = get_peft_model(model, lora_config(recipe, config))
    shapes = list(base.shape.matrices.values()) * base.shape.layers
    assert lora.trained(model) == lora.count(shapes, 8) == planner.adapter_parameters(base, recipe) == parameters
    if name == "mistral-7b":
        assert lora.count([*shapes, (base.shape.vocabulary, base.shape.hidden)], 8) == 21_260_288


def test_a_rank_below_one_is_refused():
    with pytest.raises(CourseError, match="rank of LoRA is 0"):
        lora.LoRALinear(nn.Linear(2, 2), 0, 1)
