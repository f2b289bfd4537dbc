"""A CSV of one's own with labels of one's own, without a line of Python."""

import csv
import json
from pathlib import Path

import pytest
from commands import run
from csv_files import write_csv

LABELS = ("billing", "delivery", "praise")
TASK = ("--labels", ",".join(LABELS), "--text-column", "subject", "--text-column", "body", "--column", "label=kind")
SETTINGS = [part for value in ("r=2", "epochs=1", "batch_rows=4", "upper_layers=2") for part in ("--set", value)]


@pytest.fixture
def mails():
    rows = [(f"about {i}", f"This mail is about {LABELS[i % 3]}, number {i}", LABELS[i % 3]) for i in range(90)]
    return write_csv("my mails.csv", rows, ("subject", "body", "kind"))


def test_a_task_of_ones_own_from_the_rows_to_the_predictions(mails, capsys, tiny_instead):
    rows = ("--data", mails, *TASK)
    assert run("finetune", *rows, *SETTINGS, "--out", "mine") == 0
    assert "90 rows read from my mails.csv: 72 to train on, 18 to test on." in capsys.readouterr().out
    task = json.loads(Path("mine/llmcourse.json").read_text())["task"]
    assert task["name"] == "my-mails" and task["fields"] == {"subject": "subject", "body": "body"}
    # the adapter knows its task, so that the command needs the rows only
    assert run("evaluate", "--data", mails, "--column", "label=kind", "--adapter", "mine") == 0
    printed = capsys.readouterr().out
    assert "90 rows read from my mails.csv" in printed and all(label in printed for label in LABELS)
    assert run("evaluate", *rows, "--shots", 3, "--task", "my-mails") == 0
    capsys.readouterr()
    assert run("compare", *rows) == 0
    printed = capsys.readouterr().out
    assert "90 rows read from my mails.csv" in printed and "adapter mine" in printed and "3-shot" in printed
    assert run("predict", "--file", mails, "--adapter", "mine", "--out", "out.csv") == 0
    answers = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert len(answers) == 90 and {answer["after"] for answer in answers} <= set(LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shots", "2"), "--shots has no effect with --adapter"),
        (("--shots", "0"), "--shots has no effect with --adapter"),
        (("--chat",), "--chat has no effect with --adapter"),
        (("--labels", "a,b"), "--labels has no effect with --adapter"),
        (("--task", "support"), "was trained for the task 'sarcasm'. Leave it out"),
    ],
)
def test_options_that_an_adapter_has_decided_are_refused(options, message, capsys, tiny_instead):
    from llmcourse import models

    adapter = models.shipped_adapter("sarcasm")
    assert run("evaluate", "--adapter", adapter, *options) == 2
    assert message in capsys.readouterr().err


def test_an_adapter_of_a_task_without_rows_asks_for_them(mails, capsys, tiny_instead):
    assert run("finetune", "--data", mails, *TASK, *SETTINGS, "--out", "mine") == 0
    assert run("evaluate", "--adapter", "mine") == 2
    assert "The task 'my-mails' has no rows of its own. Name their file: --data FILE" in capsys.readouterr().err


def test_uneven_rows_are_trained_on_and_reported(capsys, tiny_instead):
    rows = [(f"text number {i}", "yes" if i % 10 == 0 else "no") for i in range(200)]
    path = write_csv("rows.csv", rows, ("text", "label"))
    assert run("finetune", "--data", path, "--labels", "no,yes", *SETTINGS) == 0
    printed = capsys.readouterr().out
    assert "train 144 no, 16 yes; test 36 no, 4 yes" in printed
    assert "Always answering 'no' is right on 90% of the test rows" in printed
    assert run("evaluate", "--data", path, "--labels", "no,yes", "--shots", 0) == 0
    assert "macro-F1" in capsys.readouterr().out
    assert run("evaluate", "--data", path, "--labels", "no,yes", "--shots", 0, "--balance") == 0
    assert "160 for balance" in capsys.readouterr().out
