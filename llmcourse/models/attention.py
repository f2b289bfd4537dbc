"""Which attention a model computes with: torch's SDPA, called the way that suits the machine.

transformers knows its attention functions by name. Two are added here: one for GPUs before Ampere, one for processors whose matrix
products go to oneDNN (`hardware.prefer_onednn`). What they compute is the same.
"""

from types import SimpleNamespace

from llmcourse._base import hardware

NO_GQA = "sdpa_without_gqa"
"""The name under which `without_gqa` is known to transformers."""

BESIDE_ONEDNN = "sdpa_beside_onednn"
"""The name under which `beside_onednn` is known to transformers."""

PLAIN_LENGTH = 256
"""Up to so many tokens a row the plain kernel is quicker in training, and what it keeps (length x length numbers a head) is small."""


def choose(machine: hardware.Hardware) -> str:
    """The name of the attention that transformers shall use on this machine."""
    if machine.capability is None:
        return _known(BESIDE_ONEDNN, beside_onednn) if hardware.prefer_onednn() else "sdpa"
    return "sdpa" if machine.capability >= hardware.AMPERE else _known(NO_GQA, without_gqa)


def _known(name: str, function) -> str:
    """Make an attention known to transformers, with SDPA's masks."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)
    return name


def without_gqa(module, query, key, value, attention_mask, **kwargs):
    """SDPA with keys and values repeated for each of the heads that share them, instead of `enable_gqa`.

    torch has grouped queries in its flash kernel, which needs Ampere, and in the plain one, which keeps all scores in float32:
    on a T4 generation in batches was 1.6 to 1.8 times slower with it (huggingface/transformers#45776). transformers takes it
    whenever there is no mask. Shapes: query (rows, heads, length, head_dim), key and value (rows, kv_heads, length, head_dim).
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1 and attention_mask is None:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        module = SimpleNamespace(is_causal=getattr(module, "is_causal", True), num_key_value_groups=1)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def beside_onednn(module, query, key, value, attention_mask, **kwargs):
    """SDPA where large products go to oneDNN: torch's flash kernel makes many small ones, and those are quicker in MKL.

    In training torch's plain kernel is taken, with one large product a layer, up to `PLAIN_LENGTH` tokens. Without gradients it is the flash kernel, and
    the heads that share keys and values ask as one head with as many more queries, so that nothing is repeated.
    Shapes as in `without_gqa`.
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
