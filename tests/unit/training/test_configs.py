"""What a recipe becomes: configurations of peft and TRL."""

import inspect

import pytest

from llmcourse import CourseError
from llmcourse.training import configs, recipes
from llmcourse.training.recipes import TALK, TALK_NOTES


def test_configs_hold_the_recipes_numbers(tmp_path):
    lora = configs.lora_config(TALK)
    assert (lora.r, lora.lora_alpha, lora.lora_dropout, lora.target_modules) == (8, 16, 0.05, set(recipes.ALL_LINEAR))
    sft = configs.sft_config(TALK, tmp_path)
    assert (sft.per_device_train_batch_size, sft.gradient_accumulation_steps, sft.learning_rate) == (8, 1, 2e-5)
    assert not sft.bf16 and not sft.fp16 and sft.logging_nan_inf_filter is False


def test_lm_head_is_refused():
    """That TRL refuses it too is shown in tests/unit/training/test_t4.py."""
    with pytest.raises(CourseError, match="lm_head is no target here"):
        configs.lora_config(TALK.changed(target_modules=(*recipes.ALL_LINEAR, "lm_head")))
    assert "refused" in TALK_NOTES["target_modules: lm_head"]


def test_a_rank_above_the_models_width_is_refused(tiny):
    assert configs.lora_config(TALK.changed(r=32), tiny.model.config).r == 32
    with pytest.raises(
        CourseError, match=r"r=33, but the model's vectors have 32 numbers.* Lower r, for instance r=16"
    ):
        configs.lora_config(TALK.changed(r=33), tiny.model.config)


@pytest.mark.parametrize("name", ["warmup_ratio", "overwrite_output_dir", "max_seq_length"])
def test_removed_arguments_are_removed(name, tmp_path):
    from trl import SFTConfig

    with pytest.raises(TypeError, match=name):
        SFTConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **{name: 1})
    assert any(name in key for key in TALK_NOTES)


def test_trainer_arguments_moved():
    from trl import SFTTrainer

    taken = inspect.signature(SFTTrainer.__init__).parameters
    assert not {"tokenizer", "max_seq_length", "dataset_text_field", "packing"} & set(taken)


def test_constant_schedule_ignores_warm_up():
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-5)
    schedule = get_scheduler("constant", optimizer, num_warmup_steps=30, num_training_steps=100)
    assert schedule.get_last_lr() == [2e-5]
