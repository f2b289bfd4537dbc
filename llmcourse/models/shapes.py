"""What a model's config decides: its matrices, its parameters, and what LoRA can adapt.

A model is built from its config on torch's meta device, without numbers, and its real modules are counted. No
architecture has a table of its own here. The names of its matrices are the only thing we map.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.models import sharing

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""The bytes of a number, by its type."""

_QKV = ("qkv_proj", "query_key_value", "c_attn", "in_proj")
_GATE_UP = ("gate_up_proj", "dense_h_to_4h", "c_fc", "fc1", "input_linear", "in_proj")
OTHER_NAMES = {
    "q_proj": _QKV,
    "k_proj": _QKV,
    "v_proj": _QKV,
    "o_proj": ("dense", "attn.c_proj", "self_attn.out_proj"),
    "gate_proj": ("w1", *_GATE_UP),
    "up_proj": ("w3", *_GATE_UP),
    "down_proj": ("w2", "dense_4h_to_h", "mlp.c_proj", "c_proj", "fc2", "output_linear"),
}
"""Llama's names of a layer's matrices, which recipes use, and what others call them: Phi-3, GPT-NeoX and Falcon, GPT-2
and StarCoder2, Phi, Granite's hybrids, LFM2. Queries, keys and values are often fused into one matrix, and so are gate
and up. A layer of Mamba fuses all of them in `in_proj`."""

READ_BY_KERNELS = ("x_proj", "dt_proj", "out_proj")
"""Matrices of state-space layers whose weights fused kernels read directly. An adapter around them would be passed by,
and 4 bits would be taken for numbers, so they get neither."""


@dataclass(frozen=True)
class Shape:
    """A decoder-only model's sizes."""

    architecture: str
    """transformers' model_type, such as llama."""
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    """Fewer than `heads` means grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245). 0 for a model without
    attention."""
    kv_numbers: int
    """Numbers that the cache of keys and values keeps for each token: 2 x kv_heads x head_dim for each layer that
    attends. A layer with a sliding window stops at its window."""
    vocabulary: int
    tied: bool
    """Whether the input embedding is also the output matrix."""
    matrices: Mapping[str, tuple[int, int]]
    """The matrices of the layers: name -> (outputs, inputs). A name is what PEFT is given: the end of the path. Where
    layers differ, as in a hybrid of attention and state-space layers, not every layer has all of them."""
    linear_parameters: int
    """Parameters in the matrices of all layers, which adapters change."""
    nf4_parameters: int
    """Those of them that are put in 4 bits: plain linear layers, not Falcon's own kind, nor `READ_BY_KERNELS`."""
    other_parameters: int
    """Parameters in embeddings, output matrix, norms, biases and experts, which stay in 16 bits."""

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.linear_parameters + self.other_parameters

    def kv_bytes(self, dtype: str) -> int:
        """Return the bytes of the keys and values of one token in all layers."""
        return self.kv_numbers * BYTES[dtype]

    def targets(self, names: Sequence[str]) -> list[str]:
        """Return a recipe's matrices, given in Llama's names, under the names that PEFT finds in this model.

        Raises CourseError for a matrix that the model's layers do not have.
        """
        found = {
            name: next((other for other in (name, *OTHER_NAMES.get(name, ())) if other in self.matrices), None)
            for name in names
        }
        known = tuple(name for name, matrix in found.items() if matrix)
        if len(known) < len(found):
            absent = next(name for name, matrix in found.items() if not matrix)
            instead = f'Leave it out: --set "target_modules={known}". Or take another model.'
            raise CourseError(
                f"A layer of {self.architecture} has no matrix that the course knows as {absent}. It has"
                f" {', '.join(self.matrices)}. {instead if known else 'Take another model.'}"
            )
        return list(dict.fromkeys(matrix for matrix in found.values() if matrix))

    def matrix(self, name: str) -> tuple[int, int]:
        """Return (outputs, inputs) of the matrix that does in this model what Llama calls `name`."""
        return self.matrices[self.targets([name])[0]]

    @property
    def intermediate(self) -> int:
        """The width of the feed-forward block."""
        return self.matrix("down_proj")[1]

    @property
    def gated(self) -> bool:
        """Whether the feed-forward block has a gate beside its first matrix."""
        first = sum(self.matrix(name)[0] for name in dict.fromkeys(self.targets(["gate_proj", "up_proj"])))
        return first == 2 * self.intermediate

    @property
    def attention_width(self) -> int:
        """The width of all heads together."""
        return self.matrix("o_proj")[1]


def shape_of(config: "PretrainedConfig") -> Shape:
    """Return the shape of a causal language model with this config. Nothing is downloaded or allocated."""
    kind: Any = type(config)
    return _counted(kind, json.dumps(config.to_dict(), sort_keys=True, default=str))


@functools.lru_cache(maxsize=64)
def _counted(kind: Any, values: str) -> Shape:
    config = kind.from_dict(json.loads(values))
    model = on_meta(config)
    layers = decoder_layers(model)
    matrices = [linear_modules(layer) for layer in layers]
    linear = sum(math.prod(size) for layer in matrices for size in layer.values())
    kept = READ_BY_KERNELS if sharing.keeps_state(config) else ()
    plain: list[Any] = [
        part for path, part in layers.named_modules() if is_plain_linear(part) and not path.endswith(kept)
    ]
    attending = _attention_configs(config)
    output = model.get_output_embeddings().weight
    return Shape(
        architecture=config.model_type,
        hidden=config.hidden_size,
        layers=len(layers),
        heads=getattr(config, "num_attention_heads", 0),
        kv_heads=kv_heads(attending[0]) if attending else 0,
        kv_numbers=sum(map(_kv_numbers, attending)),
        vocabulary=output.shape[0],
        tied=output is model.get_input_embeddings().weight,
        matrices=_short_names(matrices),
        linear_parameters=linear,
        nf4_parameters=sum(part.weight.numel() for part in plain),
        other_parameters=sum(parameter.numel() for parameter in model.parameters()) - linear,
    )


def _short_names(layers: Sequence[Mapping[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    """Name each matrix of any layer by the last part of its path, or by the last two where others end alike.

    Where layers have different sizes under one name, the lowest layer's counts.
    """
    matrices = {path: size for layer in reversed(layers) for path, size in layer.items()}
    ends = [path.rsplit(".", 1)[-1] for path in matrices]
    return {
        end if ends.count(end) == 1 else ".".join(path.split(".")[-2:]): size
        for (path, size), end in zip(matrices.items(), ends, strict=True)
    }


def on_meta(config: "PretrainedConfig") -> Any:
    """Return a causal language model with this config and without numbers, on torch's meta device."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def decoder_layers(model: Any) -> "torch.nn.ModuleList":
    """Return the list of a causal language model's layers. Raises CourseError if it has no single list of them."""
    import torch

    count = model.config.num_hidden_layers
    lists = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == count]
    if len(lists) != 1:
        raise CourseError(
            f"{type(model).__name__} has no single list of {count} layers, so the course cannot train it."
        )
    return lists[0]


def linear_modules(layer: "torch.nn.Module") -> dict[str, tuple[int, int]]:
    """Return the matrices of a layer, in 4 bits or not: name in the layer -> (outputs, inputs)."""
    import torch
    from transformers.pytorch_utils import Conv1D

    found = {}
    for name, part in layer.named_modules():
        if isinstance(part, torch.nn.Linear):
            found[name] = (part.out_features, part.in_features)
        elif isinstance(part, Conv1D):  # GPT-2
            found[name] = (part.weight.shape[1], part.weight.shape[0])
    return found


def is_plain_linear(module: "torch.nn.Module") -> bool:
    """Return whether bitsandbytes puts a layer's matrix in 4 bits, as transformers decides it: no subclass is taken."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return type(module) is torch.nn.Linear or isinstance(module, Conv1D)


def is_named(path: str, name: str) -> bool:
    """Return whether PEFT takes a module at `path` for the one called `name`: it compares the ends of paths."""
    return path == name or path.endswith("." + name)


def kv_heads(config: "PretrainedConfig") -> int:
    """Return for how many heads a model keeps keys and values."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1  # Falcon-7B; its config counts otherwise
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def _attention_configs(config: "PretrainedConfig") -> list[Any]:
    """Return the config of each layer that keeps keys and values."""
    from transformers.cache_utils import DynamicLayer

    if not hasattr(config, "num_attention_heads"):
        return []
    layers = sharing.cache_layers(config)
    configs = getattr(config, "per_layer_config", None) or [config] * len(layers)  # new in transformers after 5.17
    return [own for layer, own in zip(layers, configs, strict=True) if isinstance(layer, DynamicLayer)]


def _kv_numbers(config: Any) -> int:
    """Return how many numbers a layer with this config keeps for a token."""
    if latent := getattr(config, "kv_lora_rank", None):  # DeepSeek's latent attention (arXiv:2405.04434, section 2.1)
        return int(latent + config.qk_rope_head_dim)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return kv_heads(config) * 2 * size
