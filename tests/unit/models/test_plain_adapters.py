"""A PEFT adapter without the course's card: used once its task is named, on the base model that it was trained on."""

import csv
import io
import json
import shutil
from math import exp

import pytest
import torch
from commands import rows_file, run
from small import some_rows

from llmcourse import SARCASM, CourseError, Experiment, Prompt, models, predict
from llmcourse.models import LoadedModel, adapters

ROWS = [
    {"parent_comment": "It rains.", "comment": "Lovely weather."},
    {"parent_comment": "The bus is late again.", "comment": "Great! Twenty minutes in the cold."},
    {"parent_comment": "Tea?", "comment": "Yes, please."},
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def base(hub):
    """A tiny base model, which the catalogue knows as mistral-7b."""
    return hub("mistral-7b")


@pytest.fixture
def plain(base, tmp_path):
    """An adapter as PEFT itself saves it, in a folder `plain`, and what it answers there."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "plain")
    assert adapters.is_plain("plain") and not adapters.is_plain(models.shipped_adapter("sarcasm"))
    alone = LoadedModel("alone", {}, model, AutoTokenizer.from_pretrained(base))
    return predict.score(alone, Prompt(SARCASM, instruction=False), ROWS).logprobs


def write_rows():
    with open("rows.csv", "w", newline="") as file:
        csv.writer(file).writerows([ROWS[0].keys(), *(row.values() for row in ROWS)])


def expected(logprobs):
    """Label and probability of each row, as a table of predictions has them."""
    best = [max((0, 1), key=row.__getitem__) for row in logprobs]
    probabilities = [pytest.approx(exp(max(row)), abs=1e-3) for row in logprobs]
    return list(zip([SARCASM.labels[label] for label in best], probabilities, strict=True))


def answers(table):
    """The same of a table of predictions."""
    lines = csv.DictReader(io.StringIO(table))
    return [(line["after"], float(line["after_probability"])) for line in lines]


def test_predict_with_the_task_named(plain, base, capsys):
    write_rows()
    assert run("predict", "--file", "rows.csv", "--adapter", "plain", "--task", "sarcasm") == 0
    shown = capsys.readouterr()
    assert answers(shown.out) == expected(plain)
    prompt = r"'comment: {parent_comment}\nreply: {comment}\nCategory:', on mistral-7b"
    assert f"gets the training prompt of the task 'sarcasm', {prompt}" in shown.err and str(base) in shown.err
    assert run("predict", ROWS[0]["comment"], "--parent", ROWS[0]["parent_comment"], "--adapter", "plain") == 2
    assert "adapter without a card of this course: llmcourse.json is missing. Name the task" in capsys.readouterr().err


def test_from_python(plain, tmp_path):
    adapter = models.plain_adapter("plain", SARCASM)
    assert (adapter.model, adapter.trained_on) == ("mistral-7b", str(models.catalogue.base("mistral-7b").repo))
    write_rows()
    assert predict.predict_file(adapter, "rows.csv", "out.csv") == 3
    assert answers((tmp_path / "out.csv").read_text()) == expected(plain)
    loaded = models.load("mistral-7b")
    _, after = predict.before_and_after(loaded, SARCASM, adapter, ROWS)
    torch.testing.assert_close(torch.tensor(after.logprobs), torch.tensor(plain), atol=1e-4, rtol=1e-4)
    study = Experiment(some_rows(), loaded, tmp_path / "runs", quiet=True)
    arm = study.adapter_arm(adapter, "scored")
    assert arm.kind == "finetuned" and not loaded.has_adapter
    assert arm.notes == ["The adapter has no card, so it is not known whether it was trained on test rows."]
    # the same weights at another scale are another arm
    config = json.loads((tmp_path / "plain" / adapters.CONFIG).read_text())
    (tmp_path / "plain" / adapters.CONFIG).write_text(json.dumps(config | {"lora_alpha": 800}))
    assert study.adapter_arm(adapter, "scored").folder != arm.folder
    assert {found.name for found in study.find_all()} == {each.name for each in study.arms}


def test_evaluate_loads_the_base_that_the_config_names(plain, capsys):
    rows_file()
    assert run("evaluate", "--data", "rows.csv", "--adapter", "plain", "--task", "sarcasm", "--way", "scored") == 0
    printed = capsys.readouterr().out
    assert "adapter plain" in printed and "Note: plain has no card of the course." in printed
    assert "it is not known whether it was trained on test rows" in printed
    assert run("compare", "--data", "rows.csv", "--model", "mistral-7b") == 0
    assert "it is not known whether it was trained on test rows" in capsys.readouterr().out
    # a task of one's own, with other columns and labels
    with open("own.csv", "w", newline="") as file:
        csv.writer(file).writerows([["body", "label"], *([f"mail {i}", ("no", "yes")[i % 2]] for i in range(40))])
    own = ("--data", "own.csv", "--labels", "no,yes", "--text-column", "body")
    assert run("evaluate", *own, "--adapter", "plain", "--way", "scored") == 0
    assert r"the training prompt of the task 'own', 'body: {body}\nCategory:'" in capsys.readouterr().out
    assert run("evaluate", *own, "--adapter", "plain", "--shots", 2) == 2
    assert "--shots has no effect with --adapter" in capsys.readouterr().err


def test_another_base_has_to_be_named(plain, tmp_path, tiny, capsys):
    config = json.loads((tmp_path / "plain" / adapters.CONFIG).read_text())
    config["base_model_name_or_path"] = "somebody/a-copy-of-it"
    (tmp_path / "plain" / adapters.CONFIG).write_text(json.dumps(config))
    write_rows()
    command = ("predict", "--file", "rows.csv", "--adapter", "plain", "--task", "sarcasm")
    assert run(*command) == 2
    error = capsys.readouterr().err
    assert "plain was trained on 'somebody/a-copy-of-it', by its adapter_config.json" in error
    assert "name it: --model NAME" in error
    assert run(*command, "--model", "mistral-7b") == 0
    shown = capsys.readouterr()
    assert answers(shown.out) == expected(plain)
    assert "on mistral-7b. Its adapter_config.json names 'somebody/a-copy-of-it'" in shown.err
    assert run(*command, "--model", "mistral") == 2 and "no model named 'mistral'" in capsys.readouterr().err
    adapter = models.plain_adapter("plain", SARCASM, model="mistral-7b")
    with pytest.raises(CourseError, match=r"is mistral-7b, and tiny is loaded\. Load its own: models\.load"):
        models.put_adapter(tiny, adapter)


def test_a_pickle_is_refused(plain, tmp_path, capsys):
    (tmp_path / "plain" / "adapter_model.bin").write_bytes(b"never read")
    models.plain_adapter("plain", SARCASM)
    (tmp_path / "plain" / adapters.WEIGHTS).unlink()
    for more in ((), ("--task", "sarcasm")):
        assert run("predict", "a text", "--adapter", "plain", *more) == 2
        assert "only as adapter_model.bin, a pickle" in capsys.readouterr().err


def test_a_config_that_asks_for_more_than_lora_is_refused(plain, tmp_path):
    path = tmp_path / "plain" / adapters.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))
    with pytest.raises(CourseError, match="use_dora=True; only plain LoRA is read here"):
        models.put_adapter(models.load("mistral-7b"), models.plain_adapter("plain", SARCASM))
    path.write_text("[]")
    with pytest.raises(CourseError, match=r"adapter_config\.json cannot be read: .* Ask the adapter's author"):
        models.plain_adapter("plain", SARCASM)


def test_a_card_has_the_last_word(capsys):
    folder = models.shipped_adapter("sarcasm")
    with pytest.raises(CourseError, match=r"has a card, llmcourse\.json, which names its task\. Use the folder"):
        models.plain_adapter(folder, SARCASM)
    for options, message in (
        (("--adapter", folder, "--labels", "a,b"), "--labels has no effect with --adapter"),
        (("--adapter", folder, "--task", "support"), "was trained for the task 'sarcasm'. Leave it out"),
    ):
        assert run("predict", "a text", *options) == 2
        assert message in capsys.readouterr().err


def test_the_course_s_own_adapter_without_its_card(tmp_path):
    """The config, too, names the base."""
    for name in (adapters.CONFIG, adapters.WEIGHTS):
        shutil.copy(models.shipped_adapter("sarcasm") / name, tmp_path)
    assert models.plain_adapter(tmp_path, SARCASM).model == models.EMBEDDED
    config = json.loads((tmp_path / adapters.CONFIG).read_text())
    named = "mistralai/Mistral-7B-v0.1@commit:27d67f1b5f57dc0953326b2601d68371d40ea8da@weights:nf4"
    (tmp_path / adapters.CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": named}))
    assert models.plain_adapter(tmp_path, SARCASM).model == "mistral-7b"
    # what the hub publishes is not the embedded model, which was rounded to 4 bits
    published = {"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    (tmp_path / adapters.CONFIG).write_text(json.dumps(config | published))
    with pytest.raises(CourseError, match="was trained on 'HuggingFaceTB/SmolLM2-135M-Instruct'"):
        models.plain_adapter(tmp_path, SARCASM)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b'{"base_model_name_or_path": 5}', b'{"a": NaN}'])
def test_a_config_of_other_bytes_is_refused(content, tmp_path):
    (tmp_path / adapters.CONFIG).write_bytes(content)
    (tmp_path / adapters.WEIGHTS).write_bytes(b"")
    with pytest.raises(CourseError, match=r"cannot be read|was trained on '5'"):
        models.plain_adapter(tmp_path, SARCASM)
