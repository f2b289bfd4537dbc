"""The bottleneck adapter: a small network behind a frozen layer, with few numbers in the middle.

    h (d) ─▶ frozen layer ─▶ h' (d) ─┬─▶ down (m × d) ─▶ GELU ─▶ up (d × m) ─(+)─▶ (d)
                                     └────────────────────────────────────────┘

Houlsby et al. 2019 (arXiv:1902.00751, section 2.1 and figure 2): two adapters in each layer of a transformer, one after
attention's output matrix and one after the feed-forward block, each before the residual connection. The paper also
trains the layers' norms; here the whole model is frozen. PEFT has no such adapter, so the tests compare it with the
same network built from torch's parts.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from llmcourse._base.errors import CourseError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class BottleneckAdapter(nn.Module):
    """h + up(GELU(down(h))): (..., d) -> (..., d), through m numbers.

    `up` starts at zero, so the adapter starts as the identity and training starts from the frozen model. (The paper
    starts near the identity, with weights of about 0.01.)
    """

    def __init__(self, d: int, m: int):
        super().__init__()
        self.down, self.up = nn.Linear(d, m), nn.Linear(m, d)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        # the adapter learns in float32, whatever the frozen model computes in
        update = self.up(nn.functional.gelu(self.down(h.to(self.down.weight.dtype))))
        return h + update.to(h.dtype)


def add_adapters(model: "PreTrainedModel", m: int) -> list[BottleneckAdapter]:
    """Freeze a decoder and put two adapters into each of its layers, in place. Return the adapters.

    For Llama, Mistral, Qwen3 and Phi-3, whose `self_attn.o_proj` and `mlp.down_proj` are the last matrices before the
    residual connections. Raises CourseError for m below 1, and for layers that are built differently.
    """
    if m < 1:
        raise CourseError(f"The bottleneck of an adapter is {m}, and has to be 1 or more. Try m=16.")
    model.requires_grad_(False)
    adapters = []
    for layer in model.get_decoder().layers:
        for block, name in (("self_attn", "o_proj"), ("mlp", "down_proj")):
            parent = getattr(layer, block, None)
            matrix = getattr(parent, name, None)
            if parent is None or matrix is None:
                raise CourseError(
                    f"{type(layer).__name__} has no {block}.{name} to put an adapter after."
                    " Load a Llama, Mistral, Qwen3 or Phi-3 model."
                )
            with torch.device(next(matrix.parameters()).device):
                adapters.append(BottleneckAdapter(matrix.out_features, m))
            setattr(parent, name, nn.Sequential(matrix, adapters[-1]))
    return adapters


def count(d: int, m: int) -> int:
    """Return the parameters of one adapter with its biases: 2 m d + d + m (section 2.1)."""
    return 2 * m * d + d + m
