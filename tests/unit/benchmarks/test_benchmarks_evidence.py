"""Every row is a test row once a seed, groups stay together, and the summary is computed from the kept answers."""

import json
from collections import Counter

import evidence
import pytest

from llmcourse import data
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import SARCASM
from llmcourse.experiment import metrics


@pytest.fixture
def methods(monkeypatch):
    """Two methods without a model: one is always right about sarcastic rows only, the other answers by the length."""
    runs = []

    def constant(loaded, task, train, rows, seed):
        runs.append((train, rows))
        return [1] * len(rows)

    def guessing(loaded, task, train, rows, seed):
        return [None if len(row["comment"]) % 7 == seed else len(row["comment"]) % 2 for row in rows]

    monkeypatch.setattr(evidence, "METHODS", {evidence.BAG: constant, evidence.LORA: guessing})
    return runs


@pytest.fixture
def corpus():
    source = data.load(SARCASM)
    return data.in_order(SARCASM, [*source.train, *source.test])


def test_a_cross_validation_tests_every_row_once_a_seed(tiny, methods, corpus, tmp_path):
    out = tmp_path / "crossval.json"
    runs = evidence.crossval(tiny, SARCASM, out, list(evidence.METHODS), seeds=(0, 1))
    assert len(runs) == 2 * 5 * 2
    for seed in (0, 1):
        places = [
            place
            for run in runs
            if run["seed"] == seed and run["method"] == evidence.BAG
            for place in run["places"].split()
        ]
        assert sorted(map(int, places)) == list(range(len(corpus)))
    for train, rows in methods:
        assert not {row["parent_comment"] for row in train} & {row["parent_comment"] for row in rows}
        assert len(train) + len(rows) == len(corpus)
    # nothing is run again
    before = len(methods), out.read_bytes()
    assert evidence.crossval(tiny, SARCASM, out, list(evidence.METHODS), seeds=(0, 1)) == runs
    assert (len(methods), out.read_bytes()) == before

    constant, lora = evidence.crossval_summary(SARCASM, corpus, runs)
    assert constant["accuracy"] == 0.5 and constant["invalid"] == 0 and constant["seeds"] == [0, 1]
    answers = {
        (seed, place): None if len(row["comment"]) % 7 == seed else len(row["comment"]) % 2
        for seed in (0, 1)
        for place, row in enumerate(corpus)
    }
    right = [answer == corpus[place]["label"] for (_, place), answer in answers.items()]
    assert lora["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-4)
    assert lora["invalid"] == sum(answer is None for answer in answers.values())
    keys = sorted(answers)
    gold, groups = ([corpus[place][column] for _, place in keys] for column in ("label", "parent_comment"))
    p = metrics.paired_test(gold, [1] * len(keys), [answers[key] for key in keys], groups)
    assert constant["n"] == lora["n"] == len(corpus) and (constant["kind"], lora["kind"]) == ("baseline", "finetuned")
    assert constant["p_against_lora"] == pytest.approx(p) and "p_against_lora" not in lora
    assert lora["p_against_bag"] == constant["p_against_lora"] and "p_against_bag" not in constant
    assert lora["n_answers"] == len(keys) == 2 * len(corpus)


def test_learning_curves_draw_rows_by_seed(tiny, methods, tmp_path):
    out = tmp_path / "curves.json"
    runs = evidence.curves(tiny, SARCASM, out, list(evidence.METHODS), seeds=(0, 1), sizes=(25, 100))
    assert Counter(run["size"] for run in runs) == {25: 4, 100: 4, 1000: 4}
    trained = [train for train, _ in methods]
    assert [len(train) for train in trained] == [25, 100, 1000] * 2
    assert all(abs(2 * sum(row["label"] for row in train) - len(train)) <= 1 for train in trained)
    texts = [{row["comment"] for row in train} for train in trained]
    assert texts[0] < texts[2] and texts[0] != texts[3]  # small sets are part of large ones, and seeds differ
    points = evidence.curves_summary(SARCASM, list(data.in_order(SARCASM, data.load(SARCASM).test)), runs)
    assert [(point["method"], point["size"]) for point in points[:3]] == [(evidence.LORA, n) for n in (25, 100, 1000)]
    assert points[-1]["accuracies"] == [0.5, 0.5] and points[-1]["mean"] == 0.5


def test_the_summary_is_of_the_present_rows_and_recipe(tiny, methods, tmp_path):
    out = tmp_path / "crossval.json"
    evidence.crossval(tiny, SARCASM, out, list(evidence.METHODS), seeds=(0,))
    whole = evidence.summarise(tmp_path / "evidence.json", tmp_path)
    assert [point["name"] for point in whole["crossval"]["sarcasm"]["points"]] == [evidence.BAG, evidence.LORA]
    kept = out.read_text()

    def after(change) -> dict:
        runs = json.loads(kept)
        for run in runs["runs"]:
            change(run)
        out.write_text(json.dumps(runs))
        return evidence.summarise(tmp_path / "evidence.json", tmp_path)["crossval"]

    assert after(lambda run: run.update(rows="others")) == {}
    others = after(lambda run: run["recipe"].update(epochs=99) if "recipe" in run else None)
    assert [point["name"] for point in others["sarcasm"]["points"]] == [evidence.BAG]
    with pytest.raises(CourseError, match="several models"):
        after(lambda run: run.update(model={"name": run["method"]}))


def test_the_summary_of_curves_is_of_the_present_training_rows(tiny, methods, tmp_path):
    out = tmp_path / "curves.json"
    evidence.curves(tiny, SARCASM, out, list(evidence.METHODS), seeds=(0,), sizes=(25,))
    assert evidence.summarise(tmp_path / "evidence.json", tmp_path)["curves"]["sarcasm"]["points"]
    kept = json.loads(out.read_text())
    for run in kept["runs"]:
        run["train"] = "others"
    out.write_text(json.dumps(kept))
    assert evidence.summarise(tmp_path / "evidence.json", tmp_path)["curves"] == {}
