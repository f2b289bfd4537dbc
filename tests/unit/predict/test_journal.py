"""Interrupted evaluations go on; what a session leaves on a Drive comes back."""

import json
import shutil

import pytest

from llmcourse import CourseError, predict
from llmcourse.data import Rows
from llmcourse.data.tasks import SARCASM
from llmcourse.experiment import Experiment
from llmcourse.experiment.backup import Backup
from llmcourse.predict import engine
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import Prompt
from llmcourse.training import finetuning
from llmcourse.training.recipes import Recipe

RECIPE = Recipe(name="test", r=2, alpha=4, epochs=1, batch_rows=4, learning_rate=1e-2, save_steps=2, max_length=160)


def rows(start, count):
    return [
        {"parent_comment": f"Parent {i}", "comment": f"Reply {i}. " * (1 + i % 9), "label": i % 2, "row": i}
        for i in range(start, start + count)
    ]


class Killed(BaseException):
    pass


def stop_after(batches: int):
    def progress(done, total, count=[0]):  # noqa: B006
        count[0] += 1
        if count[0] == batches:
            raise Killed

    return progress


@pytest.mark.parametrize("way", ["generate", "score", "calibrate"])
def test_an_interrupted_evaluation_asks_only_what_is_missing(way, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "TOKENS_AT_ONCE", 120)

    def ask(journal, progress=None):
        if way == "generate":
            return predict.generate(tiny, Prompt(SARCASM), rows(0, 12), progress, journal)
        return predict.score(tiny, Prompt(SARCASM), rows(0, 12), way == "calibrate", progress, journal)

    whole = ask(None)
    with pytest.raises(Killed):
        ask(Journal(tmp_path / "log"), stop_after(3))
    kept = Journal(tmp_path / "log")
    known = set(kept.answers)
    assert 3 <= len(known) < 12 and kept.seconds > 0
    asked = []
    real = engine.batches
    monkeypatch.setattr(
        engine, "batches", lambda loaded, prompts, todo: asked.extend(todo) or real(loaded, prompts, todo)
    )
    resumed = ask(kept)
    assert asked and not known & set(asked)
    assert type(resumed) is type(whole) and resumed.labels == whole.labels
    if isinstance(whole, predict.Generated):
        assert resumed.texts == whole.texts
    else:
        assert resumed.bias == pytest.approx(whole.bias)
        for one, other in zip(resumed.logprobs, whole.logprobs, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
    assert resumed.seconds > kept.seconds * 0.99


def test_a_line_cut_short_is_written_over(tmp_path):
    journal = Journal(tmp_path / "log")
    journal.add({0: "a", 2: None}, 1.5)
    journal.add({1: [0.25, -1.0]}, 0.5)
    whole = (tmp_path / "log").read_bytes()
    for damage in (
        b'{"seconds": 1, "answers": {"3": "x"}}',
        b'{"seconds": 1}\n',
        b"\xff\xfe\n",
        b'{"seconds": 1, "ans',
    ):
        (tmp_path / "log").write_bytes(whole + damage)
        again = Journal(tmp_path / "log")
        assert again.answers == {0: "a", 2: None, 1: [0.25, -1.0]} and again.seconds == 2.0
        again.add({3: "d"}, 1.0)
        assert Journal(tmp_path / "log").answers[3] == "d"
    again.remove()
    assert not (tmp_path / "log").exists() and Journal(tmp_path / "log").answers == {}


def experiment(loaded, folder, **options):
    side = Rows(SARCASM, "made", rows(0, 16), rows(100, 10), {"read": 26})
    return Experiment(side, loaded, folder, quiet=True, **options)


def test_an_arm_goes_on_and_leaves_no_journal(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "TOKENS_AT_ONCE", 120)
    first = experiment(tiny, tmp_path)
    real = Journal.add

    def add(self, answers, seconds, count=[0]):  # noqa: B006
        real(self, answers, seconds)
        count[0] += 1
        if count[0] == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", add)
        with pytest.raises(Killed):
            first.scored(first.prompt(2))
    partial = list((tmp_path / "arms").glob("*.partial.jsonl"))
    assert len(partial) == 1
    arm = experiment(tiny, tmp_path).scored(first.prompt(2))
    assert arm.score.n == 10 and not list((tmp_path / "arms").glob("*.partial.jsonl"))
    answered = json.loads((arm.folder / "arm.json").read_text())["answered"]
    assert (
        answered["machine"]["dtype"] == "float32"
        and "torch" in answered["versions"]
        and arm.as_dict()["answered"] == answered
    )


def test_what_a_session_leaves_on_a_drive_comes_back(make_tiny, tmp_path):
    """Training is stopped, the machine is lost, and another goes on with nothing but the backup: the same adapter, no step lost."""
    drive = tmp_path / "drive"

    lost = experiment(make_tiny(1), tmp_path / "lost", backup=drive)
    lost.majority()
    whole = experiment(make_tiny(1), tmp_path / "whole")
    expected, _ = whole.train(RECIPE.changed(epochs=3))
    real = finetuning.finetune

    def broken_at(last):
        def broken(loaded, task, rows, recipe, folder, resume, progress):
            def until(step, steps, loss):
                progress(step, steps, loss)
                if step == last:
                    raise Killed

            return real(loaded, task, rows, recipe, folder, resume, until)

        return broken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "finetune", broken_at(9))
        with pytest.raises(Killed):
            lost.train(RECIPE.changed(epochs=3))
    assert [p.name for p in sorted(drive.glob("training/*/*"))] == ["checkpoint-6", "checkpoint-8"]

    # begun anew instead, the checkpoints of the run that was given up do not come back
    other = shutil.copytree(drive, tmp_path / "other")
    anew = experiment(make_tiny(1), tmp_path / "anew", backup=other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "finetune", broken_at(3))
        with pytest.raises(Killed):
            anew.train(RECIPE.changed(epochs=3), resume=False)
    assert [p.name for p in sorted(other.glob("training/*/*"))] == ["checkpoint-2"]

    new = experiment(make_tiny(1), tmp_path / "new", backup=drive)
    assert [arm.name for arm in new.find_all()] == ["majority"]
    folder, training = new.train(RECIPE.changed(epochs=3))
    assert training["resumed_from"] == 8
    weights = "adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (expected / weights).read_bytes()
    assert (drive / "adapters" / folder.name / weights).is_file() and not list(drive.glob("training/*/*"))


def test_a_drive_that_is_not_mounted_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_BACKUP", str(tmp_path / "nowhere" / "runs"))
    with pytest.raises(CourseError, match="mount the Drive first"):
        experiment(tiny, tmp_path)
    monkeypatch.delenv("LLMCOURSE_BACKUP")
    assert Backup(tmp_path).restore() == []
