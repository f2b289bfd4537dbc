"""Results on a drive that outlives the session."""

import shutil

import pytest
from small import TWO_EPOCHS, some_rows

from llmcourse import CourseError
from llmcourse.experiment import Experiment
from llmcourse.experiment.backup import Backup
from llmcourse.training import finetuning

ONE_EPOCH = TWO_EPOCHS.changed(epochs=1)


def an_experiment(loaded, folder, **options):
    return Experiment(some_rows(n_test=10), loaded, folder, quiet=True, **options)


def test_what_a_session_leaves_on_a_drive_comes_back(make_tiny, tmp_path):
    """Training is stopped, the machine is lost, and another goes on with nothing but the backup: the same adapter, no
    step lost."""
    drive = tmp_path / "drive"

    lost = an_experiment(make_tiny(1), tmp_path / "lost", backup=drive)
    lost.majority()
    whole = an_experiment(make_tiny(1), tmp_path / "whole")
    expected, _ = whole.train(ONE_EPOCH.changed(epochs=3))
    real = finetuning.finetune

    def broken_at(last):
        def broken(loaded, task, rows, recipe, folder, resume, progress):
            def until(step, steps, loss):
                progress(step, steps, loss)
                if step == last:
                    raise KeyboardInterrupt

            return real(loaded, task, rows, recipe, folder, resume, until)

        return broken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "finetune", broken_at(9))
        with pytest.raises(KeyboardInterrupt):
            lost.train(ONE_EPOCH.changed(epochs=3))
    assert [p.name for p in sorted(drive.glob("training/*/*"))] == ["checkpoint-6", "checkpoint-8"]

    # begun anew instead, the checkpoints of the run that was given up do not come back
    other = shutil.copytree(drive, tmp_path / "other")
    anew = an_experiment(make_tiny(1), tmp_path / "anew", backup=other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "finetune", broken_at(3))
        with pytest.raises(KeyboardInterrupt):
            anew.train(ONE_EPOCH.changed(epochs=3), resume=False)
    assert [p.name for p in sorted(other.glob("training/*/*"))] == ["checkpoint-2"]

    new = an_experiment(make_tiny(1), tmp_path / "new", backup=drive)
    assert [arm.name for arm in new.find_all()] == ["majority"]
    folder, training = new.train(ONE_EPOCH.changed(epochs=3))
    assert training["resumed_from"] == 8
    weights = "adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (expected / weights).read_bytes()
    assert (drive / "adapters" / folder.name / weights).is_file() and not list(drive.glob("training/*/*"))


def test_a_drive_that_is_not_mounted_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_BACKUP", str(tmp_path / "nowhere" / "runs"))
    with pytest.raises(CourseError, match="mount the Drive first"):
        an_experiment(tiny, tmp_path)
    monkeypatch.delenv("LLMCOURSE_BACKUP")
    assert Backup(tmp_path).restore() == []
