"""`demo` on rows of one's own."""

import csv
import json

from commands import rows_file, run

from llmcourse.data import tasks


def test_a_task_with_four_labels(capsys, tmp_path, tiny_instead):
    """Rows, arms, report, adapter and predictions of the other task, on rows of one's own with words for labels."""
    words = tasks.SUPPORT.labels
    with open("mine.csv", "w", newline="") as file:
        csv.writer(file).writerows([["kind", "body"], *([words[i % 4].upper(), f"text {i}"] for i in range(60))])
    with open("test.csv", "w", newline="") as file:
        csv.writer(file).writerows([["kind", "body"], *([words[i % 4], f"TEXT {i}"] for i in range(56, 68))])
    mine = ("--task", "support", "--data", "mine.csv", "--column", "message=body", "--column", "label=kind")
    mine += ("--test", "test.csv", "--recipe", "quick")
    small = [part for value in ("r=2", "epochs=1", "upper_layers=1") for part in ("--set", value)]
    assert run("demo", *mine, *small) == 0
    printed = capsys.readouterr().out
    assert "4 training rows share a text with test rows. They are left out" in printed
    assert "56 to train on, 12 to test on" in printed and "LoRA r=2 (quick)" in printed
    page = next((tmp_path / "runs").glob("support-*/report.html")).read_text(encoding="utf-8")
    assert all(word in page for word in words) and "majority 25%" in page
    assert run("finetune", *mine, *small, "--out", "mine") == 0
    capsys.readouterr()
    assert run("predict", "Where is it?", "--adapter", "mine") == 0
    assert capsys.readouterr().out.splitlines()[1].split(": ")[1].strip().split(" (")[0] in words
    assert (
        run("predict", "--file", "test.csv", "--column", "message=body", "--adapter", "mine", "--out", "out.csv") == 0
    )
    with open("out.csv", newline="") as file:
        assert {line["after"] for line in csv.DictReader(file)} <= set(words)


def test_a_record_is_the_reports_results_file(tmp_path, tiny_instead, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_GEAR", "cpu")
    rows_file()
    settings = [part for value in ("r=2", "epochs=1", "upper_layers=1") for part in ("--set", value)]
    assert run("demo", "--data", "rows.csv", *settings, "--record") == 0
    (results,) = (tmp_path / "runs").glob("sarcasm-*/results.json")
    assert (tmp_path / "demo-cpu.json").read_bytes() == results.read_bytes()
    assert json.loads(results.read_text(encoding="utf-8"))["peak_memory_gib"] > 0
