"""What notebooks take from `llmcourse.setup`."""

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
