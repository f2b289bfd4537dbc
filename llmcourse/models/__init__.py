"""Models: the catalogue, loading in float32 or NF4, the embedded model, adapters on disk."""

from llmcourse.models import catalogue
from llmcourse.models.adapters import (
    PlainAdapter,
    base_of,
    is_plain,
    merged_card,
    plain_adapter,
    put_adapter,
    read_card,
    save_adapter,
    shipped_adapter,
    task_of,
)
from llmcourse.models.catalogue import EMBEDDED, config_of
from llmcourse.models.loading import LoadedModel, embedded_in_nf4, free, from_hub, load, quantization_config

__all__ = [
    "EMBEDDED",
    "LoadedModel",
    "PlainAdapter",
    "base_of",
    "catalogue",
    "config_of",
    "embedded_in_nf4",
    "free",
    "from_hub",
    "is_plain",
    "load",
    "merged_card",
    "plain_adapter",
    "put_adapter",
    "quantization_config",
    "read_card",
    "save_adapter",
    "shipped_adapter",
    "task_of",
]
