"""Running notebooks and normalising what they save."""

import nbformat
import pytest

from tools import notebooks


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
        ("print('x' * 700_000)", "larger than 650 KB"),
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
