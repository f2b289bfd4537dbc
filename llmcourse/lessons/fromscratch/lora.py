r"""LoRA: a frozen matrix, and beside it two thin ones that learn.

            ┌──────────────▶ W  (out × in, frozen) ───────────────┐
    x (in) ─┤                                                     ├─(+)─▶ y (out)
            └─▶ A  (r × in) ──▶ r numbers ──▶ B  (out × r) ──▶ ·α/r ┘

    y = W x + (α / r) · B A x

Hu et al. 2021 (arXiv:2106.09685, section 4.1, equation 3). tests/unit/lessons/test_fromscratch_lora.py holds forward, gradients, count and merge against PEFT's.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from llmcourse._base.errors import CourseError


class LoRALinear(nn.Module):
    """A linear layer with LoRA: x (..., in) -> (..., out).

    `base` is any module with `in_features` and `out_features`, in 32, 16 or 4 bits; it is frozen. A starts random and B at zero, so
    that the layer starts as `base` (section 4.1). α/r keeps the size of the update when r is changed.

    Raises CourseError for a rank that is not positive.
    """

    def __init__(self, base: nn.Module, r: int, alpha: float, dropout: float = 0.0):
        super().__init__()
        if r < 1:
            raise CourseError(f"The rank of LoRA is 1 or more, not {r}.")
        self.base, self.scale, self.dropout = base.requires_grad_(False), alpha / r, nn.Dropout(dropout)
        device = next((tensor.device for tensor in (*base.parameters(), *base.buffers())), None)
        self.A = nn.Parameter(torch.empty(r, base.in_features, device=device))
        self.B = nn.Parameter(torch.zeros(base.out_features, r, device=device))
        # the paper draws from a Gaussian; PEFT, and we, as nn.Linear does
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x):
        update = self.dropout(x).to(self.A.dtype) @ self.A.T @ self.B.T
        return self.base(x) + (self.scale * update).to(x.dtype)

    def delta(self):
        """What the two matrices add to W: (α / r) · B A, (out, in). Its rank is at most r."""
        return self.scale * self.B @ self.A

    def merged(self) -> nn.Linear:
        """One plain layer that computes the same: W + delta. No cost at inference; `base` stays as it is (section 4.1).

        Raises CourseError where there is no W to add to: codes of 4 bits would have to be rounded anew.
        """
        if not isinstance(self.base, nn.Linear) or not self.base.weight.is_floating_point():
            raise CourseError(f"{type(self.base).__name__} holds no matrix to add to; dequantise it first.")
        layer = nn.Linear(self.base.in_features, self.base.out_features, self.base.bias is not None, device="meta")
        layer.weight = nn.Parameter((self.base.weight + self.delta().to(self.base.weight.dtype)).detach())
        layer.bias = self.base.bias
        return layer


def add_lora(model: nn.Module, names: Sequence[str], r: int, alpha: float, dropout: float = 0.0) -> list[LoRALinear]:
    """Freeze `model`, and put LoRA on every layer of these names ("q_proj", ...), in place. Returns what was added.

    Raises CourseError if there is no layer of these names: a misspelt name would train nothing.
    """
    model.requires_grad_(False)
    places = [(parent, name) for parent in model.modules() for name, _ in parent.named_children() if name in names]
    if not places:
        raise CourseError(f"The model has no layer called {' or '.join(names)}.")
    added = []
    for parent, name in places:
        added.append(LoRALinear(getattr(parent, name), r, alpha, dropout))
        setattr(parent, name, added[-1])
    return added


def like_peft(model: nn.Module, peft_model: nn.Module, name: str = "default") -> list[LoRALinear]:
    """Put LoRA on `model` wherever PEFT has it on `peft_model`, with copies of PEFT's A and B, in place. Returns what was added.

    `model` is the same base without PEFT. For tests and for notebook 04, where the two are compared.
    """
    added = []
    model.requires_grad_(False)
    for path, theirs in peft_model.named_modules():
        if hasattr(theirs, "lora_A") and name in theirs.lora_A:
            parent, _, last = path.removeprefix("base_model.model.").rpartition(".")
            base = model.get_submodule(parent).get_submodule(last)
            layer = LoRALinear(base, theirs.r[name], theirs.lora_alpha[name])
            with torch.no_grad():
                layer.A.copy_(theirs.lora_A[name].weight)
                layer.B.copy_(theirs.lora_B[name].weight)
            setattr(model.get_submodule(parent), last, layer)
            added.append(layer)
    return added


def merge_all(model: nn.Module) -> nn.Module:
    """Put `merged()` in the place of every LoRALinear, in place; the model is then as it was before LoRA, but for its numbers."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())
    return model


def trained(model: nn.Module) -> int:
    """How many parameters learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count(shapes: Sequence[tuple[int, int]], r: int) -> int:
    """Parameters of LoRA on matrices of these shapes (out, in): r · (in + out) each, instead of in · out (section 4.2)."""
    return sum(r * (rows + columns) for rows, columns in shapes)
