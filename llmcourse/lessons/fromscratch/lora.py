r"""LoRA: a frozen matrix, and two thin ones beside it that learn.

            ┌──────────────▶ W  (out × in, frozen) ───────────────┐
    x (in) ─┤                                                     ├─(+)─▶ y (out)
            └─▶ A  (r × in) ──▶ r numbers ──▶ B  (out × r) ──▶ ·α/r ┘

    y = W x + (α / r) · B A x

Hu et al. 2021 (arXiv:2106.09685, section 4.1, equation 3). Tests compare forward pass, gradients, parameter count and
merge with PEFT's.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from llmcourse._base.errors import CourseError


class LoRALinear(nn.Module):
    """A linear layer with LoRA: x (..., in) -> (..., out).

    `base` is frozen; its weights may have 32, 16 or 4 bits. A starts random and B at zero, so that the layer starts as
    `base` (section 4.1). The update is scaled by α/r, as in the paper.

    Raises CourseError for a rank that is not positive.
    """

    def __init__(self, base: nn.Linear, r: int, alpha: float, dropout: float = 0.0):
        super().__init__()
        if r < 1:
            raise CourseError(f"The rank of LoRA is {r}, and has to be 1 or more. Try r=8.")
        self.base, self.dropout = base.requires_grad_(False), nn.Dropout(dropout)
        self.alpha, self.scale = alpha, alpha / r
        device = next((tensor.device for tensor in (*base.parameters(), *base.buffers())), None)
        self.A = nn.Parameter(torch.empty(r, base.in_features, device=device))
        self.B = nn.Parameter(torch.zeros(base.out_features, r, device=device))
        # the paper draws from a Gaussian; PEFT, and we, as nn.Linear does
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        update = self.dropout(x).to(self.A.dtype) @ self.A.T @ self.B.T
        return self.base(x) + (self.scale * update).to(x.dtype)

    def delta(self) -> torch.Tensor:
        """Return what the two matrices add to W: (α / r) · B A, (out, in). Its rank is at most r."""
        return self.scale * self.B @ self.A

    def merged(self) -> nn.Linear:
        """Return one plain layer that computes the same, W + delta, at no extra cost (section 4.1).

        `base` stays as it is. Raises CourseError if W is stored in 4 bits, because the sum would be rounded again.
        """
        if not self.base.weight.is_floating_point():
            raise CourseError(f"{type(self.base).__name__} has no weights to add to. Dequantise it first.")
        layer = nn.Linear(self.base.in_features, self.base.out_features, self.base.bias is not None, device="meta")
        layer.weight = nn.Parameter((self.base.weight + self.delta().to(self.base.weight.dtype)).detach())
        layer.bias = self.base.bias
        return layer


def like_peft(model: nn.Module, peft_model: nn.Module, name: str = "default") -> list[LoRALinear]:
    """Put LoRA on `model`, in place, wherever PEFT has it on `peft_model`, with copies of A and B. Return the layers.

    `model` is the same base model without PEFT. Tests and notebook 04 compare the two.
    """
    layers = []
    model.requires_grad_(False)
    path: str
    theirs: Any
    for path, theirs in peft_model.named_modules():
        if hasattr(theirs, "lora_A") and name in theirs.lora_A:
            parent, _, last = path.removeprefix("base_model.model.").rpartition(".")
            base = model.get_submodule(parent).get_submodule(last)
            assert isinstance(base, nn.Linear)
            layer = LoRALinear(base, theirs.r[name], theirs.lora_alpha[name])
            with torch.no_grad():
                layer.A.copy_(theirs.lora_A[name].weight)
                layer.B.copy_(theirs.lora_B[name].weight)
            setattr(model.get_submodule(parent), last, layer)
            layers.append(layer)
    return layers


def merge_all(model: nn.Module) -> nn.Module:
    """Replace every LoRALinear of a model with its `merged()` layer, in place. Return the model."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())
    return model


def trained(model: nn.Module) -> int:
    """Return the number of parameters that learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count(shapes: Sequence[tuple[int, int]], r: int) -> int:
    """Return the parameters of LoRA on matrices of these shapes (out, in): r · (in + out) each (section 4.2)."""
    return sum(r * (rows + columns) for rows, columns in shapes)
