"""What notebooks take from `llmcourse.setup`."""

import json
import subprocess
import sys
from pathlib import Path

import llmcourse
from llmcourse import setup
from llmcourse._base import hardware


def test_the_gear_is_the_machines(monkeypatch):
    monkeypatch.setenv(hardware.GEAR_VARIABLE, "t4")
    assert setup.gear() is setup.GEARS["t4"]
    assert setup.needs(setup.gear()).model == setup.GEARS["t4"].model
    assert setup.machine() is hardware.detect()


def test_the_first_cell_needs_no_dependencies():
    """Only the standard library and packaging are imported before pip has run."""
    root = str(Path(llmcourse.__file__).parents[1])
    program = (
        f"import sys; sys.path.insert(0, {root!r}); before = set(sys.modules); from llmcourse import setup\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"llmcourse", "packaging"}


def test_on_colab_runs_are_beside_the_notebook(tmp_path, monkeypatch):
    """Colab opens notebooks in /content, and its file panel shows what is in there."""
    content = tmp_path / "content"
    content.mkdir()
    monkeypatch.chdir(content)
    assert setup.runs_folder().resolve() == tmp_path / "runs"  # a clone's, which the command line uses too
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert setup.runs_folder().resolve() == content / "runs"


def test_notebooks_keep_their_runs_there():
    notebooks = Path(__file__).parents[3] / "notebooks"
    for name in ("04_lora_math", "05_sarcasm_demo", "06_your_own_task"):
        cells = json.loads((notebooks / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        code = "".join(line for cell in cells for line in cell["source"])
        assert "folder=setup.runs_folder()" in code and "../runs" not in code
