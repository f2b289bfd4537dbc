"""Adapters: recipes, finetuning with TRL, the label loss, memory planning, checkpoints."""

from llmcourse.training import planner
from llmcourse.training.configs import lora_config, sft_config, training_prompt
from llmcourse.training.examples import training_notes, training_rows
from llmcourse.training.finetuning import TrainingRun, finetune
from llmcourse.training.recipes import ALL_LINEAR, QUICK, RECIPES, TALK, THOROUGH, WORKSHOP, Recipe

__all__ = [
    "ALL_LINEAR",
    "QUICK",
    "RECIPES",
    "TALK",
    "THOROUGH",
    "WORKSHOP",
    "Recipe",
    "TrainingRun",
    "finetune",
    "lora_config",
    "planner",
    "sft_config",
    "training_notes",
    "training_prompt",
    "training_rows",
]
