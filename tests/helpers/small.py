"""What many tests share: a tiny random model, few rows, and recipes of a few steps. Programs in tests use it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcourse.data import Rows
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel, catalogue, shapes
from llmcourse.predict import label_tokens
from llmcourse.training import configs
from llmcourse.training.examples import training_rows
from llmcourse.training.recipes import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedTokenizerBase

    from llmcourse.data.tasks import Task
    from llmcourse.training.trainer import LabelTrainer

ONE_EPOCH = Recipe(name="test", r=2, epochs=1, batch_rows=4, learning_rate=1e-2)
TWO_EPOCHS = Recipe(name="test", r=2, alpha=4, epochs=2, batch_rows=4, learning_rate=1e-2, save_steps=2, max_length=160)
TRAINING_ROWS = [
    {
        "parent_comment": f"The bus number {i} came late " + "again and " * (i % 5),
        "comment": f"Great, {i} minutes!" * (1 + i % 3),
        "label": i % 2,
    }
    for i in range(22)
]


def tokenizer() -> PreTrainedTokenizerBase:
    """Load the embedded model's tokenizer."""
    from transformers import AutoTokenizer

    from llmcourse.models import embedded

    return AutoTokenizer.from_pretrained(embedded.ensure_embedded())


def tiny_model(tokenizer: PreTrainedTokenizerBase, seed: int = 0, **config: object) -> LoadedModel:
    """Make a random Llama with 2 layers for the vocabulary of this tokenizer."""
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


def some_rows(n_train: int = 16, n_test: int = 8, mark: str = "") -> Rows:
    """Return made-up sarcasm rows, two replies to each parent; `mark` makes the parents differ from other rows'."""
    from datasets import Dataset

    def side(name: str, count: int) -> Dataset:
        return Dataset.from_list(
            [
                {
                    "row": i + 1,
                    "label": i % 2,
                    "parent_comment": f"{name} parent {i // 2}{mark}",
                    "comment": f"{name} {i} <b>&",
                }
                for i in range(count)
            ]
        )

    report = {"read": n_train + n_test, "rejected_lines": [], "train": {}, "test": {}}
    report |= dict.fromkeys(("rejected", "no_label", "empty", "too_long", "duplicates", "contradictory"), 0)
    return Rows(SARCASM, "made.csv", side("train", n_train), side("test", n_test), report)


def trainer_for(
    loaded: LoadedModel,
    folder: Path,
    recipe: Recipe = TWO_EPOCHS,
    rows: list[dict] = TRAINING_ROWS,
    task: Task = SARCASM,
) -> LabelTrainer:
    """Make the trainer that finetuning would use for these rows, without starting it."""
    from datasets import Dataset

    from llmcourse.training.trainer import LabelTrainer

    examples, _ = training_rows(loaded, task, rows, recipe)
    trainer = LabelTrainer(
        model=loaded.model,
        args=configs.sft_config(recipe, folder),
        train_dataset=Dataset.from_list(examples),
        processing_class=loaded.tokenizer,
        peft_config=configs.lora_config(recipe),
    )
    trainer.lm_weight, trainer.label_tokens = (
        recipe.lm_weight,
        label_tokens(loaded, configs.training_prompt(task, recipe)),
    )
    return trainer


def adapter_of(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    """Return a copy of the adapter's weights."""
    return {name: p.detach().clone() for name, p in loaded.model.named_parameters() if "lora_" in name}


def shrunk(name: str, **changes: Any) -> catalogue.Base:
    """Return a model of the catalogue in its architecture, with a tiny shape. `changes` are named as in config.json."""
    base = catalogue.base(name)
    groups = base.shape.kv_heads < base.shape.heads
    tiny = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2 if groups else 4,
        "head_dim": 16,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return base.resized(**{**tiny, **changes})


def on_meta(base: catalogue.Base, recipe: Recipe | None = None) -> torch.nn.Module:
    """Make a model of the catalogue without its numbers, with adapters if a recipe is given."""
    from peft import get_peft_model

    made = shapes.on_meta(catalogue.config_of(base))
    return get_peft_model(made, configs.lora_config(recipe, made.config)) if recipe else made
