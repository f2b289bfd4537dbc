"""Self-attention of one decoder layer, step by step, with the weights of a loaded model.

    hidden ─▶ query, key, value ─▶ rotate query and key by position ─▶ query·key ─▶ mask ─▶ softmax
           ─▶ mix the values ─▶ output

Attention: Vaswani et al. 2017 (arXiv:1706.03762, section 3.2). Rotary positions: Su et al. 2021 (arXiv:2104.09864,
section 3.2). Heads that share keys and values: Ainslie et al. 2023 (arXiv:2305.13245, section 2.2). Sliding window:
Jiang et al. 2023 (arXiv:2310.06825, section 2).

The code works for Llama, Mistral and Qwen3, and for one text at a time, so tensors have no batch axis. `heads` is the
number of query heads, `kv_heads` that of key and value heads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from llmcourse._base.errors import CourseError

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaAttention
    from transformers.models.mistral.modeling_mistral import MistralAttention
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

    from llmcourse.models import LoadedModel

SelfAttention: TypeAlias = "LlamaAttention | MistralAttention | Qwen3Attention"
"""A layer's `self_attn`."""


@dataclass(frozen=True)
class Attention:
    """What one layer's self-attention computed for one text."""

    weights: torch.Tensor
    """How much each position (row) takes from each position (column): (heads, length, length). Rows add up to 1."""
    output: torch.Tensor
    """What the layer adds to its input: (length, hidden)."""


def project(attention: SelfAttention, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute query, key and value of every position.

    (length, hidden) -> (heads, length, head_dim) for the query, (kv_heads, length, head_dim) for key and value. Each
    of the three matrices gives all heads at once, and the result is cut into heads. Qwen3 also normalises each head's
    query and key.

    Raises CourseError if the three matrices are fused into one (Phi-3).
    """
    if not hasattr(attention, "q_proj"):
        raise CourseError(
            f"{type(attention).__name__} keeps query, key and value in one matrix, which this code does not read."
            " Load a Llama, Mistral or Qwen3 model, for instance models.load('smollm2-135m')."
        )

    def heads(matrix: torch.nn.Linear, norm: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
        cut = matrix(hidden).view(len(hidden), -1, attention.head_dim)
        return (norm(cut) if norm else cut).transpose(0, 1)

    return (
        heads(attention.q_proj, getattr(attention, "q_norm", None)),
        heads(attention.k_proj, getattr(attention, "k_norm", None)),
        heads(attention.v_proj, None),
    )


def angles(length: int, head_dim: int, theta: float) -> torch.Tensor:
    """Return the angle by which each pair of numbers is rotated at each position, in radians: (length, head_dim / 2).

    Pair 0 turns by 1 radian a position and the last pair by about 1/theta, so that the angles tell near positions
    apart as well as distant ones.
    """
    speed = theta ** -(torch.arange(0, head_dim, 2).float() / head_dim)
    return torch.outer(torch.arange(length).float(), speed)


def rotate(vectors: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Rotate each vector by its position.

    (heads, length, head_dim), (length, head_dim / 2) -> (heads, length, head_dim). Numbers i and i + head_dim / 2 are a
    pair. After the rotation, the dot product of a query and a key depends on the distance between them only.
    """
    cos, sin = angle.cos().to(vectors), angle.sin().to(vectors)
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(query: torch.Tensor, key: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """Compute attention weights: (heads, length, head_dim), (kv_heads, length, head_dim) -> (heads, length, length).

    A position sees itself and the positions before it; with a sliding window, only the last `window` of them. Each key
    head serves heads / kv_heads query heads. The scores are divided by sqrt(head_dim), because softmax of large scores
    would choose one position and ignore the rest.
    """
    heads, length, head_dim = query.shape
    key = key.repeat_interleave(heads // len(key), dim=0)
    scores = query.float() @ key.float().transpose(1, 2) / head_dim**0.5
    distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]  # how far back the column is from the row
    masked = (distance < 0) | (distance >= (window or length))
    return scores.masked_fill(masked.to(scores.device), float("-inf")).softmax(-1)


def mix(attention: SelfAttention, weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Mix the values by the weights, and send all heads through the output matrix.

    (heads, length, length), (kv_heads, length, head_dim) -> (length, hidden).
    """
    heads, length, _ = weights.shape
    value = value.repeat_interleave(heads // len(value), dim=0)
    mixed = weights.to(value.dtype) @ value
    return attention.o_proj(mixed.transpose(0, 1).reshape(length, -1))


def self_attention(attention: SelfAttention, hidden: torch.Tensor) -> Attention:
    """Compute a layer's self-attention on its input (length, hidden).

    Raises CourseError for rotary positions of another kind than the plain one (Llama 3.1 stretches them).
    """
    rope: Any = attention.config.rope_parameters
    if rope["rope_type"] != "default":
        raise CourseError(
            f"The model's rotary positions are of the kind {rope['rope_type']!r}, and this code only knows 'default'."
            " Load another model, for instance models.load('smollm2-135m')."
        )
    with torch.no_grad():
        query, key, value = project(attention, hidden)
        angle = angles(len(hidden), attention.head_dim, rope["rope_theta"]).to(hidden.device)
        query, key = rotate(query, angle), rotate(key, angle)
        weights = attend(query, key, _window(attention))
        return Attention(weights, mix(attention, weights, value))


def _window(attention: SelfAttention) -> int | None:
    """Return the sliding window in tokens, or None if a position sees everything before it."""
    owner: Any = attention if hasattr(attention, "sliding_window") else attention.config  # Qwen3: on some layers only
    return getattr(owner, "sliding_window", None)


def record_layers(loaded: "LoadedModel", text: str) -> list[tuple[SelfAttention, torch.Tensor, torch.Tensor]]:
    """Run the library's model on a text, and record each layer's `self_attn` with its input and output.

    Input and output are (length, hidden). They are what transformers computed, to compare our own code with.
    """
    records: list[tuple[SelfAttention, torch.Tensor, torch.Tensor]] = []

    def record(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        records.append((module, hidden[0].detach(), output[0][0].detach()))

    layers = loaded.model.get_decoder().layers
    hooks = [layer.self_attn.register_forward_hook(record, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            ids = torch.tensor([loaded.tokenizer(text).input_ids], device=loaded.model.device)
            loaded.model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return records
