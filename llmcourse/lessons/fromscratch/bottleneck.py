"""The bottleneck adapter: a small network behind a frozen layer, squeezed through a few numbers.

    h (d) ──▶ frozen layer ──▶ h' (d) ─┬──▶ down (m × d) ──▶ GELU ──▶ up (d × m) ──(+)──▶ (d)
                                       └────────────────────────────────────────────┘

Houlsby et al. 2019 (arXiv:1902.00751, section 2.1 and figure 2): two adapters in each layer of a transformer, one behind attention's output matrix
and one behind the feed-forward block, each before the residual connection. (The paper trains
the layers' norms too; here all of the model is frozen.) PEFT has no such adapter; tests/unit/lessons/test_fromscratch_bottleneck.py holds it
against the same network put together from torch's parts.
"""

import torch
from torch import nn

from llmcourse._base.errors import CourseError


class BottleneckAdapter(nn.Module):
    """h + up(GELU(down(h))): (..., d) -> (..., d), through m numbers.

    `up` starts at zero, so that the adapter starts as the identity and training as the frozen model. (The paper's starts near it, with
    weights of about 0.01.)
    """

    def __init__(self, d: int, m: int):
        super().__init__()
        self.down, self.up = nn.Linear(d, m), nn.Linear(m, d)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h):
        # the adapter learns in float32, whatever the frozen model computes in
        added = self.up(nn.functional.gelu(self.down(h.to(self.down.weight.dtype))))
        return h + added.to(h.dtype)


def add_adapters(model: nn.Module, m: int) -> list[BottleneckAdapter]:
    """Freeze a decoder of transformers and put two adapters into each of its layers, in place. Returns what was added.

    For Llama, Mistral, Qwen3, Phi-3: the layers' `self_attn.o_proj` and `mlp.down_proj` are the last matrices before the residual
    connections. Raises CourseError for m below 1 and for layers that are made otherwise.
    """
    if m < 1:
        raise CourseError(f"The bottleneck of an adapter is 1 or more, not {m}.")
    model.requires_grad_(False)
    added = []
    for layer in model.get_decoder().layers:
        for block, name in (("self_attn", "o_proj"), ("mlp", "down_proj")):
            parent = getattr(layer, block, None)
            matrix = getattr(parent, name, None)
            if matrix is None:
                raise CourseError(f"{type(layer).__name__} has no {block}.{name} to put an adapter behind.")
            with torch.device(next(matrix.parameters()).device):
                added.append(BottleneckAdapter(matrix.out_features, m))
            setattr(parent, name, nn.Sequential(matrix, added[-1]))
    return added


def count(d: int, m: int) -> int:
    """Parameters of one adapter with its biases: 2 m d + d + m (section 2.1)."""
    return 2 * m * d + d + m
