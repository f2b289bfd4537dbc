"""The sweep behind notebook 02: its script on a tiny model, the prompts it builds, and its results file."""

import json
from collections import Counter
from dataclasses import asdict, replace

import prompting
import pytest

from llmcourse import data
from llmcourse.data.tasks import SARCASM, SENTIMENT
from llmcourse.experiment import metrics
from llmcourse.lessons import recorded
from llmcourse.lessons.prompting import EXAMPLES, Design, split
from llmcourse.predict import Prompt, few_shots, score

FEW = (("reference", "reference", Design()), ("number of examples", "0", Design(shots=0)))


@pytest.fixture(scope="module")
def results():
    return recorded.read("prompting")


@pytest.fixture(scope="module")
def sentiment():
    return data.load(SENTIMENT, "bundled")


@pytest.fixture
def few_rows(sentiment, bundled, monkeypatch):
    """Both tasks with 12 test rows and 6 training rows to choose on."""

    def some(task, train):
        examples, choosing = split(task, train)
        return examples, choosing[:6]

    monkeypatch.setattr(prompting, "split", some)
    return [replace(rows, test=rows.test.select(range(0, 120, 10))) for rows in (sentiment, bundled)]


def silent(*args, **kwargs):
    pass


# -- the script ---------------------------------------------------------------------------------------------------


def test_a_sweep_is_kept_and_continued(tiny, few_rows, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    whole = prompting.sweep(tiny, *few_rows, out, FEW, say=silent)
    assert json.loads(out.read_text()) == whole and whole["rows"] == 12
    assert [(p["on"], p["lever"], p["way"]) for p in whole["points"][:4]] == [
        ("choosing", lever, way) for lever in ("reference", "number of examples") for way in ("scored", "calibrated")
    ]
    assert [p["p"] for p in whole["points"] if p["lever"] == "reference" and p["way"] == "scored"] == [1, 1, 1]

    asked = []
    ask = prompting.ask
    monkeypatch.setattr(prompting, "ask", lambda *args: asked.append(args) or ask(*args))
    lost = [p for p in whole["points"] if (p["on"], p["lever"]) != ("test", "number of examples")]
    out.write_text(json.dumps({**whole, "points": lost}))  # as after an interruption
    again = prompting.sweep(tiny, *few_rows, out, FEW, say=silent)
    assert len(asked) == 1 and again["chosen"] == whole["chosen"]


def test_another_model_begins_anew(make_tiny, few_rows, tmp_path):
    out = tmp_path / "out.json"
    for seed in (0, 1):
        whole = prompting.sweep(make_tiny(seed), *few_rows, out, FEW[:1], say=silent)
    assert whole["model"] == make_tiny(1).base
    assert sum((p["on"], p["lever"]) == ("test", "reference") for p in whole["points"]) == 3  # three ways


def test_one_question_gives_what_two_would(tiny, sentiment):
    prompt = Prompt(SENTIMENT, few_shots(SENTIMENT, list(sentiment.train), 2))
    rows = list(sentiment.test)[:12]
    answers = prompting.ask(tiny, prompt, rows, generated=False)
    assert answers == {
        "scored": score(tiny, prompt, rows).labels,
        "calibrated": score(tiny, prompt, rows, calibrate=True).labels,
    }


def test_the_best_change_of_each_lever_is_combined():
    def point(lever, accuracy, **changes):
        design = asdict(Design(**changes))
        return {"on": "choosing", "way": "scored", "lever": lever, "accuracy": accuracy, "design": design}

    points = [
        point("reference", 0.5),
        point("number of examples", 0.6, shots=6, draw=2),
        point("order of examples", 0.55, order=3),  # loses against six examples
        point("label words", 0.7, words="numbers"),
        point("label words", 0.6, words="capitalised"),
        point("separators", 0.4, separators="none"),  # worse than the reference
        point("labels of examples", 0.9, wrong_labels=True),  # no advice
        {**point("chat format", 0.9, chat=True), "way": "calibrated"},
        {**point("reference", 0.6), "way": "calibrated"},
    ]
    assert prompting.combine(points, "calibrated") == Design(chat=True)
    assert prompting.combine(points, "scored") == Design(shots=6, draw=2, words="numbers")


# -- the prompts --------------------------------------------------------------------------------------------------


def test_the_reference_is_the_courses_own_layout(sentiment):
    examples, choosing = split(SENTIMENT, sentiment.train)
    assert len(examples) == EXAMPLES and len(choosing) == len(sentiment.train) - EXAMPLES
    assert not {row["text"] for row in examples} & {row["text"] for row in choosing}
    reference, plain = Design().prompt(SENTIMENT, examples), Prompt(SENTIMENT, few_shots(SENTIMENT, examples, 3))
    row = sentiment.test[0]
    assert reference.text(row) == plain.text(row) and reference.shots == plain.shots


def test_designs_differ_from_the_reference_in_one_thing():
    levers = Counter()
    for lever, _, design in prompting.designs():
        changed = {name for name, value in asdict(design).items() if value != asdict(prompting.REFERENCE)[name]}
        levers[lever] += 1
        if lever not in ("reference", "the talk's prompt"):
            assert changed in ({"shots"}, {"shots", "draw"}) if lever == "number of examples" else len(changed) == 1
    assert levers["reference"] == 1 and levers["number of examples"] == 13 and levers["order of examples"] == 5


@pytest.mark.parametrize("task", [SENTIMENT, SARCASM], ids=lambda task: task.name)
def test_every_design_is_another_prompt(task):
    rows = data.load(task, "bundled")
    examples, _ = split(task, rows.train)
    made = [design.prompt(task, examples) for _, _, design in prompting.designs()]
    texts = {f"{prompt.chat} {prompt.messages(rows.test[0])}" for prompt in made}
    # sarcasm's label words and the labels of two examples leave less to change
    assert len(texts) == len(made) if task is SENTIMENT else len(texts) >= len(made) - 3


def test_the_talks_prompt_word_for_word(sentiment):
    design = next(design for lever, _, design in prompting.designs() if lever == "the talk's prompt")
    prompt = design.prompt(SENTIMENT, split(SENTIMENT, sentiment.train)[0])
    assert prompt.text({"text": "I think the vacation is okay."}) == (
        "Classify the text into neutral, negative or positive.\nText: I think the vacation is okay.\nSentiment:"
    )


def test_separators_and_wrong_labels(sentiment):
    examples, _ = split(SENTIMENT, sentiment.train)
    for separators, gaps in (("blank lines", True), ("none", False)):
        text = Design(separators=separators).prompt(SENTIMENT, examples).text(sentiment.test[0])
        assert "####" not in text and ("\n\n" in text) == gaps and "Here are some examples:" in text
    assert Design(instruction="none", separators="none").prompt(SENTIMENT, examples).head().startswith("Here are")
    right, wrong = (Design(wrong_labels=wrong).prompt(SENTIMENT, examples).shots for wrong in (False, True))
    assert all(a["text"] == b["text"] and a["label"] != b["label"] for a, b in zip(right, wrong, strict=True))


# -- the results file ---------------------------------------------------------------------------------------------


def test_the_results_file_is_about_these_rows(results, sentiment, bundled):
    choosing = split(SENTIMENT, sentiment.train)[1]
    assert results["ids"] == {
        "test": data.rows_id(SENTIMENT, sentiment.test),
        "choosing": data.rows_id(SENTIMENT, choosing),
        "sarcasm": data.rows_id(SARCASM, bundled.test),
    }
    assert results["rows"] == len(sentiment.test) == 300 and results["gold"]["test"].count("1") == 100
    assert results["date"] and results["machine"]["cores"] and results["versions"]["torch"]


def test_the_results_file_is_whole(results):
    for on in ("choosing", "test"):
        points = [p for p in results["points"] if p["on"] == on and p["lever"] != "chosen"]
        there = {(p["lever"], p["value"], json.dumps(p["design"]), p["way"]) for p in points}
        assert {
            (lever, value, json.dumps(asdict(design)), way)
            for lever, value, design in prompting.designs()
            for way in ("scored", "calibrated")
        } <= there and len(there) == len(points)
    best = prompting.best_on(results["points"], "choosing")
    assert results["chosen"]["design"] == best["design"] and results["chosen"]["way"] == best["way"]


def test_the_results_file_agrees_with_itself(results, bundled):
    groups = [row["parent_comment"] for row in data.in_order(SARCASM, bundled.test)]
    tasks = {"test": SENTIMENT, "choosing": SENTIMENT, "sarcasm": SARCASM}
    references = {p["on"]: p for p in results["points"] if p["lever"] == "reference" and p["way"] == "scored"}
    for point in results["points"]:
        on, labels = point["on"], prompting.labels_of(point)
        gold = [int(label) for label in results["gold"][on]]
        score = metrics.evaluate(gold, labels, tasks[on].labels, groups if on == "sarcasm" else None)
        assert (point["accuracy"], point["invalid"]) == (score.accuracy, score.invalid)
        assert point["accuracy_ci95"] == [round(bound, 4) for bound in score.accuracy_ci95]
        assert sum(point["answers"].values()) + point["invalid"] == len(labels) == len(gold)
        assert point["p"] == prompting.p_of(point, references[on], results["gold"], groups)
