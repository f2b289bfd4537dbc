"""What is saved in the notebooks is normal, and nbval really compares what is marked for comparison."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from llmcourse import notebooks

ROOT = Path(__file__).parents[1]
SAVED = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_saved_notebooks_are_normal(path):
    assert notebooks.problems(path) == []
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert sum(cell.source.startswith("# NBVAL_CHECK_OUTPUT") for cell in code) >= 5
    assert len(code) <= 30 and max(len(cell.source.splitlines()) for cell in code) <= 16


def test_there_are_notebooks():
    assert SAVED


def made(tmp_path, *cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    return tmp_path / "a.ipynb"


def test_running_normalises(tmp_path):
    path = made(tmp_path, "import sys; print('bar', file=sys.stderr); print(1)", "2")
    assert notebooks.problems(path)
    notebooks.run(path)
    assert notebooks.problems(path) == []
    first = path.read_bytes()
    notebooks.run(path)
    assert path.read_bytes() == first and b"bar" not in first.replace(b"'bar'", b"")


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("1/0", "an error among the outputs"),
        ("import pathlib; print(pathlib.Path.home() / '.cache/x')", "a path of one machine"),
        ("print('x' * 700_000)", "larger than 600 KB"),
    ],
)
def test_problems_are_found(tmp_path, cell, problem):
    path = made(tmp_path, cell)
    notebook = nbformat.read(path, as_version=4)
    from nbclient import NotebookClient

    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    notebooks.normalise(notebook)
    path.write_text(nbformat.writes(notebook) + "\n")
    assert problem in notebooks.problems(path)


def test_a_failing_cell_leaves_the_file_as_it_was(tmp_path):
    path = made(tmp_path, "1/0")
    before = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        notebooks.run(path)
    assert path.read_bytes() == before


def test_nbval_compares_marked_cells(tmp_path):
    path = made(tmp_path, "# NBVAL_CHECK_OUTPUT\nprint(1 + 1)", "import time; print(time.time())")
    notebooks.run(path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval-lax",
        "--nbval-current-env",
        str(path),
    ]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).returncode == 0
    path.write_text(path.read_text().replace('"2\\n"', '"3\\n"'))
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).returncode == 1
