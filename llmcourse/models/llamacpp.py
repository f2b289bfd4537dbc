"""A model as a GGUF file, which llama.cpp and Ollama read. Only Llama's architecture with a byte-level BPE is written.

llama.cpp must cut a text into the same tokens as the model's tokenizer does. It knows pre-tokenizers by name, so those
that are not known to be the same are refused.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.models.loading import LoadedModel

if TYPE_CHECKING:
    import numpy as np
    import torch
    from gguf import GGUFWriter
    from transformers import PretrainedConfig

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
LLAMA_3 = _WORDS + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS = {
    "gpt-2": [BYTE_LEVEL],
    "smollm": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": False},
        {**BYTE_LEVEL, "use_regex": False},
    ],
}
"""llama.cpp's names of pre-tokenizers, and their steps in tokenizer.json."""


def refuse_config(config: "PretrainedConfig") -> None:
    """Raise CourseError unless a model with this config can be written."""
    if config.model_type != "llama":
        raise CourseError(
            f"--gguf writes models of the architecture llama, and this is {config.model_type}. Leave out --gguf, and"
            " convert the folder with convert_hf_to_gguf.py of llama.cpp."
        )
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    others = {
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        f"rope_type={rope}": rope != "default",
        f"hidden_act={config.hidden_act}": config.hidden_act != "silu",
    }
    for name in (name for name, differs in others.items() if differs):
        raise CourseError(
            f"--gguf does not write a Llama with {name}. Leave out --gguf, and convert the folder with"
            " convert_hf_to_gguf.py of llama.cpp."
        )


def pre_tokenizer_of(tokenizer: Any) -> str:
    """Return llama.cpp's name of a tokenizer's pre-tokenizer. Raises CourseError if it has none that is the same."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    pre = parts["pre_tokenizer"] or {}
    steps = [
        {key: value for key, value in step.items() if key != "trim_offsets"}  # it changes offsets, not tokens
        for step in (pre.get("pretokenizers") or [pre])
    ]
    name = next((name for name, known in PRE_TOKENIZERS.items() if steps == known), None)
    if name is None or parts["normalizer"] is not None or parts["model"]["type"] != "BPE":
        raise CourseError(
            "--gguf writes byte-level BPE as GPT-2, SmolLM and Llama 3 have it, and this model's tokenizer differs."
            " Leave out --gguf, and convert the folder with convert_hf_to_gguf.py of llama.cpp."
        )
    return name


def write(loaded: LoadedModel, path: Path) -> None:
    """Write a model to a GGUF file, with its weights in their type and its norms in float32.

    Raises CourseError as `refuse_config` and `pre_tokenizer_of` do.
    """
    import gguf

    config = loaded.model.config
    refuse_config(config)
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, config, loaded.name)
    _add_tokenizer(writer, loaded)
    dtype = loaded.dtype
    kind = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "bfloat16": "MOSTLY_BF16"}[dtype]
    writer.add_file_type(gguf.LlamaFileType[kind])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers).mapping
    for name, tensor in loaded.model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        if "q_proj" in name or "k_proj" in name:
            tensor = _interleaved(tensor, heads)
        array, raw = _as_array(tensor)
        writer.add_tensor(names[name.removesuffix(".weight")][1] + ".weight", array, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: "GGUFWriter", config: "PretrainedConfig", name: str) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: "GGUFWriter", loaded: LoadedModel) -> None:
    from gguf import TokenType

    tokenizer, config = loaded.tokenizer, loaded.model.config
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    words = {index: word for word, index in tokenizer.get_vocab().items()}
    types = dict.fromkeys(words, TokenType.NORMAL)
    for token in parts["added_tokens"]:
        types[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    ids = range(config.vocab_size)
    merges = parts["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_of(tokenizer))
    writer.add_token_list([words.get(index, f"[PAD{index}]") for index in ids])
    writer.add_token_types([types.get(index, TokenType.UNUSED) for index in ids])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    first, *_, last = tokenizer("a b").input_ids
    writer.add_add_bos_token(first == tokenizer.bos_token_id)
    writer.add_add_eos_token(last == tokenizer.eos_token_id)
    writer.add_add_space_prefix(False)
    settings = loaded.model.generation_config
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    writer.add_eos_token_id(ends[0])
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if token is not None:
            add(token)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _interleaved(matrix: "torch.Tensor", heads: int) -> "torch.Tensor":
    """Return the matrix of queries or keys in llama.cpp's order.

    transformers rotates the first half of a head with its second half, llama.cpp each value with the next one.
    """
    halves = matrix.unflatten(0, (heads, 2, matrix.shape[0] // heads // 2))
    return halves.transpose(1, 2).reshape(matrix.shape)


def _as_array(tensor: "torch.Tensor") -> "tuple[np.ndarray[Any, Any], Any]":
    """Return a tensor's numbers as the writer takes them: NumPy has no bfloat16, so those are bytes."""
    import torch
    from gguf import GGMLQuantizationType

    tensor = tensor.detach().contiguous()
    if tensor.dim() == 1:
        tensor = tensor.float()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint8).numpy(), GGMLQuantizationType.BF16
    return tensor.numpy(), None
