"""NF4: a weight in 4 bits, as QLoRA keeps it. Written to be read; on whole blocks bitsandbytes gives the same, bit for bit.

    weights ──▶ blocks of 64 ──▶ divide by the block's largest |w| ──▶ nearest of 16 levels ──▶ codes (4 bits) + one scale a block
    codes ──▶ levels ──▶ times the block's scale ──▶ weights again, nearly

Block-wise absmax, NF4 and double quantisation: Dettmers et al. 2023 (QLoRA, arXiv:2305.14314, sections 2 and 3). The 8-bit levels of the
second quantisation: Dettmers 2015 (arXiv:1511.04561, section 2.3). tests/unit/lessons/test_fromscratch_nf4.py holds codes and values against bitsandbytes.
"""

from dataclasses import dataclass, replace
from typing import Any

from llmcourse._base.errors import CourseError

BLOCK = 64
"""Weights that share one scale."""
SCALE_BLOCK = 256
"""Scales that share one scale of their own in double quantisation."""
ZERO = 7
"""The code of level 0."""
EDGE = 0.9677083
"""The quantile that becomes level 1: halfway between 1 - 1/32 and 1 - 1/30, half a step from the edge for 16 and for 15 levels."""


@dataclass(frozen=True)
class Quantised:
    """A tensor in few bits: `levels[codes] * scales`, block by block."""

    codes: Any
    """Which level each number took: (n,), integers. Two codes of 4 bits fit a byte: see `pack`."""
    scales: Any
    """The largest absolute value of each block: (ceil(n / block),), float32."""
    levels: Any
    """What the codes stand for, ascending, from -1 to 1: (levels,), float32."""
    block: int
    shape: tuple[int, ...]
    """The tensor's shape."""
    dtype: Any


def nf4_levels():
    """The 16 levels: quantiles of the normal distribution, so that each is needed about as often: (16,), float32.

    Seven below 0, seven above and one more above, evenly spaced in probability between 1/2 and `EDGE`; then 0 itself, so that a weight of
    0 stays 0. All are divided by the largest. QLoRA, section 3, "4-bit NormalFloat Quantization".
    """
    import torch
    from scipy.stats import norm

    below = norm.ppf(torch.linspace(EDGE, 0.5, 8)[:-1])
    above = norm.ppf(torch.linspace(EDGE, 0.5, 9)[:-1])
    levels = torch.tensor(sorted([*-below, 0.0, *above]), dtype=torch.float32)
    # the side with one level more begins at the same quantile: both ends are 1
    return levels / levels.max()


def int4_levels():
    """Plain int4: 15 evenly spaced levels, -7/7 to 7/7; (15,), float32. What "4 bits" makes one think of."""
    import torch

    return torch.arange(-7, 8, dtype=torch.float32) / 7


def quantise(weights, levels=None, block: int = BLOCK) -> Quantised:
    """Each weight becomes the nearest level of its block: any shape and float dtype -> codes and scales.

    The last block may be shorter. A block of zeros keeps the scale 0. Raises CourseError for a weight that is not finite.
    """
    import torch

    levels = (nf4_levels() if levels is None else levels).to(weights.device)
    if not weights.isfinite().all():
        raise CourseError("A weight that is infinite or no number has no level; all weights must be finite.")
    flat = weights.detach().reshape(-1).float()
    blocks = _in_blocks(flat, block)
    scales = blocks.abs().max(dim=1).values
    # one division a block and 64 products, as bitsandbytes does it: 64 divisions would now and then round to another level
    scaled = blocks * (1.0 / scales.clamp(min=1e-38))[:, None]
    halfway = (levels[:-1] + levels[1:]) / 2
    codes = torch.bucketize(scaled.reshape(-1)[: len(flat)].clamp(-1, 1), halfway)
    return Quantised(codes, scales, levels, block, tuple(weights.shape), weights.dtype)


def dequantise(q: Quantised):
    """The weights that the codes stand for, in the shape and dtype that they had."""
    values = _in_blocks(q.levels[q.codes], q.block) * q.scales[:, None]
    return values.reshape(-1)[: len(q.codes)].reshape(q.shape).to(q.dtype)


def relative_error(weights, back, spread: float | None = None) -> float:
    """Root mean square of what quantisation changed, as a share of the weights' standard deviation, or of another `spread`."""
    error = (back.float() - weights.float()).pow(2).mean().sqrt()
    return float(error / (weights.float().std() if spread is None else spread))


def minmax_int4(weights, block: int = 32):
    """Evenly spaced levels between each block's smallest and largest weight, 16 of them; the weights that come back, in float32.

    Two numbers of 16 bits a block instead of one scale: 5 bits a weight in blocks of 32. llama.cpp's Q4_1, in which the course's
    small model is shipped.
    """
    blocks = _in_blocks(weights.detach().reshape(-1).float(), block)
    low = blocks.min(dim=1, keepdim=True).values
    step = ((blocks.max(dim=1, keepdim=True).values - low) / 15).half().float()
    low = low.half().float()
    codes = ((blocks - low) / step.clamp(min=1e-12)).round().clamp(0, 15)
    return (low + codes * step).reshape(-1)[: weights.numel()].reshape(weights.shape)


def pack(codes):
    """Two 4-bit codes to a byte, the first in the upper half: (n,) -> (ceil(n / 2),), uint8. What the memory really holds."""
    import torch

    even = torch.nn.functional.pad(codes, (0, len(codes) % 2), value=ZERO)
    return (even[::2] * 16 + even[1::2]).to(torch.uint8)


def double_quantise(scales) -> tuple[Quantised, Any]:
    """The scales in 8 bits themselves: (blocks,) -> codes, and the mean that was taken off before.

    Scales are positive and close together; with their mean taken off they spread around 0, which is where the 8-bit levels are
    dense. QLoRA, section 3, "Double Quantization": 32 bits for 64 weights become 8, and 32 for 64 x 256.
    """
    mean = scales.mean()
    return quantise(scales - mean, dynamic_levels(), SCALE_BLOCK), mean


def double_dequantise(q: Quantised, mean):
    """The scales that double quantisation left: (blocks,), float32."""
    return dequantise(q) + mean


def dynamic_levels():
    """256 levels in which small numbers have a small error: (256,), float32 (Dettmers 2015, "dynamic tree" data type).

    Seven decades from 1e-7 to 1; each has twice as many levels as the one below. With 0, and 1 itself.
    """
    import torch

    positive = []
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        positive += (10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2).tolist()
    return torch.tensor(sorted([*positive, *(-level for level in positive), 0.0, 1.0]), dtype=torch.float32)


def bits_a_weight(double: bool) -> float:
    """What a weight costs with its share of the scales: 4.5 bits, or 4.127 with double quantisation (QLoRA, section 3)."""
    if not double:
        return 4 + 32 / BLOCK
    return 4 + 8 / BLOCK + 32 / (BLOCK * SCALE_BLOCK)


def _in_blocks(flat, block: int):
    """(n,) -> (blocks, block), the last one filled up with zeros."""
    import torch

    return torch.nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)


def linear(weight, double: bool = False):
    """A frozen linear layer, without bias, that keeps `weight` (out, in) as NF4 and computes in its dtype: x (..., in) -> (..., out).

    With LoRA on it (`llmcourse.lessons.fromscratch.lora.LoRALinear`) that is QLoRA: 4 bits are stored, W is dequantised for every product, and the
    gradient goes through it to A and B (QLoRA, section 3, equation 5). `double` quantises the scales too.
    """
    from torch import nn

    class NF4Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.out_features, self.in_features = weight.shape
            self.kept = quantise(weight)
            if double:
                self.kept = replace(self.kept, scales=double_dequantise(*double_quantise(self.kept.scales)))

        def forward(self, x):
            return nn.functional.linear(x, dequantise(self.kept))

    return NF4Linear()
