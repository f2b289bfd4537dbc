"""An adapter whose base model is a local folder: it is used once the folder is named, whatever its name is here."""

import csv
import shutil
from pathlib import Path

import architectures
import pytest
from commands import rows_file, run

from llmcourse import CourseError, models, predict
from llmcourse._base.errors import CourseWarning
from llmcourse.models import adapters

SETTINGS = [part for value in ("r=2", "epochs=1", "batch_rows=4", "upper_layers=1") for part in ("--set", value)]


@pytest.fixture(scope="module")
def made(tokenizer, tmp_path_factory):
    """A folder with a base in `theirs`, an adapter of it in `mine`, and another base in `other`."""
    folder = tmp_path_factory.mktemp("local")
    for seed, name in enumerate(("theirs", "other")):
        architectures.save("qwen3", tokenizer, folder / name, rms_norm_eps=1e-5 * (1 + seed))
    rows = rows_file(folder / "rows.csv")
    options = ("--data", rows, "--runs", folder / "runs", *SETTINGS)
    assert run("finetune", *options, "--model", folder / "theirs", "--out", folder / "mine") == 0
    yield folder
    models.free()


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


PREDICT = ("predict", "--file", "rows.csv", "--adapter", "mine")
EVALUATE = ("evaluate", "--data", "rows.csv", "--adapter", "mine")
EXPORT = ("export", "--adapter", "mine", "--out", "merged", "--rows", 0)
COMMANDS = pytest.mark.parametrize("command", [PREDICT, EVALUATE, EXPORT], ids=lambda command: command[0])


@COMMANDS
def test_without_the_folder_a_command_says_what_to_type(command, here, capsys):
    assert run(*command) == 2
    error = capsys.readouterr().err
    assert "The adapter in mine was trained on a local folder. Say where it is: --model PATH/theirs" in error


@COMMANDS
@pytest.mark.parametrize("model", ["./other", "smollm2-135m"])
def test_another_base_is_refused_before_a_weight_is_loaded(command, model, here, capsys, monkeypatch):
    monkeypatch.setattr(models.loading, "from_hub", None)
    assert run(*command, "--model", model) == 2
    error = capsys.readouterr().err
    assert "The adapter in mine belongs to another base model: it was trained on theirs@sha256:" in error
    assert "Say where it is: --model PATH/theirs" in error


def test_the_folder_may_have_another_name(here, capsys):
    shutil.copytree("theirs", "elsewhere/renamed")
    for place in ("./theirs", "elsewhere/renamed"):
        assert run(*PREDICT, "--model", place, "--out", f"{Path(place).name}.csv") == 0
        assert run(*EVALUATE, "--model", place) == 0
        assert run(*EXPORT[:-3], f"merged-{Path(place).name}", *EXPORT[-2:], "--model", place) == 0
    assert Path("theirs.csv").read_text() == Path("renamed.csv").read_text()
    assert predict.predict_file("mine", "rows.csv", "python.csv", model="elsewhere/renamed") == 24
    assert Path("theirs.csv").read_text() == Path("python.csv").read_text()
    loaded = models.load(models.base_of("mine", "./elsewhere/renamed"))
    models.put_adapter(loaded, "mine")
    assert "--model PATH/theirs" in Path("mine/README.md").read_text()


def test_a_stopped_job_resumes_whatever_the_folder_is_called(here, capsys, monkeypatch):
    from llmcourse.predict import judges, shards

    monkeypatch.setattr(shards, "SHARD_ROWS", 10)
    shutil.copytree("theirs", "moved/again")
    assert run(*PREDICT, "--model", "./theirs", "--out", "whole.csv") == 0
    ask, asked = judges.before_and_after, []

    def stop(*args, **kwargs):
        if asked:
            raise KeyboardInterrupt
        asked.append(1)
        return ask(*args, **kwargs)

    monkeypatch.setattr(judges, "before_and_after", stop)
    assert run(*PREDICT, "--model", "./theirs", "--out", "out.csv") == 130
    monkeypatch.setattr(judges, "before_and_after", ask)
    capsys.readouterr()
    assert run(*PREDICT, "--model", "moved/again", "--out", "out.csv") == 0
    assert "Going on after row 10 of 24" in capsys.readouterr().out
    assert Path("out.csv").read_text() == Path("whole.csv").read_text()


def test_python_says_the_same(here):
    with pytest.raises(CourseError, match=r"Say where it is: .*models\.load\('PATH/theirs'\)"):
        models.base_of("mine")
    with pytest.raises(CourseError, match=r"belongs to another base model"):
        models.base_of("mine", "./other")
    with pytest.raises(CourseError, match=r"belongs to another base model.*models\.load\('PATH/theirs'\)"):
        models.put_adapter(models.load("./other"), "mine")
    assert models.base_of(models.shipped_adapter("sarcasm")) == models.EMBEDDED
    loaded = models.load("./theirs")
    loaded.base = {**loaded.base, "weights": "nf4"}
    with pytest.warns(CourseWarning, match=r"trained on weights in float32, and here they are in nf4"):
        models.put_adapter(loaded, "mine")
    models.free()


def test_a_repository_is_loaded_at_the_commit_of_the_card(tmp_path):
    adapter = tmp_path / "adapter"
    shutil.copytree(models.shipped_adapter("sarcasm"), adapter)
    (adapter / "complete.json").unlink()
    path = adapter / adapters.ADAPTER_MARK
    card = models.read_card(adapter)
    base = {"name": "someone/olmo", "commit": "c" * 40, "weights": "float32"}
    adapters.files.write_json(path, {**card, "base": base})
    at_commit = f"someone/olmo@{'c' * 40}"
    assert models.base_of(adapter) == models.base_of(adapter, "someone/olmo") == at_commit
    assert models.base_of(adapter, "someone/olmo@main") == "someone/olmo@main"  # `put_adapter` compares the commits


def test_a_plain_adapter_of_a_local_folder_and_a_task_of_ones_own(here, capsys):
    """`predict` takes what `evaluate` takes: --labels, --text-column and --instruction."""
    shutil.copytree("mine", "plain")
    for name in (adapters.ADAPTER_MARK, "complete.json"):
        (Path("plain") / name).unlink()
    with open("mails.csv", "w", newline="") as file:
        csv.writer(file).writerows([["subject", "body"], *([f"s {i}", f"mail {i}"] for i in range(5))])
    own = ("--labels", "no,yes", "--text-column", "subject", "--text-column", "body")
    command = ("predict", "--adapter", "plain", "--model", "./theirs", *own)
    assert run(*command, "--file", "mails.csv", "--out", "mails-out.csv") == 0
    assert r"the training prompt of the task 'mails', 'subject: {subject}\nbody: {body}\nCategory:'" in (
        capsys.readouterr().err
    )
    lines = list(csv.DictReader(Path("mails-out.csv").read_text().splitlines()))
    assert [line["body"] for line in lines] == [f"mail {i}" for i in range(5)]
    assert {line["after"] for line in lines} <= {"no", "yes"}
    assert run(*command, "mail 3", "--parent", "s 3") == 0
    assert capsys.readouterr().out.splitlines()[1].split(":")[1].split()[0] == lines[3]["after"]
    assert run(*command[:5], "a text", "--text-column", "body") == 2
    assert "Which labels can the answers be? Name them: --labels WORD,WORD." in capsys.readouterr().err
    assert run("predict", "a text", "--labels", "no,yes") == 2
    assert "--labels has no effect without --adapter FOLDER or --model NAME" in capsys.readouterr().err
