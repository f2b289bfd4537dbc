"""Whole models answer the rows of a file, in transformers or in a stand-in for vLLM: the same prompts and answers."""

import csv
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import architectures
import pytest
import stand_in_vllm
from commands import run

from llmcourse import SARCASM, CourseError, Prompt, models, predict
from llmcourse.predict import engine, judges, shards, vllm

WORDS = ("how kind", "oh great, another delay")
ROWS = [
    {"row": i + 1, "parent_comment": f"parent {i // 2}", "comment": f"{WORDS[i % 2]} {i}", "label": i % 2}
    for i in range(48)
]
SETTINGS = ("r=8", "alpha=32", "epochs=8", "batch_rows=4", "learning_rate=1e-2", "upper_layers=None")


@pytest.fixture(scope="module")
def made(tokenizer, tmp_path_factory):
    """A folder with rows.csv, a model in `base`, and in `merged` what `export` made of it and an adapter."""
    folder = tmp_path_factory.mktemp("whole")
    base = architectures.save("llama", tokenizer, folder / "base")
    with open(folder / "rows.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ("parent_comment", "comment", "label"), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(ROWS)
    settings = [part for value in SETTINGS for part in ("--set", value)]
    rows = ("--data", folder / "rows.csv", "--runs", folder / "runs")
    assert run("finetune", *rows, *settings, "--model", base, "--out", folder / "mine") == 0
    merge = ("export", "--adapter", folder / "mine", "--model", base, "--dtype", "float32", "--rows", 0)
    assert run(*merge, "--out", folder / "merged") == 0
    yield folder
    models.free()


@pytest.fixture(autouse=True)
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.setattr(stand_in_vllm, "made", [])
    monkeypatch.setattr(shards, "SHARD_ROWS", 10)


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", stand_in_vllm)


PREDICT = ("predict", "--file", "rows.csv", "--model", "./merged")
VLLM = (*PREDICT, "--engine", "vllm")


def answers(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# -- the same answers --------------------------------------------------------------------------------------------------


def test_both_engines_write_the_same_table(installed):
    assert run(*PREDICT, "--out", "transformers.csv") == 0
    assert run(*VLLM, "--out", "vllm.csv") == 0
    assert Path("vllm.csv").read_bytes() == Path("transformers.csv").read_bytes()
    table = answers("vllm.csv")
    assert list(table[0]) == [
        "row",
        "before",
        "before_probability",
        "after",
        "after_probability",
        "parent_comment",
        "comment",
    ]
    right = [line["after"] == SARCASM.labels[row["label"]] for line, row in zip(table, ROWS, strict=True)]
    assert sum(right) > 40 and {line["before"] + line["after_probability"] for line in table} == {""}


def test_vllm_gets_the_tokens_of_the_default_engine(installed):
    prompt = Prompt.from_card(models.merged_card("merged"))
    loaded = models.load("./merged")
    expected = predict.generate(loaded, prompt, ROWS)
    answered = judges.of_model("./merged", engine="vllm").load()(ROWS)[1]
    (llm,) = stand_in_vllm.made
    assert llm.asked == predict.encode(loaded, prompt, ROWS) and llm.max_model_len == 1024
    assert answered.labels == expected.labels and len(set(expected.labels)) >= 2
    assert list(map(engine.first_line, answered.texts)) == list(map(engine.first_line, expected.texts))


def test_a_model_without_a_card_gets_the_zero_shot_prompt(installed, capsys):
    """It is random, so its answers are invalid: their cells are empty, and they are counted."""
    own = ("--labels", "up,down", "--text-column", "comment")
    for name in ("transformers", "vllm"):
        command = ("predict", "--file", "rows.csv", "--model", "./base", *own, "--engine", name)
        assert run(*command, "--out", f"base-{name}.csv") == 0
        shown = capsys.readouterr().err
        assert "./base gets the zero-shot prompt of the task 'rows'." in shown
        assert "48 of 48 answers name no label of the task. Their cells are empty." in shown
    assert Path("base-vllm.csv").read_bytes() == Path("base-transformers.csv").read_bytes()
    assert {line["after"] for line in answers("base-vllm.csv")} == {""}
    sent = stand_in_vllm.made[0].asked[0]
    assert "Read the text and sort it" in models.load("./base").tokenizer.decode(sent)


def test_an_empty_line_at_the_beginning_is_no_answer(installed, monkeypatch):
    texts = iter(["\n\n Sarcasm\nand more", "\n", " Not Sarcasm", "\nneither\nSarcasm"])
    monkeypatch.setattr(
        stand_in_vllm.LLM, "_answer", lambda *_: SimpleNamespace(outputs=[SimpleNamespace(text=next(texts))])
    )
    answered = judges.of_model("./merged", engine="vllm").load()(ROWS[:4])[1]
    assert answered.labels == [1, None, 0, None]


def test_a_single_text(installed, capsys):
    assert run("predict", "how kind 2", "--parent", "parent 1", *VLLM[3:]) == 0
    assert capsys.readouterr().out.split(":")[1].strip() == SARCASM.labels[0]
    assert run("predict", "how kind 2", "--parent", "parent 1", *PREDICT[3:]) == 0
    assert capsys.readouterr().out.split(":")[1].strip() == SARCASM.labels[0]


# -- resuming ----------------------------------------------------------------------------------------------------------


def test_a_stopped_job_is_resumed_in_the_middle(installed, monkeypatch, capsys):
    assert run(*VLLM, "--out", "whole.csv") == 0
    generate = stand_in_vllm.LLM.generate

    def stop(self, *args, **kwargs):
        if self.calls == 2:
            raise KeyboardInterrupt
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(stand_in_vllm.LLM, "generate", stop)
    assert run(*VLLM, "--out", "stopped.csv") == 130
    assert "To resume, run the same command again." in capsys.readouterr().err and not Path("stopped.csv").exists()
    monkeypatch.setattr(stand_in_vllm.LLM, "generate", generate)
    assert run(*VLLM, "--out", "stopped.csv") == 0
    assert "Going on after row 20 of 48" in capsys.readouterr().out
    assert [len(llm.asked) for llm in stand_in_vllm.made] == [48, 20, 28]
    assert Path("stopped.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_what_one_engine_answered_is_not_taken_for_the_other(installed, monkeypatch, capsys):
    generate = stand_in_vllm.LLM.generate

    def once(self, *args, **kwargs):
        if self.calls:
            raise KeyboardInterrupt
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(stand_in_vllm.LLM, "generate", once)
    assert run(*VLLM, "--out", "mixed.csv") == 130
    assert run(*PREDICT, "--out", "mixed.csv") == 0
    assert "from row 1 on belongs to another file, adapter, model or columns" in capsys.readouterr().out


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_without_vllm_the_command_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr(shards, "ask_file", None)
    assert run(*VLLM) == 2
    error = capsys.readouterr().err
    assert "--engine vllm needs vLLM, on Linux with an NVIDIA GPU" in error
    assert "pip install vllm. Or leave --engine out." in error


def test_a_model_that_vllm_cannot_load(installed, monkeypatch, capsys):
    def fail(*_, **__):
        raise ValueError("Bfloat16 is only supported on newer GPUs.\nmore")

    monkeypatch.setattr(stand_in_vllm.LLM, "__init__", fail)
    assert run(*VLLM) == 2
    assert "merged: Bfloat16 is only supported on newer GPUs. Or leave --engine out." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--adapter", "mine", "--engine", "vllm"), "Merge the adapter, then name the new folder: llmcourse export"),
        (("--engine", "vllm"), "--engine vllm takes a whole model"),
        (("--model", "./merged", "--labels", "a,b"), "--labels has no effect with ./merged, whose card names its task"),
        (("--model", "./merged", "--task", "sarcasm"), "--task has no effect with ./merged"),
        (("--model", "./mine"), "is an adapter, not a model"),
        (("--model", "mistral"), "There is no model named 'mistral'"),
    ],
)
def test_what_does_not_fit_together(options, message, capsys):
    assert run("predict", "a text", *options) == 2
    assert message in capsys.readouterr().err


def test_a_prompt_longer_than_the_context_names_its_row(installed, monkeypatch):
    monkeypatch.setattr(vllm, "CONTEXT", 60)
    judge = judges.of_model("./base", SARCASM, "vllm")
    with pytest.raises(CourseError, match=r"The prompt of row 22 has .* the model takes 60\."):
        judge.load()(ROWS)
    assert stand_in_vllm.made[0].max_model_len == 60


def test_the_task_is_named_once():
    with pytest.raises(CourseError, match="has a card that names its task"):
        judges.of_model("./merged", SARCASM)
    with pytest.raises(CourseError, match=r"has no card\. Name its task"):
        judges.of_model("./base")


def test_a_merged_model_s_card_is_checked(made, tmp_path):
    shutil.copytree("merged", tmp_path / "copy")
    path = tmp_path / "copy" / "llmcourse.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompt": {"chat": "yes"}}))
    with pytest.raises(CourseError, match=r"'prompt' must be true or false .* Export the model again\."):
        judges.of_model(str(tmp_path / "copy"))
    path.unlink()
    path.symlink_to(made / "merged" / "llmcourse.json")
    with pytest.raises(CourseError, match="is a link to a file outside the folder"):
        judges.of_model(str(tmp_path / "copy"))


def test_a_merged_model_stays_in_16_bits_on_a_gpu(t4):
    """In 4 bits it would lose what the adapter learnt."""
    models.free()
    assert models.load("./base").base["weights"] == "nf4"
    assert models.load("./merged").base["weights"] == "float16"
    models.free()
