"""What README and docs/ show is in results files, and what they name exists."""

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
import record

from llmcourse import cli, data, figures
from llmcourse.data import tasks
from llmcourse.lessons import recorded
from llmcourse.training import recipes

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Parts(NamedTuple):
    """What an SVG figure shows. Its bytes depend on matplotlib's version, which may move everything by a pixel."""

    words: list[str]
    """Its text alternative and its texts."""
    points: list[float]
    """The x and y of the data's marks, in pixels."""


def parts_of(svg: str) -> Parts:
    words = re.findall(r'aria-label="(.*?)"', svg) + re.findall(r"<text.*?>(.*?)</text>", svg, flags=re.DOTALL)
    # only data is clipped to the axes; matplotlib versions put legends in different corners
    marks = re.findall(r'<g clip-path="[^"]*">\s*(<use .*?)</g>', svg, flags=re.DOTALL)
    return Parts(words, [float(place) for mark in marks for place in re.findall(r'\b[xy]="(.*?)"', mark)])


def test_a_point_that_moved_is_noticed():
    kept = parts_of(figures.svg(figures.cost_of_shots([0, 2, 4], {"alone": [300, 600, 900]})))
    moved = parts_of(figures.svg(figures.cost_of_shots([0, 2, 4], {"alone": [300, 700, 900]})))
    assert kept.words == moved.words and len(kept.points) == 6 and kept.points != pytest.approx(moved.points, abs=2)


def test_the_measured_part_is_the_results_file():
    results = json.loads(record.RESULTS.read_text(encoding="utf-8"))
    for path, blocks in record.pages(results).items():
        text = path.read_text(encoding="utf-8")
        assert record.rewritten(text, blocks, path.name) == text
    for path, figure in record.figures_of().items():
        kept, drawn = (parts_of(svg) for svg in (path.read_text(encoding="utf-8"), figure))
        assert kept.words == drawn.words, path
        assert kept.points == pytest.approx(drawn.points, abs=2), path
    # measured on the corpus and with the recipe that are here now
    assert results["data"]["test_id"] == data.load(tasks.SARCASM).test_id
    assert results["recipe"] == recipes.QUICK.as_dict()


def test_the_demo_did_what_the_course_says():
    results = json.loads(record.RESULTS.read_text(encoding="utf-8"))
    arms = {arm["name"]: arm for arm in results["arms"]}
    tuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    best = max((arm for arm in results["arms"] if arm["kind"] == "prompted"), key=lambda arm: arm["accuracy"])
    p = {frozenset((test["a"], test["b"])): test["p"] for test in results["tests"]}
    assert tuned["invalid"] == 0
    for name in ("majority", best["name"]):
        assert tuned["accuracy"] > arms[name]["accuracy"] and p[frozenset((tuned["name"], name))] < 0.01
    assert results["peak_memory_gib"] < 4


def test_the_cross_validation_decides_what_the_course_says():
    evidence = recorded.read("evidence")
    methods = {method["name"]: method for method in evidence["crossval"]["sarcasm"]["points"]}
    rows = data.load(tasks.SARCASM)
    assert evidence["recipe"] == recipes.QUICK.as_dict()
    assert all(method["n"] == len(rows.train) + len(rows.test) for method in methods.values())
    lora = methods["LoRA"]
    for name in ("bag of words", "sentence embeddings"):
        assert lora["accuracy"] > methods[name]["accuracy"] and methods[name]["p_against_lora"] < 0.001
    prompts = [method["accuracy_ci95"] for method in methods.values() if method["kind"] == "prompted"]
    assert prompts and all(low < 0.5 for low, _ in prompts)  # none is shown to beat guessing


def test_commands_are_understood():
    parser = cli.build_parser()
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    commands = re.findall(r"^(?:llmcourse|python -m llmcourse) (.+?)(?:\s{2,}#.*)?$", text, flags=re.MULTILINE)
    assert len(commands) >= 15
    for command in commands:
        parser.parse_args(shlex.split(command, comments=True))


def test_every_make_target_that_a_page_names_exists():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {name for page in PAGES for name in re.findall(r"`make ([\w-]+)", page.read_text(encoding="utf-8"))}
    assert {"bench", "origin", "origin-check"} <= named <= set(targets)


@pytest.mark.slow
def test_python_on_a_page_runs(capsys):
    """The examples that are whole programs; they load the model and compute vectors of a corpus."""
    programs = [
        code
        for page in PAGES
        for code in re.findall(
            r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
    ]
    assert programs
    for program in programs:
        exec(compile(program, "page", "exec"), {})
        assert "Question" in capsys.readouterr().out
