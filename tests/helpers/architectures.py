"""Tiny random models of the architectures that people bring, with everything in which they differ from Llama."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llmcourse._base import hardware
from llmcourse.models import attention
from llmcourse.models.loading import LoadedModel, project_rows_at_once

LLAMA: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "initializer_range": 0.1,
}
NO_GROUPS = {**LLAMA, "num_key_value_heads": 4}
GPT: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.1}
FALCON = {**GPT, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
WINDOW = 40
"""Shorter than the tests' prompts, so that tokens do fall out of a sliding window."""

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama, tied": {**LLAMA, "tie_word_embeddings": True},
    "mistral, sliding window": {**LLAMA, "sliding_window": WINDOW},
    "qwen2": LLAMA,
    "qwen2, window in upper layers": {
        **LLAMA,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "qwen3": LLAMA,
    "gemma2": {
        **LLAMA,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {
        **LLAMA,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "phi3": {**NO_GROUPS, "sliding_window": WINDOW},
    "gpt_neox": NO_GROUPS,
    "gpt2": {**GPT, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 1024},
    "olmo2": LLAMA,
    "granite": {
        **LLAMA,
        "logits_scaling": 2.0,
        "attention_multiplier": 0.1,
        "residual_multiplier": 0.5,
        "embedding_multiplier": 3.0,
    },
    "smollm3": {**LLAMA, "no_rope_layer_interval": 2},
    "falcon": {**FALCON, "multi_query": True, "parallel_attn": True, "alibi": False, "bias": False},
    "falcon, alibi": {**FALCON, "multi_query": False, "parallel_attn": False, "alibi": True, "bias": True},
    "falcon, new decoder": {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False},
    "starcoder2": {**LLAMA, "sliding_window": WINDOW},
}
"""What decides each model's shape, by name: transformers' model_type, and what is special about this one."""


def config_of(name: str, vocabulary: int, **changes: Any) -> Any:
    """Return the transformers config of one of `CONFIGS`."""
    values = {**CONFIGS[name], "vocab_size": vocabulary, **changes}
    return AutoConfig.for_model(name.partition(",")[0], **values)


def make(name: str, tokenizer: Any, **changes: Any) -> LoadedModel:
    """Return one of `CONFIGS` with random weights and the attention that the course would choose."""
    torch.manual_seed(0)
    config = config_of(name, len(tokenizer), **changes)
    chosen = attention.choose(hardware.detect()) if attention.has_sdpa(config) else "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=chosen)
    identity = {"name": name, "sha256": f"{0:064d}"}
    return LoadedModel(name, identity, project_rows_at_once(model.float()).eval(), tokenizer)


def save(name: str, tokenizer: Any, folder: Path, **changes: Any) -> Path:
    """Write one of `CONFIGS` with random weights as a folder, as its makers would publish it."""
    make(name, tokenizer, **changes).model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
