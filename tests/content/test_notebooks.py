"""What is saved in the notebooks is normal, and nbval really compares what is marked for comparison."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import architectures
import nbformat
import pytest
import small

from llmcourse import training
from llmcourse.data.tasks import SARCASM
from tools import notebooks

ROOT = Path(__file__).parents[2]
SAVED = sorted((ROOT / "notebooks").glob("*.ipynb"))


def is_marked(cell):
    """Whether nbval compares this cell's output: it has the tag, or the comment that does the same."""
    return "nbval-check-output" in cell.metadata.get("tags", ()) or cell.source.startswith("# NBVAL_CHECK_OUTPUT")


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_saved_notebooks_are_normal(path):
    assert notebooks.problems(path) == []
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert sum(map(is_marked, code)) >= 5
    assert len(code) <= 30 and max(len(cell.source.splitlines()) for cell in code) <= 16


def made(tmp_path, *cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    return tmp_path / "a.ipynb"


def nbval(path):
    """What `make test` does with a notebook, in a process of its own."""
    options = ["-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent)


def test_nbval_compares_marked_cells(tmp_path):
    path = made(tmp_path, "# NBVAL_CHECK_OUTPUT\nprint(1 + 1)", "import time; print(time.time())")
    notebooks.run(path)
    assert nbval(path).returncode == 0
    path.write_text(path.read_text().replace('"2\\n"', '"3\\n"'))
    assert nbval(path).returncode == 1


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_nbval_sees_each_changed_output(path, tmp_path):
    """Each marked cell is made to print what is saved for it, and one character of what is saved is changed: all of
    them must fail."""
    notebook = nbformat.read(path, as_version=4)
    marked = [cell for cell in notebook.cells if cell.cell_type == "code" and is_marked(cell)]
    assert len(marked) >= 5
    for number, cell in enumerate(marked, start=1):
        text = "".join(output.text for output in cell.outputs)
        assert text.strip() and text.strip() != "True"
        cell.source, cell.execution_count = f"# NBVAL_CHECK_OUTPUT\nprint({text!r}, end='')", number
    notebook.cells = marked
    copy = tmp_path / "saved.ipynb"
    for changed, failures in ((False, 0), (True, len(marked))):
        for cell in marked:
            text = "".join(output.text for output in cell.outputs)
            last = "y" if text.rstrip()[-1] == "x" else "x"
            cell.outputs = [nbformat.v4.new_output("stream", text=text.rstrip()[:-1] + last if changed else text)]
        nbformat.write(notebook, copy)
        said = nbval(copy).stdout
        assert said.count("FAILED ") == failures, said[-2000:]


@pytest.fixture
def tokenizer_with_bos():
    """The embedded model's tokenizer, which puts a beginning-of-text token before each text, as Mistral's does."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = small.tokenizer()
    tokenizer.bos_token = "<repo_name>"
    start = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start[0]} $A", special_tokens=[start])
    assert tokenizer("a text").input_ids[0] == tokenizer.bos_token_id
    return tokenizer


def test_05_shows_a_training_row_as_training_sees_it(tokenizer_with_bos, tmp_path):
    (source,) = [
        cell.source
        for cell in nbformat.read(ROOT / "notebooks" / "05_sarcasm_demo.ipynb", as_version=4).cells
        if cell.cell_type == "code" and "figures.loss_mask(" in cell.source
    ]
    model, rows = small.tiny_model(tokenizer_with_bos), small.some_rows()
    seen = small.trainer_for(model, tmp_path, rows=list(rows.train)[:1]).train_dataset[0]
    assert seen["input_ids"].count(tokenizer_with_bos.bos_token_id) == 1
    shown = []
    cell = {
        "training": training,
        "model": model,
        "SARCASM": SARCASM,
        "rows": rows,
        "recipe": small.TWO_EPOCHS,
        "figures": SimpleNamespace(loss_mask=lambda *drawn: shown.append(drawn)),
    }
    exec(source, cell)
    ((tokens, labels),) = shown
    assert tokens == [tokenizer_with_bos.decode(token) for token in seen["input_ids"]]
    assert labels == seen["labels"] and tokenizer_with_bos.bos_token not in tokens[1:]


FEW_ROWS = """
from dataclasses import replace
from llmcourse import data

def with_few_test_rows(load):
    def few(*args, **kwargs):
        rows = load(*args, **kwargs)
        return replace(rows, test=rows.test.select(range(40)))
    return few

data.load, data.load_first = with_few_test_rows(data.load), with_few_test_rows(data.load_first)
"""
AGAIN = """
from llmcourse.training import finetuning
from llmcourse import models

trained, model = [], models.loading._loaded
def count(*args, train=finetuning._Job.attempt):
    trained.append(1)
    return train(*args)
finetuning._Job.attempt = count
"""


QUICK = ("00_start_here",)
"""Run twice by `make test`; the others, which take minutes, by `make test-slow`."""

AGAIN_AND_AGAIN = [
    pytest.param(path, marks=[] if path.stem in QUICK else [pytest.mark.slow, pytest.mark.timeout(1200)], id=path.stem)
    for path in SAVED
]


@pytest.mark.parametrize("path", AGAIN_AND_AGAIN)
def test_cells_may_be_run_again(path, tmp_path, monkeypatch):
    """The whole notebook twice in one kernel, then single later cells: no error, nothing is loaded or trained a second
    time.

    Few test rows are asked: 40, because notebook A1 draws 20 of each label. The training rows stay, so that the shipped
    adapter is found for them.
    """
    from nbclient import NotebookClient

    monkeypatch.setenv("LLMCOURSE_USE_SHIPPED", "1")
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = list(cells)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}})

    def run(source):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
        client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
        return "".join(
            output.get("text", "") for output in notebook.cells[-1].outputs if output.get("name") == "stdout"
        )

    with client.setup_kernel():
        if path.stem != "00_start_here":  # which asks ten rows, and names their places
            run(FEW_ROWS)
        for number, cell in enumerate(cells):
            client.execute_cell(cell, number)
        run(AGAIN)
        for number in [*range(len(cells)), len(cells) // 2, len(cells) * 3 // 4]:
            client.execute_cell(cells[number], number)
        assert run("print(len(trained), models.loading._loaded is model)") == "0 True\n"


ANY_MODEL = {"02_prompting": "gemma3_text", "05_sarcasm_demo": "gpt2", "06_your_own_task": "qwen3"}
"""The notebooks that take the gear's model, and an architecture for each that is not the embedded model's."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ANY_MODEL)
def test_a_notebook_runs_on_another_model(name, tokenizer, tmp_path, monkeypatch):
    """As it is, on a tiny random model in a folder: every cell runs, whatever the model answers."""
    from nbclient import NotebookClient

    (tmp_path / "notebooks").mkdir()  # its results are kept in ../runs
    monkeypatch.setenv("LLMCOURSE_GEAR", "cpu")
    monkeypatch.setenv("LLMCOURSE_MODEL", str(architectures.save(ANY_MODEL[name], tokenizer, tmp_path / "model")))
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    asks = "print(models.loading._loaded.base['name'])"
    notebook.cells = [nbformat.v4.new_code_cell(FEW_ROWS), *notebook.cells, nbformat.v4.new_code_cell(asks)]
    resources = {"metadata": {"path": str(tmp_path / "notebooks")}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    assert notebook.cells[-1].outputs[-1].text == "model\n"
