"""`finetune` trains, and `evaluate` and `compare` find what it left."""

import json

import pytest
from commands import rows_file, run


@pytest.mark.parametrize(
    ("modules", "message"), [("('lm_head',)", "lm_head is no target"), ("('nope',)", "was refused")]
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
    assert card["recipe"]["r"] == 2 and card["base"]["name"] == "tiny"
    assert run("evaluate", *few, "--adapter", "mine") == 0
    printed = capsys.readouterr().out
    assert "precision" in printed and "95 % interval" in printed
    assert run("evaluate", *few, "--shots", 2, "--way", "calibrated") == 0
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
