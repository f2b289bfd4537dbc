"""NF4: a weight in 4 bits, as QLoRA stores it. On whole blocks bitsandbytes gives the same, bit for bit.

    weights ─▶ blocks of 64 ─▶ divide by the block's largest |w| ─▶ nearest of 16 levels ─▶ codes (4 bits) and scales
    codes ─▶ levels ─▶ times the block's scale ─▶ approximately the weights

Block-wise absmax, NF4 and double quantisation: Dettmers et al. 2023 (QLoRA, arXiv:2305.14314, sections 2 and 3). The
8-bit levels of the second quantisation: Dettmers 2015 (arXiv:1511.04561, section 2.3). Tests compare codes and values
with bitsandbytes.
"""

from dataclasses import dataclass

import torch
from torch import nn

from llmcourse._base.errors import CourseError

BLOCK = 64
"""Weights that share one scale."""
SCALE_BLOCK = 256
"""Scales that share one scale of their own in double quantisation."""
ZERO = 7
"""The code of level 0."""
EDGE = 0.9677083
"""The quantile that becomes level 1: halfway between 1 - 1/32 and 1 - 1/30, which are half a step from the edge for 16
and for 15 levels."""


@dataclass(frozen=True)
class Quantised:
    """A tensor in few bits: `levels[codes] * scales`, block by block."""

    codes: torch.Tensor
    """The level of each number: (n,), integers. Two 4-bit codes fit into a byte: see `pack`."""
    scales: torch.Tensor
    """The largest absolute value of each block: (ceil(n / block),), float32."""
    levels: torch.Tensor
    """What the codes stand for, ascending, from -1 to 1: (levels,), float32."""
    block: int
    shape: tuple[int, ...]
    """The tensor's shape."""
    dtype: torch.dtype


def nf4_levels() -> torch.Tensor:
    """Return the 16 levels: (16,), float32. They are normal quantiles, so that each is used about equally often.

    Seven are negative and eight positive, evenly spaced in probability between 1/2 and `EDGE`. Level 0 is added, so
    that a weight of 0 stays 0. All are divided by the largest. QLoRA, section 3, "4-bit NormalFloat Quantization".
    """
    from scipy.stats import norm

    below = norm.ppf(torch.linspace(EDGE, 0.5, 8)[:-1])
    above = norm.ppf(torch.linspace(EDGE, 0.5, 9)[:-1])
    levels = torch.tensor(sorted([*-below, 0.0, *above]), dtype=torch.float32)
    # both sides begin at the same quantile, so both ends become 1
    return levels / levels.max()


def int4_levels() -> torch.Tensor:
    """Return plain int4, what "4 bits" usually means: 15 evenly spaced levels, -7/7 to 7/7. (15,), float32."""
    return torch.arange(-7, 8, dtype=torch.float32) / 7


def quantise(weights: torch.Tensor, levels: torch.Tensor | None = None, block: int = BLOCK) -> Quantised:
    """Round each weight to the nearest level of its block.

    Takes any shape and float dtype. The last block may be shorter. A block of zeros keeps the scale 0.

    Raises CourseError for a weight that is not finite.
    """
    levels = (nf4_levels() if levels is None else levels).to(weights.device)
    if not weights.isfinite().all():
        raise CourseError("Some weights are infinite or NaN, and NF4 has no level for them. Quantise finite weights.")
    flat = weights.detach().reshape(-1).float()
    blocks = _in_blocks(flat, block)
    scales = blocks.abs().max(dim=1).values
    # one division a block and 64 products, as in bitsandbytes: 64 divisions would sometimes round to another level
    scaled = blocks * (1.0 / scales.clamp(min=1e-38))[:, None]
    halfway = (levels[:-1] + levels[1:]) / 2
    codes = torch.bucketize(scaled.reshape(-1)[: len(flat)].clamp(-1, 1), halfway)
    return Quantised(codes, scales, levels, block, tuple(weights.shape), weights.dtype)


def dequantise(q: Quantised) -> torch.Tensor:
    """Return the weights that the codes stand for, in their former shape and dtype."""
    values = _in_blocks(q.levels[q.codes], q.block) * q.scales[:, None]
    return values.reshape(-1)[: len(q.codes)].reshape(q.shape).to(q.dtype)


def relative_error(weights: torch.Tensor, restored: torch.Tensor, spread: float | None = None) -> float:
    """Return the root mean square error of quantisation, divided by `spread` (the weights' standard deviation)."""
    error = (restored.float() - weights.float()).pow(2).mean().sqrt()
    return float(error / (weights.float().std() if spread is None else spread))


def minmax_int4(weights: torch.Tensor, block: int = 32) -> torch.Tensor:
    """Round weights to 16 even levels between each block's smallest and largest weight. Return them in float32.

    It stores two 16-bit numbers a block instead of one scale: 5 bits a weight in blocks of 32. This is Q4_1 of
    llama.cpp, the format in which the course's small model is shipped.
    """
    blocks = _in_blocks(weights.detach().reshape(-1).float(), block)
    low = blocks.min(dim=1, keepdim=True).values
    step = ((blocks.max(dim=1, keepdim=True).values - low) / 15).half().float()
    low = low.half().float()
    codes = ((blocks - low) / step.clamp(min=1e-12)).round().clamp(0, 15)
    return (low + codes * step).reshape(-1)[: weights.numel()].reshape(weights.shape)


def pack(codes: torch.Tensor) -> torch.Tensor:
    """Pack two 4-bit codes into a byte, as they are stored, the first in the upper half: (n,) -> (ceil(n / 2),)."""
    even = nn.functional.pad(codes, (0, len(codes) % 2), value=ZERO)
    return (even[::2] * 16 + even[1::2]).to(torch.uint8)


def double_quantise(scales: torch.Tensor) -> tuple[Quantised, torch.Tensor]:
    """Quantise the scales to 8 bits: (blocks,) -> codes, and the mean that was subtracted before.

    Scales are positive and close together. Without their mean they lie around 0, where the 8-bit levels are dense.
    `dequantise(codes) + mean` gives them back. QLoRA, section 3, "Double Quantization": instead of 32 bits for 64
    weights, it takes 8 bits and a share of 32 bits for 64 × 256.
    """
    mean = scales.mean()
    return quantise(scales - mean, dynamic_levels(), SCALE_BLOCK), mean


def dynamic_levels() -> torch.Tensor:
    """Return 256 levels at which small numbers have a small error: (256,), float32 (Dettmers 2015, "dynamic tree").

    Seven decades from 1e-7 to 1, each with twice as many levels as the one below, on both sides; with 0, and 1 itself.
    """
    positive: list[float] = []
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        positive += (10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2).tolist()
    return torch.tensor(sorted([*positive, *(-level for level in positive), 0.0, 1.0]), dtype=torch.float32)


def bits_a_weight(double: bool) -> float:
    """Return the bits of a weight with its share of the scales: 4.5, or 4.127 with double quantisation (section 3)."""
    if not double:
        return 4 + 32 / BLOCK
    return 4 + 8 / BLOCK + 32 / (BLOCK * SCALE_BLOCK)


def gaussian_weights(outlier: float = 0.0, n: int = 65_536) -> torch.Tensor:
    """Draw weights as initialisation does, with standard deviation 1: (n,), float32, the same at each call.

    Every 1,000th weight is set to `outlier`, unless that is 0.
    """
    weights = torch.randn(n, generator=torch.Generator().manual_seed(0))
    if outlier:
        weights[::1000] = outlier
    return weights


def _in_blocks(flat: torch.Tensor, block: int) -> torch.Tensor:
    """Cut into blocks, and fill up the last one with zeros: (n,) -> (blocks, block)."""
    return nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
