"""`finetune` trains, and `evaluate` and `compare` find what it left."""

import json
import re

import pytest
from commands import rows_file, run
from csv_files import write_csv


@pytest.mark.parametrize(
    ("modules", "message"), [("('lm_head',)", "lm_head is no target"), ("('nope',)", "unknown matrix 'nope'")]
)
def test_modules_that_cannot_be_trained(modules, message, capsys, tiny_instead):
    rows_file()
    assert run("finetune", "--data", "rows.csv", "--set", "upper_layers=2", "--set", f"target_modules={modules}") == 2
    assert message in capsys.readouterr().err
    assert run("evaluate", "--data", "rows.csv", "--shots", 0) == 0 and not tiny_instead.has_adapter


def test_finetune_evaluate_compare(capsys, tmp_path, tiny_instead):
    rows_file(n=60)
    few = ("--data", "rows.csv")
    settings = [part for value in ("r=2", "epochs=1", "batch_rows=4", "upper_layers=2") for part in ("--set", value)]
    assert run("finetune", *few, *settings, "--out", "mine") == 0
    assert "Adapter: mine" in capsys.readouterr().out
    card = json.loads((tmp_path / "mine" / "llmcourse.json").read_text())
    assert card["recipe"]["r"] == 2 and card["base"] == tiny_instead.base
    assert run("evaluate", *few, "--adapter", "mine") == 0
    printed = capsys.readouterr().out
    interval = r"(95 % interval [\d.]+% to [\d.]+%|one answer for all rows)"
    assert "precision" in printed and re.search(rf"^accuracy [\d.]+%, {interval}, macro-F1 ", printed, re.MULTILINE)
    assert run("evaluate", *few, "--shots", 2, "--way", "calibrated") == 0
    for chat, name in (
        (("--chat",), "2-shot, chat format, generated"),
        (("--chat", "turns"), "2-shot, chat turns, gen"),
    ):
        assert run("evaluate", *few, "--shots", 2, *chat) == 0
        assert name in capsys.readouterr().out
    assert run("compare", *few) == 0
    printed = capsys.readouterr().out
    assert "2-shot, calibrated" in printed and "adapter mine" in printed and "against" in printed
    (tmp_path / "mine" / "notes.txt").write_text("what I found")
    assert run("finetune", *few, *settings, "--out", "mine") == 2
    assert "--out mine contains notes.txt, which would be lost" in capsys.readouterr().err
    assert (tmp_path / "mine" / "notes.txt").is_file()
    # finding, not training: another run says the same
    assert run("finetune", *few, *settings) == 0
    assert len(list((tmp_path / "runs" / "adapters").glob("[!.]*"))) == 1


def test_texts_that_are_cut_are_counted_in_the_output(capsys, tiny_instead):
    """Every command says it, of the rows of training and of those that the adapter is asked."""
    rows = [[i % 2, f"reply {i} " + "and so on " * (40 if i < 30 else 1), f"parent {i}"] for i in range(40)]
    write_csv("rows.csv", rows)
    data = ("--data", "rows.csv")
    settings = [part for value in ("r=2", "epochs=1", "upper_layers=2") for part in ("--set", value)]
    short = (*settings, "--set", "max_length=100")
    training = re.compile(r"Note: (.*: )?To fit max_length=100 tokens, \d+ of 32 training rows were cut at the end")
    asked = re.compile(r"Note: (.*: )?To fit max_length=100 tokens, \d of 8 test rows were cut at the end")

    def printed(*arguments):
        assert run(*arguments) == 0
        return capsys.readouterr()

    out = printed("finetune", *data, *short, "--out", "mine").out
    assert training.search(out) and "--set max_length=TOKENS" in out
    assert asked.search(printed("evaluate", *data, "--adapter", "mine").out)
    assert not asked.search(printed("evaluate", *data, "--shots", 0).out)
    for command in (("demo", *data, *short), ("compare", *data)):
        out = printed(*command).out
        assert training.search(out) and asked.search(out)
    predict = ("predict", "--file", "rows.csv", "--adapter", "mine")
    note = "To fit max_length=100 tokens, 30 of 40 rows were cut at the end. Training cuts its rows in the same way."
    assert note in printed(*predict).err and note in printed(*predict, "--out", "out.csv").err
    assert "1 of 1 rows was cut" in printed("predict", "so good " * 200, "--adapter", "mine").err
    assert "cut" not in printed("predict", "so good", "--adapter", "mine").err
    assert "cut" not in printed("finetune", *data, *settings).out
