"""Every command on every architecture: a tiny random model in a folder, and `--model ./folder`."""

import csv
import json
from pathlib import Path

import architectures
import pytest
from commands import rows_file, run

from llmcourse import SARCASM, models

NAMES = architectures.mostly_slow(architectures.CONFIGS, ("gemma3_text", "gpt2"))
SETTINGS = [part for value in ("r=2", "epochs=1", "batch_rows=4") for part in ("--set", value)]


@pytest.mark.parametrize("name", NAMES)
def test_every_command(name, tokenizer, capsys, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_GEAR", "cpu")
    architectures.save(name, tokenizer, Path("folder"))
    rows_file()
    rows, model = ("--data", "rows.csv"), ("--model", "./folder")

    def shown(*command):
        assert run(*command) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert "or a folder" in shown("models")
    assert f"{Path('folder').resolve()}, already downloaded" in shown("preflight", *model)
    # the recipe's 12 upper layers are all three
    assert "LoRA r=2 (quick)" in shown("demo", *rows, *model, *SETTINGS)
    assert "Adapter: mine" in shown("finetune", *rows, *model, *SETTINGS, "--out", "mine")
    assert json.loads(Path("mine/llmcourse.json").read_text())["base"]["name"] == "folder"
    assert "2-shot, chat turns, generated" in shown("evaluate", *rows, *model, "--shots", 2, "--chat", "turns")
    assert "adapter mine" in shown("evaluate", *rows, *model, "--adapter", "mine", "--way", "scored")
    compared = shown("compare", *rows, *model)
    assert all(arm in compared for arm in ("majority", "4-shot, calibrated", "2-shot, chat turns", "adapter mine"))
    shown("predict", "--file", "rows.csv", "--adapter", "mine", *model, "--out", "adapter.csv")
    exported = shown("export", "--adapter", "mine", *model, "--out", "merged", "--dtype", "float32", "--rows", 4)
    assert "All 4 answers are the same before and after merging." in exported
    shown("predict", "--file", "rows.csv", "--model", "./merged", "--out", "merged.csv")
    for table, possible in (("adapter.csv", set(SARCASM.labels)), ("merged.csv", {*SARCASM.labels, ""})):
        with open(table, newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == 24 and {line["after"] for line in lines} <= possible
    models.free()
