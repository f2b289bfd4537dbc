"""Explorers show a figure first, then controls that draw it again; the figures agree with the planner and with NF4."""

import pytest
import torch

from llmcourse import CourseError
from llmcourse.lessons.fromscratch import nf4
from llmcourse.lessons.widgets import controls, explorers
from llmcourse.models import catalogue
from llmcourse.training import planner
from llmcourse.training.recipes import THOROUGH


@pytest.fixture
def displayed(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects, **how: shown.extend(objects))
    return shown


def test_the_next_token_shows_a_figure_first_and_the_widget_has_a_text(displayed, tiny):
    assert explorers.next_token_explorer(tiny, "The cat sat on the") is None
    figure, made = displayed
    assert "The cat sat on the" in figure.alt and "%" in figure.alt
    assert set(made) == {controls.WIDGET, "text/plain"} and made[controls.WIDGET]["model_id"]
    assert "VBox" not in made["text/plain"] and "running notebook" in made["text/plain"]


def test_sliders_draw_and_ask_the_model_only_for_a_new_text(monkeypatch, tiny):
    asked = []
    real = explorers.sampling.next_logits
    monkeypatch.setattr(
        explorers.sampling, "next_logits", lambda loaded, text: asked.append(text) or real(loaded, text)
    )
    made = explorers.NextToken(tiny, "The cat")
    assert made.figure.layout.display == "none" and not asked
    made.temperature.value = 0.5
    first = bytes(made.figure.value)
    made.p.value = 0.5
    assert first.startswith(b"\x89PNG") and bytes(made.figure.value) != first and made.figure.layout.display == ""
    assert asked == ["The cat"]
    made.text.value = "The dog"
    assert asked == ["The cat", "The dog"]
    made.text.value = ""  # nothing to ask about
    made.button.click()
    assert asked == ["The cat", "The dog"] and made.text.value == ""


def test_the_button_writes_on(tiny):
    made = explorers.NextToken(tiny, "The cat")
    made.p.value = 0.05
    made.button.click()
    made.button.click()
    assert made.text.value.startswith("The cat") and len(made.text.value) > len("The cat")


def test_the_next_tokens_that_were_cut_off_are_marked(embedded_model):
    figure = explorers.next_token_picture(embedded_model, "The capital of France is", temperature=0.5, p=0.5)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["as the model says", "temperature 0.5, top-p 0.5\n1 tokens left"]
    assert "' Paris'" in figure.alt and "0.0%" in figure.alt
    plain = explorers.next_token_picture(embedded_model, "The capital of France is")
    assert len(plain.axes) == 1


@pytest.mark.parametrize("explore", [explorers.rank_explorer, explorers.nf4_explorer, explorers.fit_explorer])
def test_a_figure_comes_first(displayed, explore):
    explore()
    figure, made = displayed
    assert figure.alt and "running notebook" in made["text/plain"]


def test_the_picture_counts_what_the_planner_counts():
    base = catalogue.base("mistral-7b")
    for r in (1, 64):
        picture = explorers.rank_picture("mistral-7b", "down_proj", r)
        count = (
            planner.adapter_parameters(base, THOROUGH.changed(r=r, target_modules=("down_proj",))) // base.shape.layers
        )
        assert f"{count:,} numbers that learn" in picture.alt
    with pytest.raises(CourseError, match="qkv_proj"):
        explorers.rank_picture("phi-3-mini", "q_proj", 8)


def test_errors_are_those_of_the_weights():
    weights = nf4.gaussian_weights()
    alt = explorers.levels_picture(64).alt
    for name, table in (("NF4", nf4.nf4_levels()), ("int4", nf4.int4_levels())):
        error = float((nf4.dequantise(nf4.quantise(weights, table)) - weights).pow(2).mean().sqrt())
        assert f"{name}: {len(table)} levels, error {error:.1%}" in alt


def test_the_further_an_outlier_and_the_larger_its_block_the_worse():
    def error(outlier, block, table):
        weights = nf4.gaussian_weights(outlier)
        return nf4.relative_error(weights, nf4.dequantise(nf4.quantise(weights, table, block)), spread=1.0)

    for table in (nf4.nf4_levels(), nf4.int4_levels()):
        errors = [error(outlier, 64, table) for outlier in (0.0, 5.0, 10.0, 20.0, 50.0)]
        assert errors == sorted(errors) and errors[-1] > 2 * errors[0]
        assert error(20.0, 4096, table) > 2 * error(20.0, 64, table)
    assert (nf4.gaussian_weights(20.0) == 20).sum() == 66 and torch.equal(
        nf4.gaussian_weights(), nf4.gaussian_weights()
    )


def test_what_fits_is_what_the_planner_says():
    alt = explorers.fit_picture(rows=4, tokens=256).alt
    base = catalogue.base("mistral-7b")
    plan = planner.plan(base, THOROUGH.changed(r=8, alpha=16), 4, 256)
    assert f"QLoRA: {plan.gib:.1f} GiB, fits" in alt and "full finetuning: 1" in alt
    assert alt.count("does not fit") == 2
    again = explorers.fit_picture(rows=4, tokens=256, checkpointing="yes").alt
    assert again != alt and "QLoRA" in again


def test_int4_between_smallest_and_largest_has_no_error_on_the_embedded_model(embedded_model):
    """The trap of notebook 04: these weights were in that format once; others are not as lucky."""
    weight = embedded_model.model.model.layers[10].mlp.down_proj.weight
    assert torch.equal(nf4.minmax_int4(weight), weight)
    other = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    back = nf4.minmax_int4(other)
    assert 0.05 < float((back - other).pow(2).mean().sqrt()) < 0.1
    assert len(nf4.minmax_int4(torch.randn(3, 33)).unique()) > 16
