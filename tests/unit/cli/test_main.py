"""The command line as a whole: what every kind of bad input gets, and what a stopped or failed command says."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import rows_file, run

from llmcourse import cli
from llmcourse.experiment import Experiment
from llmcourse.predict import judges

PLACE = {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
BAD = {
    "missing file": (["finetune", "--data", "nowhere.csv"], "There is no file nowhere.csv"),
    "missing column": (
        ["finetune", "--data", "rows.csv", "--column", "comment=body"],
        "no column 'body'; it has: label, comment",
    ),
    "no such mapping": (["finetune", "--data", "rows.csv", "--column", "body=comment"], "no column 'body' to map"),
    "bad mapping": (["demo", "--column", "comment"], "NAME=COLUMN"),
    "unknown task": (["demo", "--task", "irony"], "no task 'irony'. Use one of: sarcasm, sentiment, support"),
    "unknown recipe": (["demo", "--recipe", "best"], "no recipe 'best'. Use one of: quick, talk"),
    "unknown number": (["demo", "--set", "rank=8"], "no 'rank'"),
    "wrong number": (["demo", "--set", "r=eight"], "r='eight' does not fit; a whole number is needed"),
    "half a layer": (
        ["demo", "--set", "upper_layers=2.5"],
        "upper_layers=2.5 does not fit; a whole number (or None, for all layers) is needed",
    ),
    "many tokens": (
        ["demo", "--set", "micro_batch_tokens=many"],
        "a whole number (or None, for what the GPU has memory for) is needed",
    ),
    "a folder that is not ours": (
        ["finetune", "--data", "rows.csv", "--out", "."],
        "--out . contains rows.csv, which would be lost",
    ),
    "zero": (["demo", "--set", "r=0"], "must be more than 0"),
    "no such optimiser": (["finetune", "--set", "optimizer=lomo"], "unknown optimizer 'lomo'; use adamw_torch,"),
    "no memory": (["finetune", "--set", "beta2=0"], "beta2 is 0; it must be more than 0, for instance beta2=0.999"),
    "no end": (["finetune", "--set", "epochs=1e999"], "epochs is inf; it must be 1,000 or less, for instance epochs=3"),
    "no number": (["finetune", "--set", "alpha=nan"], "alpha='nan' does not fit; a whole number is needed"),
    "no adapter": (["predict", "hello", "--adapter", "nowhere"], "nowhere is not an adapter"),
    "nothing to say": (["predict"], "Give a text"),
    "empty text": (["predict", "  "], "is empty"),
    "invisible text": (["predict", " \u200b"], "is empty"),
    "a text and a file": (["predict", "x", "--file", "rows.csv"], "Give one of them"),
    "nothing to compare": (["compare", "--data", "rows.csv"], "There are no results for the test set"),
    "a column without a file": (["predict", "x", "--column", "comment=y"], "Name it with --file FILE"),
    "a parent with a file": (["predict", "--file", "rows.csv", "--parent", "x"], "--parent has no effect with --file"),
    "no source": (["evaluate", "--data", ""], "The source of the rows is empty. Name a file, or one of: bundled"),
    "no test file": (["evaluate", "--data", "rows.csv", "--test", ""], "The test file of the rows is empty"),
    "a test column alone": (["demo", "--data", "rows.csv", "--test-column", "label=y"], "Name it with --test FILE"),
    "two tasks": (
        ["demo", "--data", "rows.csv", "--task", "sarcasm", "--labels", "a,b"],
        "is the course's, and --labels",
    ),
    "a task without rows": (["demo", "--labels", "a,b"], "needs rows. Name their file: --data FILE"),
    "a task without labels": (
        ["demo", "--data", "rows.csv", "--text-column", "comment"],
        "Which labels do your rows have? Perhaps: --labels=0,1",
    ),
    "a label alone": (["demo", "--data", "rows.csv", "--labels", "a"], "needs two or more different"),
    "quotes without a CSV": (["demo", "--quotes", "none", "--data", "rows.jsonl"], "There is no file rows.jsonl"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, capsys, tmp_path, tiny_instead):
    rows_file()
    arguments, message = BAD[case]
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("llmcourse: ") and message in error and "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--n-train", "1"], "'1' does not work; give a whole number from 2 upwards"),
        (["evaluate", "--shots", "-1"], "give a whole number from 0 upwards"),
        (["evaluate", "--shots", "four"], "'four' does not work"),
        (["finetune", "--gear", "tpu"], "invalid choice: 'tpu'"),
        ([], "COMMAND"),
    ],
)
def test_arguments_that_the_parser_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_a_stopped_command_says_how_to_resume(capsys, monkeypatch, tiny_instead):
    def stopped(*_, **__):
        raise KeyboardInterrupt("Stopped after step 4 of 9.")

    rows_file()
    monkeypatch.setattr(Experiment, "train", stopped)
    monkeypatch.setattr(judges, "before_and_after", stopped)
    for arguments, then in (
        (("finetune", "--data", "rows.csv"), "To resume, run the same command again."),
        (("finetune", "--data", "rows.csv", "--no-resume"), "To resume, run the same command without --no-resume."),
        (("predict", "a text"), "Nothing was kept. With --out, a stopped command on --file or - can be resumed."),
        (
            ("predict", "--file", "rows.csv"),
            "Nothing was kept. With --out, a stopped command on --file or - can be resumed.",
        ),
        (("predict", "--file", "rows.csv", "--out", "out.csv"), "To resume, run the same command again."),
    ):
        assert run(*arguments) == 130
        assert capsys.readouterr().err.endswith(f"llmcourse: Stopped after step 4 of 9. {then}\n")


def test_errors_of_the_system_are_messages(capsys, monkeypatch):
    def full(options):
        raise OSError(28, "No space left on device", "runs/x")

    def denied(options):
        raise OSError(13, "Permission denied", "runs/x")

    monkeypatch.setattr(cli.models, "run", full)
    assert run("models") == 2
    assert capsys.readouterr().err == (
        "llmcourse: runs/x: No space left on device."
        " Free some space and run the same command again. Finished work is kept.\n"
    )
    monkeypatch.setattr(cli.models, "run", denied)
    assert run("models") == 2
    assert capsys.readouterr().err == "llmcourse: runs/x: Permission denied.\n"


def test_the_gear_reaches_the_hardware(monkeypatch):
    monkeypatch.setenv(cli.GEAR_VARIABLE, "gpu")  # put back after the test
    seen = []
    monkeypatch.setattr(cli.preflight, "run", lambda options: seen.append(os.environ[cli.GEAR_VARIABLE]))
    assert run("preflight", "--gear", "t4") == 0 and run("preflight") == 0
    assert seen == ["t4", "t4"]


def test_ctrl_c_while_the_command_is_imported_ends_with_a_message(monkeypatch, capsys):
    import builtins

    from llmcourse.__main__ import run as start

    def interrupted(name, *args, real=builtins.__import__, **options):
        if name == "llmcourse.cli":
            raise KeyboardInterrupt
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    assert start() == 130
    assert capsys.readouterr().err == "\nllmcourse: Stopped.\n"


def test_the_command_on_the_path_is_the_one_that_can_be_stopped_early():
    from importlib.metadata import entry_points

    assert [point.value for point in entry_points(group="console_scripts", name="llmcourse")] == [
        "llmcourse.__main__:run"
    ]


def in_shell(command: str) -> subprocess.CompletedProcess:
    """Run a shell command in which `llmcourse` is the course's command."""
    command = command.replace("llmcourse", f"{shlex.quote(sys.executable)} -m llmcourse", 1)
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=os.environ | PLACE)


def test_a_closed_standard_output_is_refused():
    done = in_shell("llmcourse models >&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "llmcourse: Standard output is closed. Send it somewhere, for instance: > out.txt\n"
    assert in_shell("llmcourse models >&- 2>&-").returncode == 2


def test_an_error_stays_out_of_standard_output():
    done = in_shell("llmcourse predict 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    done = in_shell("llmcourse models 2>&- <&-")
    assert done.returncode == 0 and done.stdout.startswith("name")
    assert "Standard input is closed" in in_shell("llmcourse predict - <&-").stderr


def test_no_file_gets_the_number_of_a_closed_stream():
    program = (
        "import os, sys; from llmcourse.__main__ import replace_closed_streams; replace_closed_streams();"
        "file = open(os.devnull); print(file.fileno(), file=sys.stderr);"
        "os.write(2, b'unseen'); sys.exit(0 if file.fileno() > 2 and sys.stdin is None else 1)"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program], env=os.environ | PLACE
    )
    assert done.returncode == 0
