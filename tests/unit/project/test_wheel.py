"""The wheel holds all of the library, and works where there is no repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_it_holds_every_file_of_the_library(course_wheel):
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "llmcourse").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    held = set(zipfile.ZipFile(course_wheel).namelist())
    assert len(files) > 90 and files <= held, sorted(files - held)


def test_it_works_without_the_repository(course_wheel, tmp_path):
    zipfile.ZipFile(course_wheel).extractall(tmp_path / "site")
    program = """
import sys, llmcourse
from pathlib import Path
from llmcourse import cli
from llmcourse import data, models
from llmcourse.data import tasks
assert Path(llmcourse.__file__).is_relative_to(sys.argv[1]), llmcourse.__file__
for task in tasks.TASKS.values():
    assert len(data.load(task).test) > 50 and models.read_card(models.shipped_adapter(task.name))["training"]
sys.exit(cli.main(["predict", "What a great idea, again.", "--parent", "They moved the meeting to six."]))
"""
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path / "site")],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "before finetuning: " in done.stdout and "after finetuning: " in done.stdout
    assert not list((tmp_path / "elsewhere").iterdir())
