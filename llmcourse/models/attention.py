"""Choose the attention that suits the machine. All of them are torch's SDPA.

transformers finds attention functions by name. Two are added here: one for GPUs older than Ampere, one for processors
whose matrix products go to oneDNN (`hardware.prefer_onednn`). They compute the same as SDPA.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from llmcourse._base import hardware

if TYPE_CHECKING:
    import torch

NO_GQA = "sdpa_without_gqa"
"""The name under which transformers knows `without_gqa`."""

BESIDE_ONEDNN = "sdpa_beside_onednn"
"""The name under which transformers knows `beside_onednn`."""

PLAIN_LENGTH = 256
"""Row length in tokens up to which the plain kernel trains faster and its length x length scores take little memory."""


def choose(machine: hardware.Hardware) -> str:
    """Return the name of the attention that transformers should use on this machine."""
    if machine.capability is None:
        return register(BESIDE_ONEDNN, beside_onednn) if hardware.prefer_onednn() else "sdpa"
    return "sdpa" if machine.capability >= hardware.AMPERE else register(NO_GQA, without_gqa)


def supported(config: Any, name: str | None) -> str | None:
    """Return this attention, or what a causal language model with this config takes in its place.

    Gemma 2 caps attention's logits, which SDPA cannot do. Falcon knows transformers' own functions only.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model is None or (model._supports_sdpa and model._supports_attention_backend):
        return name
    return "sdpa" if model._supports_sdpa else "eager"


def leave_out_cudnn(machine: hardware.Hardware) -> None:
    """Have SDPA leave out cuDNN's kernel where there is a GPU. The setting belongs to torch, for the whole process.

    From torch 2.11 on, SDPA takes cuDNN's kernel first on Hopper and newer, where rows that are padded on the left gave
    NaN in logits or gradients (pytorch/pytorch#196678). Training pads so, and so do the batches of predictions.
    """
    if machine.capability is not None:
        import torch

        torch.backends.cuda.enable_cudnn_sdp(False)


def register(name: str, function: Callable[..., Any]) -> str:
    """Make an attention known to transformers, with SDPA's masks. Return its name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)
    return name


def without_gqa(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    **kwargs: Any,
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Compute SDPA with keys and values repeated for the heads that share them, instead of with `enable_gqa`.

    torch supports grouped queries in its flash kernel, which needs Ampere, and in its plain kernel, which keeps all
    scores in float32. On a T4 that made generation in batches 1.6 to 1.8 times slower (huggingface/transformers#45776).
    transformers uses `enable_gqa` whenever there is no mask. Shapes: query (rows, heads, length, head_dim), key and
    value (rows, kv_heads, length, head_dim). The result is (rows, length, heads, head_dim).
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1 and attention_mask is None:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        module = SimpleNamespace(is_causal=getattr(module, "is_causal", True), num_key_value_groups=1)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def beside_onednn(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    **kwargs: Any,
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Compute SDPA where large products go to oneDNN. The many small ones of torch's flash kernel are faster in MKL.

    Training uses torch's plain kernel up to `PLAIN_LENGTH` tokens: one large product a layer. Without gradients the
    flash kernel is used. There, the heads that share keys and values become one head with as many more queries, so that
    nothing is repeated. Shapes are those of `without_gqa`.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if query.requires_grad:
        plain = [SDPBackend.MATH] if query.shape[2] <= PLAIN_LENGTH else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
        with sdpa_kernel(plain):
            return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    rows, heads, length, size = query.shape
    groups = heads // key.shape[1]
    with hardware.prefer_mkl():
        if attention_mask is None or length == 1 or attention_mask.shape[1] > 1:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        out = torch.nn.functional.scaled_dot_product_attention(
            query.reshape(rows, heads // groups, groups * length, size),
            key,
            value,
            attn_mask=attention_mask.repeat(1, 1, groups, 1),
            scale=kwargs.get("scaling"),
        )
    out = out.view(rows, heads // groups, groups, length, size).permute(0, 3, 1, 2, 4)
    return out.reshape(rows, length, heads, size), None
