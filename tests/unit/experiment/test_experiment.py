"""Arms are kept, found again, and compared on the same rows; the report shows what was measured and nothing foreign."""

import csv
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from datasets import Dataset
from small import ONE_EPOCH, some_rows

from llmcourse import CourseError, data, experiment, figures, models
from llmcourse._base import files
from llmcourse.data import Rows
from llmcourse.data.tasks import SARCASM, TALK_EXAMPLES
from llmcourse.experiment import Experiment, questions, report, runner
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.setup import gears


@pytest.fixture
def study(tiny, tmp_path):
    return Experiment(some_rows(), tiny, tmp_path / "runs", quiet=True)


@pytest.fixture
def no_work(monkeypatch):
    """From here on, asking or training a model is an error."""

    def start():
        for name in ("generate", "score", "put_adapter"):
            monkeypatch.setattr(questions, name, lambda *_, **__: pytest.fail("work was done again"))
        monkeypatch.setattr(runner.finetuning, "finetune", lambda *_, **__: pytest.fail("trained again"))

    return start


def test_the_whole_comparison(study, no_work):
    arms = experiment.run_demo(study, ONE_EPOCH)
    assert [arm.kind for arm in arms] == ["baseline"] * 3 + ["prompted"] * 6 + ["baseline", "finetuned"]
    assert all(shot in TALK_EXAMPLES for shot in arms[4].spec["prompt"]["shots"])
    results = study.results(1.5)
    json.dumps(results, allow_nan=False)
    assert set(results["arms"][0]) >= {
        "name",
        "n",
        "accuracy",
        "accuracy_ci95",
        "macro_f1",
        "invalid",
        "seconds_per_row",
    }
    assert len(results["tests"]) == 11 * 10 // 2 and set(results["tests"][0]) == {"a", "b", "p"}
    assert {"data", "model", "recipe", "machine", "versions", "seed", "peak_memory_gib"} <= set(results)
    assert results["recipe"]["r"] == 2 and results["arms"][-1]["trained_parameters"] > 0
    assert all(arm.example for arm in arms)
    assert not study.loaded.has_adapter

    for arm in arms:
        with open(arm.folder / "predictions.csv", newline="") as file:
            table = list(csv.DictReader(file))
        assert [line["gold"] for line in table] == [SARCASM.labels[label] for label in study.gold()]
        right = sum(line["gold"] == line["predicted"] for line in table)
        assert right / 8 == arm.score.accuracy

    # again, in another process's eyes: everything is found, nothing is asked or trained
    no_work()
    again = Experiment(study.rows, study.loaded, study.folder, quiet=True)
    found = experiment.run_demo(again, ONE_EPOCH)
    assert [arm.as_dict() for arm in found] == [arm.as_dict() for arm in arms]
    assert again.results(1.5)["tests"] == results["tests"]
    third = Experiment(study.rows, study.loaded, study.folder, quiet=True)
    assert {arm.name for arm in third.find_all()} == {arm.name for arm in arms}


def test_a_changed_number_adds_an_arm(study):
    first = study.finetuned(ONE_EPOCH)
    second = study.finetuned(ONE_EPOCH.changed(r=4), name="r=4")
    third = study.generated(study.prompt(2))
    fourth = study.generated(study.prompt(4))
    assert study.arms == [first, second, third, fourth]
    assert len({arm.folder for arm in study.arms}) == 4 and first.adapter != second.adapter
    study.finetuned(ONE_EPOCH)
    assert len(study.arms) == 4


def test_a_changed_value_in_notebook_05_adds_an_arm_beside_the_old_one(tiny, tmp_path):
    """The notebook's own cells, on a tiny model: run, one value changed, run again."""
    study = Experiment(some_rows(n_train=8, n_test=2), tiny, tmp_path / "runs", quiet=True)
    path = Path(__file__).parents[3] / "notebooks" / "05_sarcasm_demo.ipynb"
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]

    def cell(text):
        (found,) = [source for source in sources if text in source]
        return found

    names = {"experiment": study, "SARCASM": SARCASM, "model": study.loaded, "rows": study.rows, "recipe": ONE_EPOCH}
    names |= {"gear": gears.GEARS["cpu"], "models": models, "data": data, "Prompt": Prompt}

    def run(*cells):
        for source in cells:
            exec(source, names)
        return [arm.name for arm in study.arms]

    ask = cell("experiment.prompt(k=4)"), cell("experiment.generated(prompt")
    train = cell("experiment.finetuned(recipe)\n")
    before = run(*ask, train)
    assert before[-1] == "LoRA r=2 (test)" and "4-shot, generated" in before
    names["recipe"] = ONE_EPOCH.changed(r=16)
    assert run(train) == [*before, "LoRA r=16 (test)"]
    changed = [source.replace("k=4", "k=2") for source in ask]
    after = run(*changed)
    assert after[: len(before) + 1] == [*before, "LoRA r=16 (test)"]
    assert {"2-shot, generated"} <= set(after[len(before) + 1 :])
    assert run(*ask, train) == after  # what was asked or trained is found
    shown = figures.waterfall([arm.as_dict() for arm in study.arms]).alt
    assert all(name in shown for name in after)


def test_drawing_with_another_seed_finds_the_same_answers(tiny, tmp_path, bundled):
    """The bundled split is the same for every seed; so are its kept answers, whatever order the rows come in."""
    shuffled = Rows(SARCASM, "bundled", bundled.train.shuffle(seed=1), bundled.test.shuffle(seed=1), bundled.report)
    scores = [Experiment(rows, tiny, tmp_path, quiet=True).bag_of_words().score for rows in (bundled, shuffled)]
    assert scores[0] == scores[1] and len(list((tmp_path / "arms").glob("*/arm.json"))) == 1


def test_leaks_are_refused(study, make_tiny, tmp_path):
    rows = some_rows()
    with pytest.raises(CourseError, match="The training rows and the test rows share 4 parent_comment"):
        Experiment(Rows(SARCASM, "x", rows.test, rows.test, rows.report), study.loaded, tmp_path)
    leaky = Prompt(SARCASM, shots=few_shots(SARCASM, list(rows.test), 2))
    with pytest.raises(CourseError, match="The prompt's examples and the test rows share"):
        study.scored(leaky)
    folder, _ = study.train(ONE_EPOCH)
    other = Experiment(Rows(SARCASM, "x", rows.test, rows.train, rows.report), study.loaded, tmp_path / "b", quiet=True)
    with pytest.raises(CourseError, match="was trained and the test rows share 8"):
        other.adapter_arm(folder)
    assert study.adapter_arm(folder).kind == "finetuned" and not study.loaded.has_adapter


def test_arms_with_the_same_name_can_be_told_apart(study):
    study.finetuned(ONE_EPOCH)
    study.finetuned(ONE_EPOCH.changed(learning_rate=1e-3))
    names = [arm.name for arm in study.arms]
    assert len(set(names)) == 2 and names[1].startswith(names[0] + " #")


def test_arms_are_bound_to_rows_and_model(make_tiny, tmp_path):
    folders = {
        Experiment(rows, loaded, tmp_path, quiet=True).scored(Experiment(rows, loaded, tmp_path).prompt(0)).folder
        for rows in (some_rows(), some_rows(mark="!"))
        for loaded in (make_tiny(0), make_tiny(1))
    }
    assert len(folders) == 4


def test_same_seed_same_predictions(make_tiny, tmp_path):
    runs = []
    for name in ("a", "b"):
        study = Experiment(some_rows(), make_tiny(5), tmp_path / name, quiet=True)
        arm = study.finetuned(ONE_EPOCH)
        runs.append(
            ((arm.folder / "predictions.csv").read_bytes(), (arm.adapter / "adapter_model.safetensors").read_bytes())
        )
    assert runs[0] == runs[1]


def test_adapters_are_bound_to_their_base_and_hold_no_path(make_tiny, tmp_path):
    study = Experiment(some_rows(), make_tiny(0), tmp_path / "runs", quiet=True)
    folder, _ = study.train(ONE_EPOCH)
    text = "".join((folder / name).read_text() for name in ("adapter_config.json", "llmcourse.json", "README.md"))
    assert str(tmp_path) not in text and ".cache" not in text and "/root" not in text
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"].startswith(
        "tiny@sha256:"
    )
    assert not list(folder.glob("*.bin")) and not list(folder.glob("*.pt"))
    with pytest.raises(CourseError, match="belongs to another base model: it was trained on tiny"):
        models.put_adapter(make_tiny(1), folder)
    (folder / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CourseError, match=r"is damaged: adapter_model.safetensors has changed. Train it again"):
        models.put_adapter(make_tiny(0), folder)
    (folder / files.SEAL).unlink()
    with pytest.raises(CourseError, match="cannot be loaded"):
        models.put_adapter(make_tiny(0), folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(CourseError, match=r"adapter_model.safetensors is missing"):
        models.put_adapter(make_tiny(0), folder)


def test_the_example_must_not_be_trained_on(tiny, tmp_path):
    rows = some_rows()
    leaked = Dataset.from_list([*rows.train, {"row": 99, **SARCASM.example}])
    with pytest.raises(CourseError, match="example row is among the training rows"):
        Experiment(Rows(SARCASM, "made.csv", leaked, rows.test, rows.report), tiny, tmp_path)


def test_an_adapter_is_asked_as_it_was_trained(study, tmp_path):
    """Under the same label words another prompt would be another question, and other groups would hide a leak."""
    folder, _ = study.train(ONE_EPOCH)
    for change in ({"answer_name": "Verdict"}, {"group_column": "comment"}):
        rows = some_rows()
        other = Rows(replace(SARCASM, **change), rows.source, rows.train, rows.test, rows.report)
        with pytest.raises(
            CourseError, match="was trained with another prompt or other groups than the task 'sarcasm'"
        ):
            Experiment(other, study.loaded, tmp_path / "other", quiet=True).adapter_arm(folder)


def test_arms_that_are_being_written_are_left_alone(study, tmp_path):
    """`compare` took a half-written folder for a damaged arm, and pulled it away from whoever wrote it."""
    study.majority()
    half = study.folder / "arms" / ".abc.xyz.aside"
    half.mkdir()
    (half / "arm.json").write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Experiment(some_rows(), study.loaded, study.folder, quiet=True).find_all()
    assert len(found) == 1 and half.is_dir()


LONG = "and so on " * 40


def with_long_rows():
    """Sarcasm rows, of which 3 of 16 training rows and 5 of 8 test rows are long."""
    rows = some_rows()
    sides = ((rows.train, 3), (rows.test, 5))
    train, test = (
        Dataset.from_list([{**row, "comment": row["comment"] + LONG * (i < n)} for i, row in enumerate(side)])
        for side, n in sides
    )
    return Rows(SARCASM, "long.csv", train, test, rows.report)


def test_rows_that_are_cut_are_counted_and_noted(tiny, tmp_path, no_work):
    study = Experiment(with_long_rows(), tiny, tmp_path / "runs", quiet=True)
    recipe = ONE_EPOCH.changed(max_length=80)
    trained = study.finetuned(recipe)
    card = models.read_card(trained.adapter)
    assert (card["training"]["cut_rows"], card["training"]["max_length"]) == (3, 80)
    assert "To fit max_length=80 tokens, 3 of 16 training rows were cut" in (trained.adapter / "README.md").read_text()
    asked = study.adapter_arm(trained.adapter, "scored")
    assert trained.predictions.cut_rows == asked.predictions.cut_rows == 5
    cut = "To fit max_length=80 tokens, 5 of 8 test rows were cut at the end. Training cuts its rows in the same way."
    assert trained.notes[0].startswith("To fit max_length=80 tokens, 3 of 16 training rows were cut at the end.")
    assert trained.notes[1:] == asked.notes == [cut]
    assert study.scored(study.prompt(0)).notes == []  # the base model reads whole rows
    page = report.render(study, study.results())
    assert page.count(cut) == 2 and page.count("3 of 16 training rows") == 1
    # kept arms say so too
    no_work()
    again = Experiment(study.rows, tiny, study.folder, quiet=True)
    assert again.finetuned(recipe).notes == trained.notes
    assert {arm.name: arm.notes for arm in again.find_all()} == {arm.name: arm.notes for arm in study.arms}


def test_answers_from_before_test_rows_were_cut_are_not_found(tiny, tmp_path):
    """They answered other texts. What does not depend on it is found as before: other arms, and trained adapters."""
    study = Experiment(with_long_rows(), tiny, tmp_path / "runs", quiet=True)
    recipe = ONE_EPOCH.changed(max_length=80)
    trained = study.finetuned(recipe)
    asked = study.adapter_arm(trained.adapter)
    prompted, majority = study.generated(study.prompt(2)), study.majority()
    for arm in (trained, asked):
        old = json.loads(json.dumps(arm.spec)) | {"format": 2}
        del old["prompt"]["max_length"]
        study.store.keep(replace(arm, name=f"old {arm.name}", spec=old))
        shutil.rmtree(study.store.folder_of(arm.spec))
    assert all(arm.spec["format"] == 2 for arm in (prompted, majority)) and "max_length" not in prompted.spec["prompt"]
    again = Experiment(study.rows, tiny, study.folder, quiet=True)
    assert {arm.name for arm in again.find_all()} == {prompted.name, majority.name}
    assert again.finetuned(recipe).adapter == trained.adapter and again.adapter_arm(trained.adapter).name == asked.name
    assert len(list((study.folder / "adapters").glob("[!.]*"))) == 1
