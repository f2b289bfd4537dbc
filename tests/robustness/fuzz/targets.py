"""What is fuzzed: each target takes any bytes and raises only where something is wrong.

`make fuzz` hands them bytes that atheris finds; tests/robustness/test_fuzz_cases.py hands them the bytes kept under
cases/.
"""

import csv
import io
import json
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

from torch import nn

from llmcourse import CourseError, data
from llmcourse._base.spreadsheet import guarded, unguarded
from llmcourse.data.tasks import SARCASM, Task
from llmcourse.data.texts import MAX_CHARACTERS, one_line
from llmcourse.models import adapters
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import parse_answer

TASK = Task("plain", "Sort it.", {"text": "text", "more": "more"}, ("no", "yes"))
KINDS = ("csv", "jsonl", "parquet", "tsv")
_folder = tempfile.TemporaryDirectory()
FOLDER = Path(_folder.name)


def loaders(content: bytes) -> None:
    """The first byte chooses the kind of file and whether rows have labels; the rest is the file."""
    if not content:
        return
    kind, labelled, content = KINDS[content[0] % 4], content[0] & 4, content[1:]
    path = FOLDER / f"a.{kind}"
    path.write_bytes(content)
    try:
        rows = data.read_all(TASK, path, labelled=bool(labelled))
    except CourseError:
        return
    assert rows
    for number, row in enumerate(rows, 1):
        assert row["row"] == number
        for column in TASK.columns:
            assert row[column] and row[column] == row[column].strip() and len(row[column]) <= MAX_CHARACTERS
    if kind in ("csv", "tsv"):
        text = content.decode("utf-8-sig", "replace")  # a column that is not read may hold anything
        delimiter = max(",;\t", key=text.split("\n")[0].count)
        header, *lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if line]
        places = [[name.strip() for name in header].index(column) for column in TASK.columns]
        assert [[row[c] for c in TASK.columns] for row in rows] == [[line[p].strip() for p in places] for line in lines]
    elif kind == "jsonl":
        objects = [json.loads(line) for line in content.split(b"\n") if line.strip()]
        for row, value in zip(rows, objects, strict=True):
            for column in TASK.columns:
                assert not isinstance(value[column], str) or row[column] == value[column].strip()


def parser(content: bytes) -> None:
    """A text, with lone surrogates where the bytes are no UTF-8, as an answer, as a field and as a cell."""
    text = content.decode("utf-8", "surrogateescape")
    label = parse_answer(text, SARCASM)
    assert label in (None, 0, 1)
    assert unguarded(guarded(text)) == text
    try:
        line = one_line(text)
    except CourseError:
        return
    assert len(line.splitlines()) <= 1 and "<|im_end|>" not in line and "<|im_start|>" not in line


CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
CARD = {
    "base": {"name": "tiny"},
    "task": SARCASM.as_dict(),
    "prompt": {"chat": False},
    "training": {},
    "groups": [],
    "spec": {},
}
MATRIX = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


def _model() -> nn.Module:
    """A decoder with a single matrix."""
    model = nn.ModuleDict({"model": nn.ModuleDict({"layers": nn.ModuleList()})})
    model["model"]["layers"].append(nn.ModuleDict({"self_attn": nn.ModuleDict({"q_proj": nn.Linear(3, 5)})}))
    model.config = SimpleNamespace(num_hidden_layers=1)
    return model


MODEL = _model()


def _weights() -> bytes:
    parts = {MATRIX.format("A"): [2, 3], MATRIX.format("B"): [5, 2]}
    header, at = {}, 0
    for name, shape in parts.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


PARTS = {
    adapters.CONFIG: json.dumps(CONFIG).encode(),
    adapters.ADAPTER_MARK: json.dumps(CARD).encode(),
    adapters.WEIGHTS: _weights(),
}


def adapter(content: bytes) -> None:
    """The first byte chooses which of an adapter's three files is made of the rest."""
    if not content:
        return
    changed = list(PARTS)[content[0] % 3]
    for name, whole in PARTS.items():
        (FOLDER / name).write_bytes(content[1:] if name == changed else whole)
    try:
        card = adapters.read_card(FOLDER)
    except CourseError:
        return
    assert isinstance(adapters.task_of(card), Task)
    try:
        config = adapters.read_config(FOLDER)
        adapters.check_header(FOLDER / adapters.WEIGHTS, adapters.expected_shapes(MODEL, config))
    except ValueError:
        return
    assert config.r == 2 and config.target_modules == ["q_proj"]


def journal(content: bytes) -> None:
    """Any bytes, alone or after what a journal wrote (by the first byte): what was written is there, and it goes on."""
    path = FOLDER / "log"
    path.unlink(missing_ok=True)
    known = {}
    if content and content[0] % 2:
        known = {0: "a", 1: [0.5, -1.0]}
        Journal(path).add(known, 1.0)
    with open(path, "ab") as file:
        file.write(content[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Journal(path)
        assert all(isinstance(row, int) for row in found.answers)
        if not content[1:].startswith(b"{"):
            assert {row: found.answers.get(row) for row in known} == known
        found.add({9: "new"}, 1.0)
        assert Journal(path).answers == found.answers


TARGETS = {"loaders": loaders, "parser": parser, "adapter": adapter, "journal": journal}
