"""What the README shows is what results files hold, and what it names exists."""

import importlib.util
import json
import re
from pathlib import Path

from llmcourse import cli, data
from llmcourse.data import tasks
from llmcourse.training import recipes

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def record():
    spec = importlib.util.spec_from_file_location("record", ROOT / "benchmarks" / "record.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_measured_part_is_the_results_file():
    module = record()
    results = json.loads(module.RESULTS.read_text(encoding="utf-8"))
    for path, blocks in module.pages(results).items():
        text = path.read_text(encoding="utf-8")
        assert module.rewritten(text, blocks, path.name) == text
    for path, figure in module.speed_figures(module.speed()).items():
        assert path.read_text(encoding="utf-8") == figure
    # measured on the corpus and with the recipe that are here now
    assert results["data"]["test_id"] == data.load(tasks.SARCASM).test_id
    assert results["recipe"] == recipes.QUICK.as_dict()


def test_a_t4_is_claimed_only_where_one_was_used():
    ran = record().ON_A_T4
    assert ("not yet run on a T4" in README) == (not ran.is_file())
    if ran.is_file():
        machine = json.loads(ran.read_text(encoding="utf-8"))["machine"]
        assert machine["capability"] == [7, 5] and "T4" in machine["name"]


def test_the_cpu_gears_minutes_are_those_measured():
    from llmcourse.setup import gears

    results = json.loads(record().RESULTS.read_text(encoding="utf-8"))
    tuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    prompted = sum(arm["seconds_per_row"] * arm["n"] for arm in results["arms"] if arm["kind"] == "prompted")
    said = dict(gears.GEARS["cpu"].minutes)
    assert abs(said["training"] - tuned["training_seconds"] / 60) < 0.5
    assert abs(said["prompted arms"] - prompted / 60) < 1.0
    assert results["peak_memory_gib"] <= gears.GEARS["cpu"].ram_gib


def test_the_demo_did_what_the_course_says():
    results = json.loads(record().RESULTS.read_text(encoding="utf-8"))
    arms = {arm["name"]: arm for arm in results["arms"]}
    tuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    best = max((arm for arm in results["arms"] if arm["kind"] == "prompted"), key=lambda arm: arm["accuracy"])
    p = {frozenset((test["a"], test["b"])): test["p"] for test in results["tests"]}
    assert tuned["invalid"] == 0
    for name in ("majority", best["name"]):
        assert tuned["accuracy"] > arms[name]["accuracy"] and p[frozenset((tuned["name"], name))] < 0.01
    assert results["peak_memory_gib"] < 4


def test_commands_are_understood():
    parser = cli._parser()
    commands = re.findall(r"^(?:llmcourse|python -m llmcourse) (.+?)(?:\s{2,}#.*)?$", README, flags=re.MULTILINE)
    assert len(commands) >= 7
    for command in commands:
        import shlex

        parser.parse_args(shlex.split(command, comments=True))
