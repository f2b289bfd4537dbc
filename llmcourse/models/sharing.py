"""Can the rows of a batch share what was computed? Known from a model's config, before a weight is read.

`predict.engine` computes what prompts share once and pads shorter rows, and training pads too. That is right for a
model that keeps plain keys and values and is told the position of each token. Any other model gets a plain path: each
row is computed alone and whole, by transformers itself.

Of the types of transformers 5.23 these are computed alone, by their usual settings:

    bailing_hybrid bamba bloom falcon_h1 falcon_mamba gemma3n_text gpt_neo granitemoehybrid inkling2_text inkling_text
    jamba kimi_linear lfm2 lfm2_moe lfm3 mamba mamba2 minimax minimax_m3_vl_text mpt nemotron_h olmo_hybrid openai-gpt
    qwen3_5_moe_text qwen3_5_text qwen3_next recurrent_gemma rwkv trocr

`usable.refuse_architecture` refuses what is no causal language model, and `usable.UNTESTED`. All other types share.
"""

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

COLUMN_COUNTERS = ("window_size", "index_block_size")
"""Settings of attention that counts columns, padding among them, without telling the cache: GPT-Neo, MiniMax-M3."""


def obstacle(config: "PretrainedConfig") -> str:
    """Return why rows of a causal language model with this config cannot share; empty if they can.

    The text follows the model's name: "keeps a state that rows cannot share".
    """
    if keeps_state(config):
        return "keeps a state that rows cannot share"
    if not {"position_ids", "past_key_values"} <= inspect.signature(_class_of(config).forward).parameters.keys():
        return "is not told the positions of its tokens"
    if any(getattr(config, name, None) for name in COLUMN_COUNTERS):
        return "counts padding in its attention"
    return ""


def keeps_state(config: "PretrainedConfig") -> bool:
    """Return whether some layer keeps something else than keys and values, as state-space layers do."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    plain = (DynamicLayer, DynamicSlidingWindowLayer)  # their subclasses keep more
    return bool(_class_of(config)._is_stateful) or any(type(layer) not in plain for layer in cache_layers(config))


def window(config: "PretrainedConfig") -> int | None:
    """Return how many columns the layer with the shortest memory looks back; None if all layers see everything.

    Sliding windows and chunks both count, in all layers or in some.
    """
    return min((layer.sliding_window for layer in cache_layers(config) if layer.is_sliding), default=None)


def cache_layers(config: "PretrainedConfig") -> list[Any]:
    """Return the layers of the cache that transformers would make for this config."""
    from transformers import DynamicCache

    return DynamicCache(config=config).layers


def _class_of(config: "PretrainedConfig") -> Any:
    """Return the class of a causal language model with this config."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
