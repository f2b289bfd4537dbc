"""The sweep behind notebook 02: its script on a tiny model, its results file, and the numbers that prose quotes."""

import json

import prompting
import pytest

from llmcourse import data
from llmcourse.data.tasks import SARCASM
from llmcourse.experiment import metrics
from llmcourse.lessons import recorded


@pytest.fixture(scope="module")
def results():
    return recorded.read("prompting")


def silent(*args, **kwargs):
    pass


def test_a_sweep_is_kept_and_gone_on_with(tiny, bundled, tmp_path, monkeypatch):
    monkeypatch.setattr(prompting, "ORDERED", 2)
    out = tmp_path / "out.json"
    whole = prompting.sweep(tiny, bundled, out, shots=(0, 2), draws=2, n=10, say=silent)
    assert [(p["k"], p["draw"], p["way"]) for p in whole["points"]] == [
        (k, draw, way) for k, draw in ((0, 0), (2, 0), (2, 1)) for way in ("scored", "calibrated")
    ]
    assert len(whole["orders"]) == 2 * 2 and json.loads(out.read_text()) == whole
    assert [part["draws"] for part in whole["summary"]] == [1, 1, 2, 2]

    asked = []
    monkeypatch.setattr(prompting, "ask", lambda *args: asked.append(args) or [])
    whole["points"] = whole["points"][:-2]  # as after an interruption
    out.write_text(json.dumps(whole))
    prompting.sweep(tiny, bundled, out, shots=(0, 2), draws=2, n=10, say=silent)
    assert len(asked) == 1


def test_another_model_begins_anew(make_tiny, bundled, tmp_path, monkeypatch):
    monkeypatch.setattr(prompting, "ORDERED", 2)
    out = tmp_path / "out.json"
    for seed in (0, 1):
        whole = prompting.sweep(make_tiny(seed), bundled, out, shots=(0,), draws=1, n=4, say=silent)
    assert whole["model"] == make_tiny(1).base and len(whole["points"]) == 2


def test_one_question_gives_what_two_would(tiny, bundled):
    from llmcourse.predict import score
    from llmcourse.predict.prompts import Prompt, few_shots

    prompt = Prompt(SARCASM, few_shots(SARCASM, list(bundled.train), 2))
    rows = prompting.frozen(SARCASM, bundled.test, 12)
    scored, calibrated = prompting.ask(tiny, prompt, rows)
    for entry, calibrate in ((scored, False), (calibrated, True)):
        labels = score(tiny, prompt, rows, calibrate=calibrate).labels
        assert entry == {"way": entry["way"], **prompting.measured(SARCASM, rows, labels)}


def test_orders():
    found = prompting.orders("abcd")
    assert len(found) == len(set(found)) == prompting.ORDERS and found[0] == (0, 1, 2, 3)
    assert all(sorted(order) == [0, 1, 2, 3] for order in found)


def test_the_results_file_is_about_these_rows(results, bundled):
    rows = prompting.frozen(SARCASM, bundled.test, results["rows"])
    assert results["test_id"] == data.rows_id(SARCASM, rows) and len(rows) == 100
    assert {row["label"] for row in rows} == {0, 1} and results["seed"] == prompting.SEED
    assert results["date"] and results["machine"]["cores"] and results["versions"]["torch"]


def test_the_results_file_is_whole(results):
    draws = [(k, draw) for k in prompting.SHOTS for draw in range(prompting.DRAWS if k else 1)]
    wanted = [(k, draw, way) for k, draw in draws for way in ("scored", "calibrated")]
    assert [(p["k"], p["draw"], p["way"]) for p in results["points"]] == wanted
    assert len({(tuple(p["order"]), p["way"]) for p in results["orders"]}) == 2 * prompting.ORDERS
    assert results["summary"] == prompting.summary(results["points"])


def test_the_results_file_agrees_with_itself(results):
    for point in (*results["points"], *results["orders"]):
        n = results["rows"]
        assert sum(point["answers"].values()) + point["invalid"] == n
        assert point["commoner"] == max(point["answers"].values()) / n
        low, high = metrics.wilson(round(point["accuracy"] * n), n)
        assert point["accuracy_ci95"] == [round(low, 4), round(high, 4)]
    first = {p["way"]: p for p in results["points"] if (p["k"], p["draw"]) == (prompting.ORDERED, 0)}
    for point in results["orders"][:2]:  # the order that they were drawn in
        assert point["answers"] == first[point["way"]]["answers"]
