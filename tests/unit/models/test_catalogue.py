"""The catalogue: shapes and parameters of the real models."""

from dataclasses import replace

import pytest
from small import on_meta

from llmcourse.models import catalogue
from llmcourse.training import planner
from llmcourse.training.recipes import ALL_LINEAR, QUICK, Recipe

RECIPE = Recipe("plan", r=8, alpha=16)


@pytest.mark.parametrize("name", ["smollm2-135m", "mistral-7b", "llama-3-8b", "phi-3-mini", "qwen3-4b"])
def test_parameters_are_those_of_the_real_shapes(name):
    model = catalogue.base(name)
    short = replace(model, layers=2)  # layers are alike: two tell all
    made = on_meta(short)
    matrices = {n.rsplit(".", 1)[-1]: m.weight for n, m in made.named_modules() if n.endswith("_proj")}
    assert {n: tuple(w.shape) for n, w in matrices.items()} == model.linear()
    assert sum(p.numel() for p in made.parameters()) == short.parameters
    for recipe in (RECIPE, RECIPE.changed(target_modules=("q_proj", "down_proj"), upper_layers=1)):
        trained = sum(p.numel() for p in on_meta(short, recipe).parameters() if p.requires_grad)
        assert trained == planner.adapter_parameters(short, recipe)


def test_phi_3_fuses():
    assert catalogue.lora_targets("phi3", ALL_LINEAR) == ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    assert catalogue.lora_targets("mistral", QUICK.target_modules) == list(QUICK.target_modules)
