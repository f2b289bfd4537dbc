"""Can the course load this model? Answered from config.json and the list of files, before weights are downloaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse._base import files, hub, redact
from llmcourse._base.errors import CourseError
from llmcourse.models.catalogue import Base

OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")
"""Weights in formats that are not read. Reading a pickle (.bin, .pt, .pth, .ckpt) can run a stranger's code."""

UNTESTED = {
    *("bert-generation", "cpmant", "xlnet"),  # read both ways
    *("axk2", "deepseek_v32", "deepseek_v4", "dots3_note_text", "glm_moe_dsa", "hy_v4", "qwen4_exp_text"),
    *("blt", "gemma4_assistant", "xlstm"),  # not decoders of one kind of layer, or without common settings
    *("zamba", "zamba2", "zaya"),  # we could not build a small one
}
"""Types among transformers' causal language models whose predictions depend on more than the tokens before, or that we
could not test."""

SPARE = 1.05
"""The disk must have so many times the size of what is written."""


@dataclass(frozen=True)
class Repository:
    """What a model's folder or repository holds, as far as we know without its weights."""

    name: str
    repo: str
    """Its address on the hub, or the path of the folder."""
    config: dict[str, Any]
    """config.json."""
    sizes: dict[str, int]
    """Its files and their bytes. Empty if the hub could not be asked."""

    @property
    def weights(self) -> dict[str, int]:
        """The safetensors files that transformers would read, and their bytes."""
        return {file: size for file, size in self.sizes.items() if file.endswith(".safetensors") and "/" not in file}


def look(base: Base) -> Repository:
    """Read config.json and the list of files of a folder or repository.

    Raises CourseError if there is no config.json, or if it cannot be had.
    """
    from transformers import PretrainedConfig

    repo = str(base.repo)
    sizes = hub.file_sizes(repo, base.revision)
    if sizes and "config.json" not in sizes:
        if "adapter_config.json" in sizes:
            raise CourseError(
                f"{base.name} is an adapter, not a model. Load the model that its adapter_config.json names, and give"
                " this one as the adapter: --adapter FOLDER."
            )
        has_gguf = any(name.endswith(".gguf") for name in sizes)
        instead = " Its GGUF files are for llama.cpp. Take the model that they were made from." if has_gguf else ""
        raise CourseError(f"{base.name} has no config.json, so it is no model of transformers.{instead}")
    try:
        config, _ = PretrainedConfig.get_config_dict(repo, revision=base.revision)
    except (OSError, ValueError) as error:
        raise CourseError(f"config.json of {base.name} cannot be read: {redact.reason(error)}") from error
    return Repository(base.name, repo, config, sizes)


def look_closely(base: Base) -> Repository:
    """`look`, and raise CourseError for what cannot be loaded as a causal language model, or not safely."""
    repository = look(base)
    refuse_unusable(repository)
    return repository


def refuse_unusable(repository: Repository) -> None:
    """Raise CourseError for what cannot be loaded as a causal language model, or not safely."""
    refuse_architecture(repository)
    refuse_weights(repository)


def refuse_architecture(repository: Repository) -> None:
    """Raise CourseError unless config.json describes a decoder-only language model that transformers itself knows."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    config, name = repository.config, repository.name
    kind, classes = config.get("model_type"), config.get("architectures") or []
    instead = "Take a decoder-only language model, such as Qwen/Qwen3-0.6B-Base."
    if not isinstance(kind, str):
        raise CourseError(f"config.json of {name} has no model_type, so transformers cannot load it. {instead}")
    if kind not in CONFIG_MAPPING_NAMES:
        if config.get("auto_map"):
            raise CourseError(
                f"{name} needs Python code from its repository (model_type {kind!r}). The course never runs a"
                f" stranger's code. {instead}"
            )
        raise CourseError(
            f"transformers {transformers.__version__} does not know the architecture {kind!r} of {name}. A newer one"
            " may: pip install --upgrade transformers"
        )
    if config.get("is_encoder_decoder"):
        raise CourseError(f"{name} is an encoder-decoder model ({kind}). {instead}")
    if any(key.endswith("_config") and key.split("_")[0] in ("vision", "audio", "text") for key in config):
        raise CourseError(f"{name} reads more than text ({kind}), which the course does not load. {instead}")
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    known = causal if isinstance(causal, (tuple, list)) else (causal,)
    if causal is None or (classes and not set(classes) & set(known)):
        what = f"a {classes[0]}" if classes else f"of type {kind!r}"
        raise CourseError(f"{name} is {what}, which does not predict the next token. {instead}")
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind in UNTESTED:
        raise CourseError(f"{name} is of type {kind!r}, which the course does not load. {instead}")
    method = (config.get("quantization_config") or {}).get("quant_method", "bitsandbytes")
    if method != "bitsandbytes":
        raise CourseError(
            f"{name} is quantised with {method}, which the course does not load. Take the original in 16 bits, or a"
            " copy in bitsandbytes' 4 bits."
        )


def refuse_weights(repository: Repository) -> None:
    """Raise CourseError if there are no safetensors weights, or if the disk has no room for them."""
    sizes, name = repository.sizes, repository.name
    if not sizes:
        return
    if not repository.weights:
        others = sorted(file for file in sizes if file.endswith(OTHER_WEIGHTS))
        has = f"its weights only as {others[0]}" if others else "no weights"
        raise CourseError(
            f"{name} has {has}. Only safetensors are read, because other formats can run a stranger's code. Look on the"
            " hub for a copy or a revision with model.safetensors: owner/name@revision"
        )
    if Path(repository.repo).is_dir():
        return
    missing = sum(repository.weights.values()) - round(hub.cached_gib(repository.repo) * 2**30)
    place = files.nearest_existing(hub.cache_dir())
    free = files.free_bytes(place)
    if missing * SPARE > free:
        raise CourseError(
            f"{name} needs {missing / 2**30:.1f} GiB on the disk, and {place} has {free / 2**30:.1f} GiB free. Free"
            " some, or choose another folder: HF_HOME=/another/folder"
        )
