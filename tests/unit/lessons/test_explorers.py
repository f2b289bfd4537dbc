"""The explorers of notebook 04: what their figures say is what the planner and NF4 say, and controls draw it anew."""

import pytest
import torch

from llmcourse import CourseError
from llmcourse.lessons.fromscratch import nf4
from llmcourse.lessons.widgets import controls, explorers
from llmcourse.models import catalogue
from llmcourse.training import planner
from llmcourse.training.recipes import THOROUGH


def test_choices_draw_anew_and_say_what_makes_no_sense():
    made = controls.Choices(
        explorers.rank_picture,
        {"model": ("mistral-7b", "phi-3-mini"), "matrix": ("q_proj", "o_proj"), "r": explorers.RANKS},
        {"model": "mistral-7b", "matrix": "q_proj", "r": 8},
    )
    assert made.figure.layout.display == "none"
    made.controls["r"].value = 16
    first = bytes(made.figure.value)
    assert first.startswith(b"\x89PNG") and made.figure.layout.display == "" and "131,072" in made.said.value
    made.controls["model"].value = "phi-3-mini"
    assert "phi-3-mini has no matrix 'q_proj'" in made.said.value and bytes(made.figure.value) == first
    made.controls["matrix"].value = "o_proj"
    assert "3072 times 3072" in made.said.value and bytes(made.figure.value) != first


@pytest.mark.parametrize("explore", [explorers.rank_explorer, explorers.nf4_explorer, explorers.fit_explorer])
def test_a_figure_comes_first(monkeypatch, explore):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects, **how: shown.extend(objects))
    explore()
    figure, made = shown
    assert figure.alt and "running notebook" in made["text/plain"]


def test_the_picture_counts_what_the_planner_counts():
    base = catalogue.base("mistral-7b")
    for r in (1, 64):
        picture = explorers.rank_picture("mistral-7b", "down_proj", r)
        one = planner.adapter_parameters(base, THOROUGH.changed(r=r, target_modules=("down_proj",))) // base.layers
        assert f"{one:,} numbers that learn" in picture.alt
    with pytest.raises(CourseError, match="qkv_proj"):
        explorers.rank_picture("phi-3-mini", "q_proj", 8)


def test_errors_are_those_of_the_weights():
    weights = explorers.gaussian()
    alt = explorers.rounded(weights, 64).alt
    for name, table in (("NF4", nf4.nf4_levels()), ("int4", nf4.int4_levels())):
        back = nf4.dequantise(nf4.quantise(weights, table))
        error = float((back - weights).pow(2).mean().sqrt() / weights.std())
        assert f"{name}: {len(table)} levels, error {error:.1%}" in alt


def test_the_further_an_outlier_and_the_larger_its_block_the_worse():
    def error(outlier, block, table):
        weights = explorers.gaussian(outlier)
        return nf4.relative_error(weights, nf4.dequantise(nf4.quantise(weights, table, block)), spread=1.0)

    for table in (nf4.nf4_levels(), nf4.int4_levels()):
        errors = [error(outlier, 64, table) for outlier in (0.0, 5.0, 10.0, 20.0, 50.0)]
        assert errors == sorted(errors) and errors[-1] > 2 * errors[0]
        assert error(20.0, 4096, table) > 2 * error(20.0, 64, table)
    assert (explorers.gaussian(20.0) == 20).sum() == 66 and torch.equal(explorers.gaussian(), explorers.gaussian())


def test_what_fits_is_what_the_planner_says():
    alt = explorers.will_it_fit(rows=4, tokens=256).alt
    base = catalogue.base("mistral-7b")
    plan = planner.plan(base, THOROUGH.changed(r=8, alpha=16), 4, 256)
    assert f"QLoRA: {plan.gib:.1f} GiB, fits" in alt and "full finetuning: 1" in alt
    assert alt.count("does not fit") == 2
    again = explorers.will_it_fit(rows=4, tokens=256, checkpointing="yes").alt
    assert again != alt and "QLoRA" in again


def test_int4_between_smallest_and_largest_has_no_error_on_the_embedded_model(embedded_model):
    """The trap of notebook 04: these weights were in that format once; others are not as lucky."""
    weight = embedded_model.model.model.layers[10].mlp.down_proj.weight
    assert torch.equal(nf4.minmax_int4(weight), weight)
    other = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    back = nf4.minmax_int4(other)
    assert 0.05 < float((back - other).pow(2).mean().sqrt()) < 0.1
    assert len(nf4.minmax_int4(torch.randn(3, 33)).unique()) > 16
