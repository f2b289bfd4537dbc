"""The bottleneck adapter: the identity at its start, the paper's count, and what torch's own parts compute."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llmcourse import CourseError
from llmcourse.lessons.fromscratch import bottleneck


@settings(max_examples=30, deadline=None)
@given(
    d=st.integers(1, 60),
    m=st.integers(1, 20),
    lead=st.lists(st.integers(1, 4), max_size=2),
    dtype=st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
    seed=st.integers(0, 10_000),
)
def test_identity_then_the_network_of_torchs_parts(d, m, lead, dtype, seed):
    torch.manual_seed(seed)
    ours = bottleneck.BottleneckAdapter(d, m).to(dtype)
    h = torch.randn(*lead, d, dtype=dtype)
    assert torch.equal(ours(h), h)
    assert sum(p.numel() for p in ours.parameters()) == bottleneck.count(d, m)
    nn.init.normal_(ours.up.weight)
    nn.init.normal_(ours.up.bias)
    parts = nn.Sequential(nn.Linear(d, m), nn.GELU(), nn.Linear(m, d)).to(dtype)
    parts.load_state_dict(dict(zip(parts.state_dict(), ours.state_dict().values(), strict=True)))
    h.requires_grad_()
    assert torch.equal(ours(h), h + parts(h))
    ours(h).sum().backward()
    (h.detach() + parts(h.detach())).sum().backward()
    for mine, other in zip(ours.parameters(), parts.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_in_a_model_it_starts_as_the_frozen_model_and_alone_learns(make_tiny):
    loaded = make_tiny()
    ids = torch.randint(0, 1000, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = loaded.model(ids).logits
    frozen = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    added = bottleneck.add_adapters(loaded.model, 5)
    assert len(added) == 4  # two layers, two each
    assert torch.equal(loaded.model(ids).logits, before)
    learn = [p for p in loaded.model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in learn) == 4 * bottleneck.count(32, 5)
    optimiser = torch.optim.SGD(learn, lr=1.0)
    loaded.model(ids, labels=ids).loss.backward()
    optimiser.step()
    assert not torch.equal(loaded.model(ids).logits, before)
    now = {name.replace("_proj.0.", "_proj."): p for name, p in loaded.model.named_parameters()}
    assert all(torch.equal(now[name], value) for name, value in frozen.items())


def test_what_cannot_be_is_refused(make_tiny):
    model = make_tiny().model
    with pytest.raises(CourseError, match="bottleneck"):
        bottleneck.add_adapters(model, 0)
    del model.model.layers[0].mlp.down_proj
    with pytest.raises(CourseError, match="down_proj"):
        bottleneck.add_adapters(model, 4)
