"""Self-attention of one decoder layer, step by step, from the weights of the model that is loaded.

    hidden ──▶ query, key, value ──▶ rotate query and key by position ──▶ query·key ──▶ mask ──▶ softmax ──▶ mix the values ──▶ output

Attention: Vaswani et al. 2017 (arXiv:1706.03762, section 3.2). Rotary positions: Su et al. 2021 (arXiv:2104.09864, section 3.2). Heads that
share keys and values: Ainslie et al. 2023 (arXiv:2305.13245, section 2.2). Sliding window: Jiang et al. 2023 (arXiv:2310.06825, section 2).
For Llama, Mistral and Qwen3; tests/unit/lessons/test_fromscratch.py holds it against transformers' attention, and its weights against those of the eager
implementation. One text at a time, so there is no axis for rows.
"""

from dataclasses import dataclass
from typing import Any

from llmcourse._base.errors import CourseError


@dataclass(frozen=True)
class Attention:
    """What one layer's self-attention computed for one text."""

    weights: Any
    """How much each position takes from each position: (heads, length, length). Rows add up to 1."""
    output: Any
    """What the layer adds to its input: (length, hidden)."""


def project(attention, hidden):
    """Query, key and value of every position: (length, hidden) -> three of (heads or kv_heads, length, head_dim).

    `attention` is a layer's `self_attn`. Its three matrices give all heads at once; the result is cut into heads. Qwen3 also
    normalises each head's query and key. Raises CourseError where the three are fused into one (Phi-3).
    """
    if not hasattr(attention, "q_proj"):
        raise CourseError(
            f"{type(attention).__name__} keeps query, key and value in one matrix; written here is the plain case."
        )

    def heads(matrix, norm):
        cut = matrix(hidden).view(len(hidden), -1, attention.head_dim)
        return (norm(cut) if norm else cut).transpose(0, 1)

    return (
        heads(attention.q_proj, getattr(attention, "q_norm", None)),
        heads(attention.k_proj, getattr(attention, "k_norm", None)),
        heads(attention.v_proj, None),
    )


def angles(length: int, head_dim: int, theta: float):
    """By how much each pair of numbers is turned at each position, in radians: (length, head_dim / 2).

    Pair 0 turns by 1 a position, the last pair by about 1/theta: near and far positions both leave a trace.
    """
    import torch

    speed = theta ** -(torch.arange(0, head_dim, 2).float() / head_dim)
    return torch.outer(torch.arange(length).float(), speed)


def rotate(vectors, angle):
    """Turn each vector by its position: (heads, length, head_dim) and (length, head_dim / 2) -> (heads, length, head_dim).

    Number i and number i + head_dim / 2 form a pair. The dot product of a turned query and a turned key depends on how far apart
    the two stand, not on where.
    """
    import torch

    cos, sin = angle.cos().to(vectors), angle.sin().to(vectors)
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(query, key, window: int | None = None):
    """Attention weights: query (heads, length, head_dim), key (kv_heads, length, head_dim) -> (heads, length, length).

    A position sees itself and those before it, in a sliding window only the last `window` of them. Each head of keys serves
    heads / kv_heads heads of queries. The sum of head_dim products is divided by sqrt(head_dim), or softmax would
    choose one position and ignore the rest.
    """
    import torch

    heads, length, head_dim = query.shape
    key = key.repeat_interleave(heads // len(key), dim=0)
    scores = query.float() @ key.float().transpose(1, 2) / head_dim**0.5
    back = torch.arange(length)[:, None] - torch.arange(length)[None, :]  # how far back a position looks
    hidden_from_it = (back < 0) | (back >= (window or length))
    return scores.masked_fill(hidden_from_it.to(scores.device), float("-inf")).softmax(-1)


def mix(attention, weights, value):
    """Each head's mixture of values, side by side, through the output matrix: -> (length, hidden)."""
    heads, length, _ = weights.shape
    value = value.repeat_interleave(heads // len(value), dim=0)
    mixed = weights.to(value.dtype) @ value
    return attention.o_proj(mixed.transpose(0, 1).reshape(length, -1))


def self_attention(attention, hidden) -> Attention:
    """All of it: a layer's `self_attn` and its input (length, hidden) -> weights and output.

    Raises CourseError for rotary positions of another kind than the plain one (Llama 3.1 stretches them).
    """
    import torch

    rope = attention.config.rope_parameters
    if rope["rope_type"] != "default":
        raise CourseError(
            f"The model's rotary positions are of the kind {rope['rope_type']}; written here is the plain one."
        )
    with torch.no_grad():
        query, key, value = project(attention, hidden)
        angle = angles(len(hidden), attention.head_dim, rope["rope_theta"]).to(hidden.device)
        query, key = rotate(query, angle), rotate(key, angle)
        weights = attend(query, key, _window(attention))
        return Attention(weights, mix(attention, weights, value))


def _window(attention) -> int | None:
    """The sliding window in tokens; None where a position sees everything before it."""
    if hasattr(attention, "sliding_window"):  # Qwen3 has one on some layers only
        return attention.sliding_window
    return getattr(attention.config, "sliding_window", None)


def recorded(loaded, text: str) -> list[tuple[Any, Any, Any]]:
    """What goes into and comes out of self-attention while the library runs the model: a layer's `self_attn`, its input and its output.

    Input and output are (length, hidden); the library's, not ours: hooks write them down.
    """
    import torch

    found = []

    def note(module, args, kwargs, output):
        hidden = args[0] if args else kwargs["hidden_states"]
        found.append((module, hidden[0].detach(), output[0][0].detach()))

    layers = loaded.model.get_decoder().layers
    hooks = [layer.self_attn.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            ids = torch.tensor([loaded.tokenizer(text).input_ids], device=loaded.model.device)
            loaded.model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found
