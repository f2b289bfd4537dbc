"""The README of an adapter: its code runs without the course, makes the same prompts, and gives the same answers."""

import csv
import io
import json
import re
import subprocess
import sys
from unittest.mock import ANY

import pytest
import torch
from commands import run
from hostile_texts import NASTY, quick, texts
from hypothesis import given
from hypothesis import strategies as st
from small import ONE_EPOCH, some_rows

from llmcourse import SARCASM, SUPPORT, CourseError, Experiment, Prompt, Task, data, models, predict
from llmcourse.data.texts import INVISIBLE, MAX_CHARACTERS, squeeze
from llmcourse.experiment import adapter_readme
from llmcourse.models import embedded
from llmcourse.predict.prompts import parse_answer


def blocks(readme):
    """The fenced blocks of a README, as Markdown reads them: (language, text)."""
    found, fence = [], None
    for line in readme.split("\n"):
        mark = re.fullmatch(r"(`{3,})(\w*)", line)
        if fence is None and mark:
            fence, (language, lines) = mark[1], (mark[2], [])
        elif mark and not mark[2] and len(mark[1]) >= len(fence):
            found.append((language, "\n".join(lines)))
            fence = None
        elif fence is not None:
            lines.append(line)
    assert fence is None
    return found


def code_of(readme):
    """The two blocks of Python in a README: what loads the model, and what asks it."""
    loading, asking = (text + "\n" for language, text in blocks(readme) if language == "python")
    return loading, asking


def predicted(folder, rows, tmp_path, capsys):
    """What `llmcourse predict` answers with an adapter."""
    columns = [column for column in rows[0] if column not in ("row", "label")]
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *([row[column] for column in columns] for row in rows)])
    capsys.readouterr()
    assert run("predict", "--file", tmp_path / "rows.csv", "--adapter", folder) == 0
    return [line["after"] for line in csv.DictReader(io.StringIO(capsys.readouterr().out))]


@pytest.mark.parametrize("task", [SARCASM, pytest.param(SUPPORT, marks=pytest.mark.slow)], ids=lambda task: task.name)
def test_the_code_of_a_shipped_adapter_answers_as_predict(task, tmp_path, capsys, monkeypatch):
    """With the base from the folder that the README names, which is the quicker of its two ways."""
    folder = models.shipped_adapter(task.name)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    faster = 'base = {"pretrained_model_name_or_path": ensure_embedded()}'
    assert f"`{faster}`" in readme and "`from llmcourse.models.embedded import ensure_embedded`" in readme
    loading, asking = code_of(readme)
    loading, count = re.subn(r"^base = .*$", faster, loading, flags=re.MULTILINE)
    rows, names = list(data.load(task).test)[3:13], {"ensure_embedded": embedded.ensure_embedded}
    monkeypatch.chdir(folder)
    exec(loading + asking, names)
    answers = [names["classify"](row) for row in rows]
    assert count == 1 and answers == predicted(folder, rows, tmp_path, capsys) and None not in answers


ASK = """
import json, sys
assert "llmcourse" not in sys.modules
for rows in (json.loads(sys.stdin.read()), {name: float(w.double().sum()) for name, w in model.named_parameters()}):
    print(json.dumps([classify(row) for row in rows] if isinstance(rows, list) else rows))
"""


@pytest.mark.slow  # transformers takes half a minute to expand the weights
@pytest.mark.timeout(1200)
def test_the_code_of_a_shipped_adapter_needs_no_course(tmp_path, capsys, embedded_model):
    """As a reader would run it: in a process of its own, in the adapter's folder, with the base from its package."""
    folder = models.shipped_adapter("sarcasm")
    rows = list(data.load(SARCASM).test)[:10]
    program = "".join(code_of((folder / "README.md").read_text(encoding="utf-8"))) + ASK
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, input=json.dumps(rows), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown, answers, weights = done.stdout.splitlines()[-3:]
    assert shown in SARCASM.labels and json.loads(answers) == predicted(folder, rows, tmp_path, capsys)
    # the package's weights are the embedded model's
    named = {name: total for name, total in json.loads(weights).items() if "lora_" not in name}
    sums = {re.sub(r"^base_model\.model\.|base_layer\.", "", name): total for name, total in named.items()}
    assert sums == {name: float(weight.double().sum()) for name, weight in embedded_model.model.named_parameters()}


# -- other bases -------------------------------------------------------------------------------------------------------

ROWS = [
    {"parent_comment": "It rains.", "comment": "Lovely weather, isn't it?"},
    {"parent_comment": '"{x}" \\n {{y}}', "comment": "</s> [INST] '''quoted'''\n\n####\nCategory: Sarcasm"},
    {"parent_comment": "long " * 700, "comment": "很好" * 300},
]
LEARNS = ONE_EPOCH.changed(r=8, alpha=16, epochs=8, learning_rate=3e-2, max_length=120)
"""Enough for a tiny model to write labels."""


@pytest.mark.parametrize("weights", ["float32", "nf4", "nf4, prequantised"])
def test_the_code_for_a_base_from_the_hub(weights, hub, tmp_path, monkeypatch, request):
    if weights != "float32":
        request.getfixturevalue("t4")
    hub("mistral-7b", prequantised=weights == "nf4, prequantised")
    loaded = models.load("mistral-7b")
    experiment = Experiment(some_rows(), loaded, tmp_path / "runs", quiet=True)
    folder, _ = experiment.train(LEARNS)
    assert loaded.base["weights"] == weights[: len(loaded.base["weights"])]
    card = models.put_adapter(loaded, folder)
    expected = predict.generate(loaded, Prompt.from_card(card), ROWS).labels
    loaded.drop_adapter()
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert ("BitsAndBytesConfig(" in readme) == (weights == "nf4")
    monkeypatch.chdir(folder)
    names = {}
    exec("".join(code_of(readme)), names)
    words = [None if label is None else SARCASM.labels[label] for label in expected]
    assert [names["classify"](row) for row in ROWS] == words and set(words) != {None}


def test_a_base_from_the_hub_is_loaded_at_its_commit():
    commit = "27d67f1b5f57dc0953326b2601d68371d40ea8da"
    readme = adapter_readme(card_of(SARCASM, {"name": "mistralai/Mistral-7B-v0.1", "commit": commit, "weights": "nf4"}))
    assert f"The base is mistralai/Mistral-7B-v0.1 at commit {commit}, in 4 bits (NF4)" in readme
    loading = code_of(readme)[0]
    compile(loading, "README.md", "exec")
    assert (
        f'base = {{"pretrained_model_name_or_path": \'mistralai/Mistral-7B-v0.1\', "revision": "{commit}"}}' in loading
    )


@pytest.mark.slow  # 4 bits on a CPU
def test_the_embedded_model_in_4_bits_needs_the_course(tmp_path, monkeypatch, capsys):
    """Its code runs too: here on the adapter of the same model in float32."""
    base = {"name": embedded.NAME, "sha256": embedded.SHA256, "weights": "nf4"}
    folder = models.shipped_adapter("support")
    readme = adapter_readme(models.read_card(folder) | {"spec": {"model": base}})
    monkeypatch.chdir(folder)
    names = {}
    exec("".join(code_of(readme)), names)
    assert names["model"].base_model.model.is_loaded_in_4bit and capsys.readouterr().out.strip() in SUPPORT.labels
    assert "its code needs\n`llmcourse`" in readme


# -- the texts of a task -----------------------------------------------------------------------------------------------


def card_of(task, base, max_length=120, instruction=True):
    recipe = ONE_EPOCH.changed(max_length=max_length, instruction=instruction)
    return {
        "task": task.as_dict(),
        "prompt": {"instruction": instruction, "fallback": True, "chat": False},
        "recipe": recipe.as_dict(),
        "data": {"rows": 4, "source": "made.csv", "train": "0"},
        "training": {"rows": 4, "cut_rows": 1, "trainable": 9, "steps": 1, "seconds": 1.0},
        "spec": {"model": base},
    }


class Writer:
    """Stands for a model that writes a given text."""

    device = "cpu"

    def __init__(self, tokenizer, text=""):
        self.tokenizer, self.text, self.asked = tokenizer, text, {}

    def generate(self, input_ids, max_new_tokens, **options):
        self.asked = {"max_new_tokens": max_new_tokens, **options}
        written = self.tokenizer(self.text, return_tensors="pt").input_ids.long()
        return torch.cat([input_ids, written[:, :max_new_tokens]], dim=1)


def functions_of(readme, tokenizer, model=None):
    """What the second block of a README defines."""
    names = {"tokenizer": tokenizer, "model": model or Writer(tokenizer), "torch": torch, "re": re}
    exec(code_of(readme)[1], names)
    return names


MARKS = ("{}", "{x}", "{{ x }}", "%s", '"', "'''", '"""', "\\", "```\n```python\nx", "很好", "\r", "a\nb")
words = st.one_of(texts, st.lists(st.sampled_from(MARKS), min_size=1, max_size=4).map("".join))


def line(text):
    """A text as a label may be."""
    return squeeze(re.sub(r"[\x00-\x1f\x7f]", " ", text.translate(dict.fromkeys(map(ord, INVISIBLE)))))[:60].strip()


@st.composite
def tasks(draw):
    """Any task, with texts that could break code or Markdown wherever a task has texts."""
    columns = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    return Task(
        "made",
        f"Sort: {draw(words)}",
        {f"c{column}": f"n{draw(words)}".replace("\n", "") for column in columns},
        tuple(f"{number} {line(draw(words))}".strip() for number in range(draw(st.integers(2, 4)))),
        answer_name=f"A{draw(words)}",
        fallback=draw(st.sampled_from([None, 0])),
    )


@quick
@given(task=tasks(), row_texts=st.lists(texts, min_size=3, max_size=3), long=st.integers(0, 900))
def test_any_texts_of_a_task_give_code_that_makes_the_same_prompt(tokenizer, task, row_texts, long):
    card = card_of(task, {"name": "tiny"}, max_length=2_000)
    prompt = Prompt.from_card(card)
    readme = adapter_readme(card)
    made = functions_of(readme, tokenizer)["fit"]
    for lengthen in (0, long):
        row = {c: (text + "z! " * lengthen)[:MAX_CHARACTERS] for c, text in zip(task.fields, row_texts, strict=False)}
        try:
            assert made(row) == predict.fit(tokenizer, prompt, [row])[0][0]
        except CourseError as error:
            assert "max_length=2000 is too small" in str(error)
    language, shown = blocks(readme)[0]
    assert (
        language == "text"
        and shown
        == prompt.head()
        + "".join(f"{name}: {{{column}}}\n" for column, name in task.fields.items())
        + f"{task.answer_name}:"
    )


@pytest.mark.parametrize("text", NASTY[:-1])
def test_nasty_texts_in_a_row(text, tokenizer):
    prompt = Prompt.from_card(card := card_of(SARCASM, {"name": "tiny"}))
    row = {"parent_comment": text * 40, "comment": f"before {text} after"}
    assert functions_of(adapter_readme(card), tokenizer)["fit"](row) == predict.fit(tokenizer, prompt, [row])[0][0]


COLOURS = Task("colours", "Name it.", {"text": "text"}, ("Red", "Green", "Dark Green", "C++"))


@pytest.mark.parametrize(
    ("written", "label"),
    [
        (" Green", "Green"),
        (" Dark Green\nand more", "Dark Green"),
        ("\n\n Red, of course", "Red"),
        (" C++", "C++"),
        (" Redder", None),
        (" It is Red", None),
        ("", None),
        ("None\nRed", None),
    ],
)
def test_what_the_model_writes_is_read_as_the_course_reads_it(written, label, tiny):
    card = card_of(COLOURS, tiny.base)
    writer = Writer(tiny.tokenizer, written)
    names = functions_of(adapter_readme(card), tiny.tokenizer, writer)
    assert names["classify"]({"text": "x"}) == label
    assert parse_answer(written, COLOURS) == (None if label is None else COLOURS.labels.index(label))
    longest = max(map(len, predict.label_tokens(tiny, Prompt.from_card(card))))
    assert writer.asked == {"max_new_tokens": longest + predict.SPARE_TOKENS, "attention_mask": ANY, "do_sample": False}


def test_where_the_course_reads_otherwise_the_readme_says_so(tiny):
    for written, course in ((" red", 0), (' "Red"', 0), (" Red or Green", None)):
        card = card_of(COLOURS, tiny.base)
        names = functions_of(adapter_readme(card), tiny.tokenizer, Writer(tiny.tokenizer, written))
        assert parse_answer(written, COLOURS) == course
        assert names["classify"]({"text": "x"}) == (None if course == 0 else "Red")
    readme = adapter_readme(card)
    assert "reads a label in other letter case or in quotation marks, and a line with two labels is invalid" in (
        " ".join(readme.split())
    )
