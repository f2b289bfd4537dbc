"""What the tests share: a tiny random model, made in a second, and the embedded model, loaded once."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from llmcourse import tasks
from llmcourse.models import LoadedModel

SARCASM = tasks.SARCASM


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import AutoTokenizer

    from llmcourse import embedded

    return AutoTokenizer.from_pretrained(embedded.ensure_embedded())


@pytest.fixture(scope="session")
def make_tiny(tokenizer):
    """Makes a random Llama with 2 layers and the embedded model's tokenizer."""

    def make(seed: int = 0, **config) -> LoadedModel:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(seed)
        values = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "initializer_range": 0.1,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            **config,
        }
        model = LlamaForCausalLM(LlamaConfig(**values)).eval()
        return LoadedModel("tiny", {"name": "tiny", "sha256": f"{seed:064d}"}, model, tokenizer)

    return make


@pytest.fixture
def tiny(make_tiny):
    return make_tiny()


@pytest.fixture(scope="session")
def embedded_model():
    from llmcourse import models

    return models.load()


@pytest.fixture(scope="session")
def bundled():
    from llmcourse import data

    return data.load(SARCASM)
