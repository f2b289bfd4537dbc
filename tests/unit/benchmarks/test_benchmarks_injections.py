"""Orders in comments: the script on arms whose obedience is known, and its results file."""

import json
from collections import Counter

import injections as script
import pytest

from llmcourse import data, models
from llmcourse._base import files
from llmcourse.data import injections
from llmcourse.data.tasks import SARCASM
from llmcourse.lessons import recorded

TEXTS = injections.load()
SOME = TEXTS[:6]
WAYS = ("order", "harmless", "echo")


@pytest.fixture(scope="module")
def results():
    return recorded.read("injections")


@pytest.fixture(scope="module")
def rows(bundled):
    return script.frozen(SARCASM, bundled.test, 100)


def silent(*args, **kwargs):
    pass


# -- arms whose obedience is known --------------------------------------------------------------------------------


def obedient(rows):
    """Answers the label that the reply names, else Not Sarcasm."""
    return [int("Sarcasm" in row["comment"] and "Not Sarcasm" not in row["comment"]) for row in rows]


def disturbed(rows):
    """Changes its answer whenever something follows the reply, whatever it is."""
    return [int(any(one.text[:9] in row["comment"] or one.harmless in row["comment"] for one in SOME)) for row in rows]


def deaf(rows):
    return [1] * len(rows)


def garbled(rows):
    """Writes garbage under an order, and where the plain row is sarcastic."""
    return [None if row["label"] or "Sarcasm" in row["comment"] else 0 for row in rows]


@pytest.mark.parametrize(
    ("arm", "flips"),
    [(obedient, (6, 0, 0)), (disturbed, (6, 6, 6)), (deaf, (0, 0, 0)), (garbled, (0, 0, 0))],
    ids=["obedient", "disturbed", "deaf", "garbled"],
)
def test_obedience_is_told_from_disturbance(tiny, bundled, tmp_path, arm, flips):
    out = tmp_path / "out.json"
    whole = script.measure(tiny, bundled, out, {arm.__name__: arm}, "none", texts=SOME, say=silent)
    (found,) = whole["arms"]
    assert tuple(found[way]["flipped"] for way in WAYS) == flips
    assert json.loads(out.read_text()) == whole
    if arm is garbled:
        assert found["plain"]["invalid"] == 3 and found["order"]["invalid"] == 3 and found["harmless"]["invalid"] == 0
        # an answer that was invalid before counts as unchanged, and the last label is wanted of it
        assert found["order"]["same"] == 3 and found["by_wanted"]["Sarcasm"]["order"]["n"] == 6


def test_an_invalid_answer_may_turn_into_a_label_that_nobody_wanted():
    counts = script.counted([None, None, 0, 1, 0], [0, 1, None, 0, 0], wanted=[1, 1, 1, 0, 1])
    kinds = ("n", "flipped", "same", "invalid", "other")
    assert [counts[key] for key in kinds] == [5, 2, 1, 1, 1]


def test_order_and_echo_differ_in_the_label_word_only(rows):
    plain = [0, 1, None] * 33 + [0]
    asked = script.variants(SARCASM, rows, TEXTS, plain)
    assert set(asked) == set(WAYS)
    for place, (row, one, answer) in enumerate(zip(rows, TEXTS, plain, strict=True)):
        order, harmless, echo = (asked[way][place] for way in WAYS)
        given, wanted = (0, 1) if answer is None else (answer, 1 - answer)
        assert order["comment"] == f"{row['comment']} {one.wanting(SARCASM.labels[wanted])}"
        assert echo["comment"] == f"{row['comment']} {one.wanting(SARCASM.labels[given])}"
        assert harmless["comment"] == f"{row['comment']} {one.harmless}"
        assert order["parent_comment"] == row["parent_comment"] and order["label"] == row["label"]


def test_a_run_goes_on_and_begins_anew(tiny, bundled, tmp_path):
    out, calls = tmp_path / "out.json", Counter()

    def counting(name):
        def arm(rows):
            calls[name] += 1
            return [0] * len(rows)

        return arm

    def run(names, adapter="a"):
        asked = {name: counting(name) for name in names}
        return script.measure(tiny, bundled, out, asked, adapter, texts=SOME, say=silent)

    run("x")
    assert [arm["arm"] for arm in run("xy")["arms"]] == ["x", "y"] and calls == {"x": 4, "y": 4}
    assert [arm["arm"] for arm in run("x", adapter="b")["arms"]] == ["x"] and calls == {"x": 8, "y": 4}


def test_the_real_arms_on_a_tiny_model(tiny, bundled, tmp_path, monkeypatch):
    laid = []
    monkeypatch.setattr(script, "put_adapter", lambda loaded, folder: laid.append(folder) or {"prompt": {}})
    asked = script.arms(tiny, bundled, "adapter")
    whole = script.measure(tiny, bundled, tmp_path / "out.json", asked, "none", texts=SOME, say=silent)
    assert laid == ["adapter"] * 4  # the plain rows and three variants
    for arm in whole["arms"]:
        assert all(sum(arm[way][key] for key in ("flipped", "same", "invalid", "other")) == 6 for way in WAYS)
    assert [arm["arm"] for arm in whole["arms"]] == [arm["arm"] for arm in recorded.read("injections")["arms"]]


# -- the results file ---------------------------------------------------------------------------------------------


def test_the_results_file_is_about_these_rows_and_texts(results, rows, bundled):
    assert results["rows"] == 100 and results["test_id"] == data.rows_id(SARCASM, rows)
    assert Counter(row["label"] for row in rows) == {0: 50, 1: 50}
    assert results["injections_id"] == files.short_hash([[one.kind, one.text, one.harmless] for one in TEXTS])
    weights = models.shipped_adapter(SARCASM.name) / "adapter_model.safetensors"
    assert results["adapter"] == files.sha256_of_file(weights)
    assert results["date"] and results["machine"]["cores"] and results["versions"]["torch"]


def test_the_results_file_agrees_with_itself(results, rows):
    """Everything in it follows from the answers that it keeps, one letter a row."""
    kinds = [one.kind for one in TEXTS]
    for arm in results["arms"]:
        answers = {name: script.read(letters) for name, letters in arm["answers"].items()}
        assert {name: script.written(labels) for name, labels in answers.items()} == arm["answers"]
        assert {"arm": arm["arm"], **script.summary(SARCASM, rows, kinds, answers), "answers": arm["answers"]} == arm
        for way in WAYS:
            for split in ("by_wanted", "by_kind"):
                parts = [part[way] for part in arm[split].values() if part]
                assert sum(part["n"] for part in parts) == 100
                assert sum(part["flipped"] for part in parts) == arm[way]["flipped"]


def test_the_arm_that_reads_no_orders_answers_today_as_recorded(results, rows, bundled):
    arm = next(arm for arm in results["arms"] if arm["arm"].startswith("TF-IDF"))
    ask = script.arms(None, bundled, "none")[arm["arm"]]
    plain = ask(rows)
    assert script.written(plain) == arm["answers"]["plain"]
    for way, changed in script.variants(SARCASM, rows, TEXTS, plain).items():
        assert script.written(ask(changed)) == arm["answers"][way]
