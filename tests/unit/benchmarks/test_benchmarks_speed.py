"""The benchmarks of speed: fair turns, sides that compute the same, and results files that say what was run."""

import json
import re
from pathlib import Path

import finetuning
import generating
import measure
import pytest
import scaling
import scoring
import torch

from llmcourse import predict
from llmcourse._base import hardware
from llmcourse.data.tasks import SARCASM
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.training import recipes

ROOT = Path(__file__).parents[3]
ROWS = [
    {"parent_comment": f"Bus {n} is late", "comment": "Great! " * (1 + n % 3) + str(n), "label": n % 2}
    for n in range(24)
]
PROMPT = Prompt(SARCASM, few_shots(SARCASM, ROWS[:6], 2))


def test_sides_take_turns_and_are_set_beside_ours(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    order = []

    def side(name, seconds_a_row):
        def work(rows):
            order.append(name)
            clock[0] += seconds_a_row * len(rows)

        return measure.Side(name, work)

    found = measure.compare([side("ours", 1.0), side("slow", 3.0)], ROWS[:10], 2, say=lambda *a, **k: None)
    assert order == ["ours", "slow", "ours", "slow", "slow", "ours"]  # two rows of each unmeasured, then in turn
    assert found["slow"]["times_slower"] == {"min": 3.0, "median": 3.0, "max": 3.0}
    assert found["ours"]["rows_per_second"]["median"] == 1.0 and found["slow"]["seconds"] == [15.0, 15.0]


def test_a_peer_gets_the_model_as_transformers_loads_it(tiny):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    tiny.model.set_attn_implementation("eager")  # as something that llmcourse chose
    try:
        seen = []
        side = measure.Side(
            "peer",
            lambda rows: seen.append((torch.get_float32_matmul_precision(), tiny.model.config._attn_implementation)),
            plain=tiny,
        )
        side([])
        assert seen == [("highest", "sdpa")]
        assert (torch.get_float32_matmul_precision(), tiny.model.config._attn_implementation) == ("medium", "eager")
    finally:
        torch.set_float32_matmul_precision(before)


def test_full_forwards_compute_what_the_engine_computes(tiny):
    found = scoring.FullForwards(tiny, PROMPT)(ROWS[:4])
    ours = predict.score(tiny, PROMPT, ROWS[:4]).logprobs
    assert scoring.largest_difference(ours, [row["among"] for row in found]) < scoring.TOLERANCE
    ids, label = predict.encode(tiny, PROMPT, ROWS[:1])[0], predict.label_tokens(tiny, PROMPT)[0]
    with torch.inference_mode():
        logs = tiny.model(torch.tensor([ids + label])).logits[0].log_softmax(-1)
    summed = sum(float(logs[len(ids) - 1 + step, token]) for step, token in enumerate(label))
    assert found[0]["sums"][0] == pytest.approx(summed, abs=1e-4)


def test_generate_and_pipeline_write_what_the_engine_writes(make_tiny):
    tiny = make_tiny(2)
    tokens = max(map(len, predict.label_tokens(tiny, PROMPT))) + 4
    ours = [generating.first_line(text) for text in predict.generate(tiny, PROMPT, ROWS[:5]).texts]
    assert len(set(ours)) > 1
    padding = tiny.tokenizer.padding_side
    try:
        for side in (generating.OneByOne(tiny, PROMPT, tokens), generating.Pipeline(tiny, PROMPT, tokens)):
            assert generating.count_same(ours, side(ROWS[:5])) == 5
    finally:
        tiny.tokenizer.padding_side = padding


def test_trainers_begin_with_the_same_loss(make_tiny, monkeypatch):
    """Those that learn the label only; the talk's learns all tokens, and its loss is another."""
    tiny = make_tiny(1)
    small = recipes.QUICK.changed(upper_layers=1, r=2)
    losses = {}
    for name in ("llmcourse, quick", "TRL, best, quick's adapter", "TRL as in the talk"):
        way = finetuning.Way(small, finetuning.WAYS[name].train)
        losses[name] = finetuning.loss_before(way, tiny, ROWS)
        assert not tiny.has_adapter
    ours, best, talk = losses.values()
    assert ours == pytest.approx(best, abs=finetuning.LOSS_TOLERANCE) and abs(talk - ours) > 0.01
    seconds = finetuning.run(finetuning.Way(small, finetuning.trl), tiny, ROWS[:8], 1, micro_batch=4)
    assert seconds > 0 and not tiny.has_adapter


def test_rows_to_scale_with_differ():
    rows = scaling.pairs(3000)
    assert len(rows) == 3000 and len({(row["parent_comment"], row["comment"]) for row in rows}) > 2990
    made = list(scaling.lines(10))
    assert len(made) == 11 and made == list(scaling.lines(10)) and len(set(made)) == 11


def test_quick_keeps_nothing_and_other_numbers_are_taken(tmp_path):
    quick = measure.options("doc", ["--quick"], rows=(200, 8, "rows"))
    assert (quick.rows, quick.out) == (8, None)
    whole = measure.options("doc", ["--rows", "5", "--out", str(tmp_path)], rows=(200, 8, "rows"))
    assert (whole.rows, whole.out) == (5, tmp_path)
    assert measure.options("doc", [], rows=(200, 8, "rows")).out == measure.RESULTS
    measure.finish("some", {"a": 1}, whole)
    assert json.loads((tmp_path / "some.json").read_text()) == {"a": 1}


@pytest.mark.parametrize("name", ["scoring", "generating", "finetuning", "scaling", "startup", "recipes", "processes"])
def test_results_say_when_where_and_with_what(name):
    results = json.loads((measure.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", results["date"])
    assert results["machine"]["cores"] and set(hardware.versions()) <= set(results["versions"])
    assert "/" not in json.dumps(results["machine"])


def test_sides_agreed_before_they_were_timed():
    read = {n: json.loads((measure.RESULTS / f"{n}.json").read_text()) for n in ("scoring", "generating", "finetuning")}
    differences = read["scoring"]["agree"]["largest_difference"]
    assert differences["llmcourse and full forwards"] < scoring.TOLERANCE and max(differences.values()) < 1e-3
    agree = read["generating"]["agree"]
    for kind in ("few-shot", "zero-shot"):
        assert all(agree["same_first_line"][f"{kind}, {side}"] == agree["rows"] for side in ("OneByOne", "Pipeline"))
    losses = read["finetuning"]["agree"]["loss_before"].values()
    assert max(losses) - min(losses) < finetuning.LOSS_TOLERANCE
    assert read["finetuning"]["work"]["rows"] == 80 and read["scoring"]["work"]["rows"] == 200
