"""The error browser shows the wrong rows one by one, reads nothing in them as HTML, and leaves out slurs."""

import re

import pytest

from llmcourse import CourseError
from llmcourse.data import Rows, screen
from llmcourse.data.tasks import SARCASM, SUPPORT
from llmcourse.experiment import Arm, Experiment, metrics
from llmcourse.lessons.widgets import errors
from llmcourse.predict import Generated, Predictions

BAD = "<script>alert(1)</script> & $x^2$"


def made(tiny, folder, task=SUPPORT) -> Experiment:
    def rows(start, count):
        kinds = len(task.labels)
        return [
            {**dict.fromkeys(task.columns, f"m {i:02}"), "label": i % kinds, "row": i}
            for i in range(start, start + count)
        ]

    test = rows(50, 8)
    test[0][task.columns[-1]] = f"m 50 {BAD}"
    return Experiment(Rows(task, "made", rows(0, 8), test, {}), tiny, folder, quiet=True)


def answered(experiment, labels, texts=None, name="an arm") -> Arm:
    predictions = Generated(labels, 1.0, texts) if texts else Predictions(labels, 1.0)
    score = metrics.evaluate(experiment.gold(), labels, experiment.task.labels)
    return Arm(name, "prompted", {}, predictions, score)


@pytest.fixture
def study(tiny, tmp_path):
    return made(tiny, tmp_path)


GOLD = [2, 3, 0, 1, 2, 3, 0, 1]
ANSWERS = [1, 3, None, 1, 2, 0, 1, 1]  # wrong at 0, 2, 5 and 6
TEXTS = ["Problem", "Praise", f" maybe {BAD}\n", "Problem", "Cancellation", "Question", "Problem", "Problem"]


def test_the_wrong_rows_and_only_those(study):
    assert study.gold() == GOLD
    arm = answered(study, ANSWERS, TEXTS)
    wrong, hidden = errors.wrong_rows(study, arm)
    assert [(error.row["row"], error.gold, error.predicted) for error in wrong] == [
        (50, "Cancellation", "Problem"),
        (52, "Question", "invalid"),
        (55, "Praise", "Question"),
        (56, "Question", "Problem"),
    ]
    assert hidden == 0 and wrong[1].text == TEXTS[2]

    def rows(**narrowed):
        return [wrong.row["row"] for wrong in errors.wrong_rows(study, arm, **narrowed)[0]]

    assert rows(gold="Question") == [52, 56] and rows(predicted="Problem") == [50, 56]
    assert rows(gold="Question", predicted="invalid") == [52] and rows(gold="Problem") == []
    for narrowed in ({"gold": "Irony"}, {"gold": "invalid"}, {"predicted": "problem"}):
        with pytest.raises(CourseError, match=r"has no label '.*'\. Choose one of: any, Question, Problem"):
            rows(**narrowed)


def test_a_figure_comes_first(study, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects, **how: shown.extend(objects))
    with pytest.raises(CourseError, match="The experiment has no methods yet"):
        errors.error_browser(study)
    errors.error_browser(study, [answered(study, ANSWERS), answered(study, [0] * 8, name="always Question")])
    figure, controls = shown
    assert figure.alt.startswith("always Question: 6 of 8 rows wrong. “m 50 <script>")
    assert figure._repr_mimebundle_()[0]["image/png"] and "running notebook" in controls["text/plain"]


def test_the_figure_says_what_it_leaves_out(study):
    figure = errors.first_errors(study, answered(study, [None] * 8))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[-1] == "and 2 more" and texts.count("invalid") == errors.SHOWN == 6
    few = errors.first_errors(study, answered(study, ANSWERS), gold="Praise")
    assert "(right: Praise, answered: any)" in few.alt and "m 55" in few.alt and "m 56" not in few.alt
    none = errors.first_errors(study, answered(study, GOLD))
    assert none.alt == "an arm: 0 of 8 rows wrong. None."


def test_choosing_and_stepping(study):
    browser = errors.ErrorBrowser(study, [answered(study, GOLD, name="all right"), answered(study, ANSWERS, TEXTS)])
    assert browser.arm.value == "an arm" and browser.message.value == "1 of 4" and "m 50" in browser.shown.value
    browser.next.click()
    assert browser.message.value == "2 of 4" and "m 52" in browser.shown.value
    for _ in range(3):
        browser.previous.click()
    assert browser.message.value == "3 of 4" and "m 55" in browser.shown.value  # round and round
    browser.gold.value = "Question"
    assert browser.message.value == "1 of 2" and not browser.next.disabled
    browser.predicted.value = "invalid"
    assert browser.message.value == "1 of 1" and browser.next.disabled and browser.previous.disabled
    browser.arm.value = "all right"
    assert browser.message.value == "no such row" and browser.shown.value == ""
    browser.next.click()
    assert browser.shown.value == ""


def test_texts_are_shown_and_never_read_as_html(study):
    browser = errors.ErrorBrowser(study, [answered(study, ANSWERS, TEXTS)])
    for _ in range(2):
        assert (
            "<script" not in browser.shown.value
            and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x^2$" in browser.shown.value
        )
        browser.next.click()
    assert re.findall(r"<b><bdi>([^<]+)</bdi></b>", errors.row_html(study, browser.errors[1])) == [
        "message",
        "right",
        "answered",
        "the model wrote",
    ]
    # an answer that is the label itself is not shown twice
    assert "the model wrote" not in errors.row_html(study, browser.errors[0])


def test_what_is_not_fit_for_a_projector_is_counted_only(tiny, tmp_path, monkeypatch):
    study = made(tiny, tmp_path, SARCASM)
    monkeypatch.setattr(screen, "fit_to_show", lambda text: "m 51" not in text)
    arm = answered(study, [1 - label for label in study.gold()])
    wrong, hidden = errors.wrong_rows(study, arm)
    assert len(wrong) == 7 and hidden == 1
    assert errors.ErrorBrowser(study, [arm]).message.value == "1 of 7 (1 more are not shown: slurs)"
    figure = errors.first_errors(study, arm)
    assert "8 of 8 rows wrong" in figure.alt and "m 51" not in figure.alt
