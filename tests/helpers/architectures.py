"""Tiny random models of the architectures that people bring, with everything in which they differ from Llama."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llmcourse._base import hardware
from llmcourse.models import attention
from llmcourse.models.loading import LoadedModel, project_rows_at_once
from llmcourse.training.recipes import ALL_LINEAR

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


MAMBA: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "state_size": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "initializer_range": 0.1,
}
HYBRID = {**LLAMA, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALONE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "mamba": (MAMBA, ("q_proj", "gate_proj")),
    "mamba2": ({**MAMBA, "num_heads": 8, "head_dim": 16, "n_groups": 1, "chunk_size": 16}, ("q_proj", "gate_proj")),
    "lfm2": ({**LLAMA, "layer_types": ["conv", "full_attention", "conv"]}, ALL_LINEAR),
    "falcon_h1": ({**HYBRID, "mamba_d_ssm": 128}, ALL_LINEAR),
    "granitemoehybrid": (
        {
            **HYBRID,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "shared_intermediate_size": 48,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
        ALL_LINEAR,
    ),
    "jamba": ({**LLAMA, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4}, ALL_LINEAR),
    "qwen3_next": (
        {
            **LLAMA,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
        ATTENTION,
    ),
    "gpt_neo": (
        {
            **GPT,
            "hidden_size": 64,
            "num_layers": 3,
            "num_heads": 4,
            "max_position_embeddings": 1024,
            "attention_types": [[["global", "local", "global"], 1]],
            "window_size": WINDOW,
        },
        (*ATTENTION[:3], "up_proj", "down_proj"),
    ),
    "mpt": ({**GPT, "d_model": 64, "n_layers": 3, "n_heads": 4, "max_seq_len": 1024}, ("up_proj", "down_proj")),
}
"""Models whose rows are computed alone, as `CONFIGS`, and the matrices that get an adapter in tests."""


def config_of(name: str, vocabulary: int, **changes: Any) -> Any:
    """Return the transformers config of one of `CONFIGS` or `ALONE`."""
    values = {**(CONFIGS[name] if name in CONFIGS else ALONE[name][0]), "vocab_size": vocabulary, **changes}
    return AutoConfig.for_model(name.partition(",")[0], **values)


def make(name: str, tokenizer: Any, **changes: Any) -> LoadedModel:
    """Return one of `CONFIGS` or `ALONE` with random weights and the attention that the course would choose."""
    torch.manual_seed(0)
    config = config_of(name, len(tokenizer), **changes)
    chosen = attention.supported(config, attention.choose(hardware.detect()))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=chosen)
    identity = {"name": name, "sha256": f"{0:064d}"}
    return LoadedModel(name, identity, project_rows_at_once(model.float()).eval(), tokenizer)


def save(name: str, tokenizer: Any, folder: Path, **changes: Any) -> Path:
    """Write one of `CONFIGS` with random weights as a folder, as its makers would publish it."""
    make(name, tokenizer, **changes).model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


QUICK = ("llama, tied", "mistral, sliding window", "gemma2", "gemma3_text", "phi3", "gpt_neox", "gpt2", "falcon, alibi")
"""Models that differ most from each other. The others' longer tests run once a week."""
QUICK_ALONE = ("mamba", "lfm2", "granitemoehybrid")


def mostly_slow(names: Iterable[str], quick: Collection[str] = (*QUICK, *QUICK_ALONE)) -> list[Any]:
    """Return names as parameters of a test: those in `quick` run with `make test`, the others with `make test-slow`."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
