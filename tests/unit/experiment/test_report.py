"""The report shows what was measured, and nothing foreign."""

import html
import json
import re

import pytest
from small import ONE_EPOCH, some_rows

from llmcourse.data import Rows
from llmcourse.data.tasks import Task
from llmcourse.experiment import Experiment, report, run_demo
from llmcourse.lessons.widgets.errors import first_errors


@pytest.fixture
def study(tiny, tmp_path):
    return Experiment(some_rows(), tiny, tmp_path / "runs", quiet=True)


def test_report_is_one_offline_page_with_everything_escaped(study, tmp_path):
    run_demo(study, ONE_EPOCH)
    study.arms[2].example = "<script>alert(1)</script>"
    path = report.write(study, tmp_path / "out", 1.0)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    # no address but the names of XML vocabularies inside the SVGs
    assert {
        url for url in re.findall(r"https?://[^\s\"<>]+", page) if "w3.org" not in url and "purl.org" not in url
    } == set()
    assert not re.search(r"(src|href)=\"(?!#)", page)
    for arm in study.arms:
        assert html.unescape(page).count(arm.name) >= 2
    assert json.loads((tmp_path / "out" / "results.json").read_text())["arms"][0]["name"] == "majority"


@pytest.mark.filterwarnings("error::UserWarning")
def test_labels_that_matplotlibs_font_lacks_are_in_the_figures(tiny, tmp_path):
    task = Task("shop", "Sort it.", {"text": "Text"}, ("退款问题与投诉", "🤣 funny"))
    train, test = ([{"row": i, "text": f"{side} 第{i}", "label": i % 2} for i in range(8)] for side in "ab")
    study = Experiment(Rows(task, "made.csv", train, test, {}), tiny, tmp_path, quiet=True)
    study.scored(study.prompt())
    figures = re.findall(r"<svg.*?</svg>", report.render(study, study.results()), flags=re.DOTALL)
    assert len(figures) == 2
    for label in task.labels:
        assert figures[1].count(f">{label}</text>") == 2
    assert "image/svg+xml" in first_errors(study, study.arms[0])._repr_mimebundle_()[0]


def test_the_report_table(study):
    study.majority()
    table = report.table(study.results())
    assert table.splitlines()[2].startswith("| majority | 50.0% | one answer for all | 0.33 | 0 |")


def test_a_report_needs_no_finetuned_arm(study):
    study.majority()
    page = report.render(study, study.results())
    assert "majority" in page and "<h2>Training</h2>" not in page and "Where they are wrong" not in page


def test_notable_are_the_tests_of_finetuned_arms():
    arms = [{"name": "words", "kind": "baseline"}, {"name": "shots", "kind": "prompted"}]
    tests = [{"a": "words", "b": "shots", "p": 0.5}, {"a": "shots", "b": "lora", "p": 0.01}]
    assert report.notable_tests({"arms": arms, "tests": tests[:1]}) == tests[:1]
    arms.append({"name": "lora", "kind": "finetuned"})
    assert report.notable_tests({"arms": arms, "tests": tests}) == tests[1:]
