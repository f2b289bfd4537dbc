"""PEFT's and TRL's own configurations, filled with a recipe's numbers.

Learners see the real objects: `lora_config` and `sft_config` return what they would write themselves.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base import hardware
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.models.shapes import shape_of
from llmcourse.predict.prompts import Prompt
from llmcourse.training.batches import rows_per_process
from llmcourse.training.recipes import Recipe

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PretrainedConfig
    from trl import SFTConfig


BEST_EPOCH: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
}
"""SFTConfig's settings that keep the adapter of the epoch that did best on held-out rows."""


def training_prompt(task: Task, recipe: Recipe) -> Prompt:
    """Return the prompt on which the recipe trains, and which its adapter expects."""
    return Prompt(task, instruction=recipe.instruction, max_length=recipe.max_length)


def lora_config(recipe: Recipe, config: "PretrainedConfig | None" = None) -> "LoraConfig":
    """Return PEFT's LoraConfig with the recipe's numbers, for a model with this transformers `config`.

    The model's config decides the names of its matrices (Phi-3 fuses some, GPT-2 calls them otherwise) and which layers
    are the upper ones. Raises CourseError for a matrix that the model does not have, and for a higher rank than its
    vectors have numbers.
    """
    from peft import LoraConfig

    if config and recipe.r > config.hidden_size:
        raise CourseError(
            f"r={recipe.r}, but the model's vectors have {config.hidden_size} numbers, so a higher rank adds nothing."
            " Lower r, for instance r=16."
        )
    upper = None
    if recipe.upper_layers is not None:
        if config is None:
            raise CourseError("upper_layers needs the model's config: lora_config(recipe, model.config).")
        upper = list(recipe.adapted_layers(config.num_hidden_layers))
    return LoraConfig(
        layers_to_transform=upper,
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=shape_of(config).targets(recipe.target_modules) if config else list(recipe.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def sft_config(recipe: Recipe, output_dir: str | Path, dtype: str | None = None) -> "SFTConfig":
    """Return TRL's SFTConfig with the recipe's numbers, for this machine, and for a model in `dtype` or the machine's.

    A batch holds all rows of an optimiser step. `trainer.LabelTrainer` divides it into micro-batches.
    """
    from trl import SFTConfig

    machine = hardware.detect()
    schedule = "constant_with_warmup" if recipe.scheduler == "constant" and recipe.warmup else recipe.scheduler
    with warnings.catch_warnings():
        # gradient_checkpointing has a new name in transformers 5.23, which 5.15 (on Colab) does not know yet
        warnings.simplefilter("ignore", FutureWarning)
        return SFTConfig(
            output_dir=str(output_dir),
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=rows_per_process(recipe),
            train_sampling_strategy="batch_rebalance",  # the same work for each process; resumes exactly
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=schedule,
            warmup_steps=recipe.warmup,  # below 1 it is a share of all steps
            adam_beta2=recipe.beta2,
            weight_decay=recipe.weight_decay,
            optim=recipe.optimizer,
            use_cpu=machine.device == "cpu",
            bf16=(dtype or machine.dtype) == "bfloat16",  # left alone, TRL takes bf16 wherever torch emulates it
            fp16=(dtype or machine.dtype) == "float16",
            gradient_checkpointing=recipe.checkpointing,
            max_length=None,  # rows are cut before: TRL would cut the label, or drop the row silently
            logging_steps=1,
            logging_nan_inf_filter=False,  # show a loss that is not a number
            save_steps=recipe.save_steps,
            save_total_limit=2,  # with validation: the best one and the last one
            **(BEST_EPOCH if recipe.validation else {}),
            disable_tqdm=True,
            ddp_find_unused_parameters=False,  # every adapter is part of every step
            ddp_broadcast_buffers=False,  # training changes no buffers
            dataloader_pin_memory=machine.device != "cpu",
            seed=recipe.seed,
        )
