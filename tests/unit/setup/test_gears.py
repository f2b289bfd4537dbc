"""The three gears: chosen from the hardware, and what each of them needs."""

import json
from dataclasses import replace

import architectures
import pytest
import record
from transformers import AutoConfig

from llmcourse import CourseError
from llmcourse._base import hardware
from llmcourse._base.hardware import GEAR_VARIABLE, Hardware
from llmcourse.data import tasks
from llmcourse.models import LoadedModel, catalogue
from llmcourse.setup import gears
from llmcourse.training import planner
from llmcourse.training.examples import token_lengths, training_rows
from llmcourse.training.recipes import THOROUGH, WORKSHOP

CPU = Hardware("cpu", "AMD EPYC", None, 2, 12.0, None)


def test_one_variable_overrides_the_gear(monkeypatch):
    monkeypatch.setenv(GEAR_VARIABLE, "t4")
    assert CPU.gear == "t4" and CPU.dtype == "float32" and f"t4 ({GEAR_VARIABLE} is set)" in CPU.table()
    monkeypatch.setenv(GEAR_VARIABLE, "turbo")
    with pytest.raises(CourseError, match=r"LLMCOURSE_GEAR=turbo is not a gear\. Use cpu, t4, gpu"):
        _ = CPU.gear


def test_one_variable_overrides_the_model(monkeypatch, tokenizer, tmp_path):
    monkeypatch.setenv(GEAR_VARIABLE, "cpu")
    folder = str(architectures.save("gpt2", tokenizer, tmp_path / "mine"))
    for model in ("qwen3-0.6b", folder):
        monkeypatch.setenv(gears.MODEL_VARIABLE, model)
        gear = gears.gear()
        assert (gear.model, gear.recipe, gear.minutes) == (model, gears.GEARS["cpu"].recipe, ())
        assert gear.describe() == f"gear cpu: {model}, all rows (bundled), recipe quick"
        assert gears.needs(gear).model == model and gears.needs(gear).minutes == ()
    monkeypatch.delenv(gears.MODEL_VARIABLE)
    assert gears.gear() is gears.GEARS["cpu"] and gears.gear(replace(CPU, capability=(8, 0))) is gears.GEARS["cpu"]
    monkeypatch.delenv(GEAR_VARIABLE)
    assert gears.gear(replace(CPU, capability=(8, 0))) is gears.GEARS["gpu"]


@pytest.mark.parametrize("name", hardware.GEARS)
def test_gears_choose_what_exists_and_fits(name):
    gear = gears.GEARS[name]
    model = catalogue.base(gear.model)
    needs = gears.needs(gear)
    assert needs.download_gib > 0 and needs.repo == model.repo and gear.recipe.name in gear.describe()
    if name == "t4":
        assert (gear.n_train, gear.n_test) == (1000, 100)  # the talk's
        tokens = gears.row_tokens(gear.recipe)
        assert planner.largest_micro_batch(model, gear.recipe, tokens, planner.T4_GIB - 1) == gear.recipe.batch_rows
        assert needs.gpu_gib < planner.T4_GIB
        # it needs no account, and while it is loaded and hashed it fits the 12.7 GiB of a Colab that has a T4
        assert not needs.gated and model.prequantised and needs.download_gib < 6


def test_preflight_looks_at_the_model_that_is_asked_for():
    needs = gears.needs(gears.GEARS["t4"], "phi-3-mini")
    assert (needs.repo, needs.gated, needs.download_gib) == ("microsoft/Phi-3-mini-4k-instruct", False, 7.1)
    assert needs.minutes == ()  # the gear's are of its own model
    with pytest.raises(CourseError, match="no model named 'gpt-6'"):
        gears.needs(gears.GEARS["t4"], "gpt-6")


def test_a_gpu_must_have_memory_for_prompts_too():
    """Phi-3-mini keeps three times as much for each token as Mistral-7B."""
    gear, model = gears.GEARS["t4"], catalogue.base("phi-3-mini")
    training = planner.plan(model, gear.recipe, 1, gears.row_tokens(gear.recipe)).gib
    assert gears.needs(gear, "phi-3-mini").gpu_gib == round(planner.prompting(model) / planner.GIB, 1) > training + 1


def test_a_model_that_cannot_be_planned_for_training_is_planned_for_prompts(tmp_path):
    AutoConfig.for_model("mamba", num_hidden_layers=2).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    needs = gears.needs(gears.GEARS["t4"], f"{tmp_path}/")
    assert needs.gpu_gib == round(planner.prompting(catalogue.base(str(tmp_path))) / planner.GIB, 1) == 0.5


def test_the_workshop_trains_within_12_minutes_by_the_planners_estimate():
    model = catalogue.base("mistral-7b")
    assert planner.training_minutes(model, WORKSHOP, 1000, gears.ROW_TOKENS) <= 12
    assert 1e-4 <= WORKSHOP.learning_rate <= 2e-4 and 4 <= WORKSHOP.batch_rows <= 8 and not WORKSHOP.instruction
    # the whole batch goes through at once
    assert WORKSHOP.batch_rows * gears.ROW_TOKENS <= planner.micro_batch_tokens(model, WORKSHOP, planner.T4_GIB)
    twice = planner.training_minutes(model, WORKSHOP.changed(epochs=2), 1000, gears.ROW_TOKENS)
    assert twice == pytest.approx(2 * planner.training_minutes(model, WORKSHOP, 1000, gears.ROW_TOKENS))


def test_minutes_count_the_tokens_that_a_recipe_gives_a_row(bundled, tokenizer):
    """The instruction in each row's prompt is most of it; the estimate knows how long it is."""
    rows = list(bundled.train)[:50]
    loaded = LoadedModel("tokenizer", {}, None, tokenizer)
    tokens = []
    for recipe in (WORKSHOP, THOROUGH):
        lengths = token_lengths(loaded, training_rows(loaded, tasks.SARCASM, rows, recipe)[0])
        tokens.append(sum(lengths) / len(lengths))
    instruction = gears.row_tokens(THOROUGH) - gears.row_tokens(WORKSHOP)
    assert instruction == pytest.approx(1.1 * (tokens[1] - tokens[0]), rel=0.05)
    assert gears.row_tokens(WORKSHOP) == gears.ROW_TOKENS
    model, gear = catalogue.base(gears.GEARS["gpu"].model), gears.GEARS["gpu"]
    planned = planner.training_minutes(
        model, THOROUGH, gear.n_train, gears.row_tokens(THOROUGH), 10 * planner.T4_TFLOPS
    )
    assert dict(gear.minutes)["training"] == pytest.approx(planned, abs=0.05)


def test_the_cpu_gears_minutes_are_those_measured():
    results = json.loads(record.RESULTS.read_text(encoding="utf-8"))
    tuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    prompted = sum(arm["seconds_per_row"] * arm["n"] for arm in results["arms"] if arm["kind"] == "prompted")
    said = dict(gears.GEARS["cpu"].minutes)
    assert results["machine"]["cores"] == 2
    assert abs(said["training"] - tuned["training_seconds"] / 60) < 0.5
    assert abs(said["prompts"] - prompted / 60) < 0.5
    assert results["peak_memory_gib"] <= gears.GEARS["cpu"].ram_gib


def test_every_gear_finds_rows_of_every_task():
    for gear in gears.GEARS.values():
        for task in tasks.TASKS.values():
            assert set(gear.sources_of(task)) <= set(task.sources) and gear.sources_of(task)
    assert gears.GEARS["t4"].sources_of(tasks.SARCASM) == gears.GEARS["t4"].sources
    assert gears.GEARS["t4"].sources_of(tasks.SUPPORT) == ("bundled",)
