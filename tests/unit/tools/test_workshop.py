"""The check of the evening before a workshop, and the commands that the instructor's guide names."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llmcourse import cli
from llmcourse.predict import retrieval
from tools import workshop

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "slides" / "INSTRUCTORS.md").read_text(encoding="utf-8")


def test_the_guides_commands_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"`make ([\w-]+)", GUIDE)) <= set(targets)
    cli.build_parser().parse_args(["preflight", "--workshop"])
    assert "llmcourse preflight --workshop" in GUIDE and workshop.WORKBENCH in GUIDE


# -- the evening before ----------------------------------------------------------------------------------------------

FINE = workshop.Ready(True, True, None, True, True, 200.0, 100.0, 200.0, 200.0)


def test_a_room_that_is_ready_has_nothing_to_do():
    assert {(one.level, one.remedy) for one in workshop.findings(FINE)} == {("ok", "")}


@pytest.mark.parametrize(
    ("changed", "name", "level", "remedy"),
    [
        ({"clone": False}, "clone", "stop", "cd to the course's folder"),
        ({"converted": False}, "model", "note", "llmcourse predict"),
        ({"embeddings": "The embedding model is not installed."}, "embeddings", "stop", retrieval.INSTALL),
        ({"kernel": False}, "kernel", "stop", "ipykernel"),
        ({"lab": False}, "jupyterlab", "note", "jupyterlab"),
        ({"wheel": None}, "wheel", "note", "make wheel"),
        ({"wheel": 50.0}, "wheel", "note", "make wheel"),
        ({"slides": None}, "slides", "note", "make slides"),
        ({"slides": 99.0}, "slides", "note", "make slides"),
        ({"kit": None}, "kit", "note", "make workshop-kit"),
        ({"kit": 99.0}, "kit", "note", "make workshop-kit"),
    ],
)
def test_what_is_missing_comes_with_the_command_that_mends_it(changed, name, level, remedy):
    (found,) = [one for one in workshop.findings(replace(FINE, **changed)) if one.level != "ok"]
    assert (found.name, found.level) == (name, level) and remedy in found.remedy


def touch(path: Path, when: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (when, when))


def test_looking_sees_what_is_there_and_what_is_old(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "cache"))
    assert not workshop.look(tmp_path).clone and not workshop.look(tmp_path).converted
    made = ("notebooks/llmcourse-1-py3-none-any.whl", *workshop.SLIDES, workshop.KIT)
    for name in ("notebooks/00_start_here.ipynb", *made):
        touch(tmp_path / name, 100)
    touch(tmp_path / "llmcourse/main.py", 200)
    seen = workshop.look(tmp_path)
    assert seen.clone and (seen.wheel, seen.slides, seen.kit, seen.newest_source) == (100, 100, 100, 200)
    assert {one.name for one in workshop.findings(seen) if "older" in one.what} == {"wheel", "slides", "kit"}


def test_slides_are_as_old_as_the_older_of_html_and_pdf(tmp_path):
    html, pdf = (tmp_path / path for path in workshop.SLIDES)
    assert (html.suffix, pdf.suffix) == (".html", ".pdf")
    touch(html, 300)
    assert workshop.look(tmp_path).slides is None
    touch(pdf, 100)
    assert workshop.look(tmp_path).slides == 100
    html.unlink()
    assert workshop.look(tmp_path).slides is None


@pytest.mark.parametrize(
    "name",
    [
        "llmcourse/lessons/fromscratch/lora.py", "llmcourse/lessons/recorded/lora.json",
        "llmcourse/data/corpora/sarcasm.csv", "notebooks/05_sarcasm_demo.ipynb",
        "slides/deck.md", "slides/content.py", "slides/talk.json", "slides/theme.css", "benchmarks/results/demo.json",
    ],
)  # fmt: skip
def test_what_slides_and_kit_are_made_from_counts_as_newer(name, tmp_path):
    assert (ROOT / name).is_file()
    touch(tmp_path / "slides/build/deck.md", 900)  # made, not a source
    touch(tmp_path / "slides/node_modules/x/package.json", 900)
    touch(tmp_path / "notebooks/00_start_here.ipynb", 100)
    touch(tmp_path / name, 200)
    assert workshop.look(tmp_path).newest_source == 200


def test_the_command_prints_both_and_stops_outside_a_clone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["preflight", "--gear", "cpu", "--workshop"]) == 2
    said = capsys.readouterr()
    assert "RAM" in said.out and "clone" in said.out and "clone: cd to the course's folder" in said.err


def test_the_check_is_light():
    program = "import sys; from tools import workshop; workshop.look(); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not {name.split(".")[0] for name in modules.split()} & {"torch", "transformers", "matplotlib"}


# -- the kit ---------------------------------------------------------------------------------------------------------
