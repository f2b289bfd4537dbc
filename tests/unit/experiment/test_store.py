"""The store of arms: what is kept is found as it was, and what answers other rows is refused."""

import pytest

from llmcourse import CourseError
from llmcourse.data.tasks import SARCASM
from llmcourse.experiment import Arm
from llmcourse.experiment.store import ArmStore, predictions_csv, read_predictions
from llmcourse.predict import Generated, Predictions, Scored

ROWS = [{"row": n + 1, "label": n % 2, "comment": f"reply {n}", "parent_comment": "p"} for n in range(4)]
KINDS = [
    Predictions([0, 1, 1, 0], 0.5),
    Generated([0, None, 1, 0], 0.5, ["Not Sarcasm", "=1+1", " Sarcasm\n", "a,b"]),
    Scored([0, 1, 1, 0], 0.5, [[-0.1, -2.4], [-2.4, -0.1]] * 2, [-0.7, -0.6]),
]


@pytest.fixture
def store(tmp_path):
    return ArmStore(tmp_path, SARCASM, ROWS)


def keep(store, predictions, **spec):
    arm = Arm("an arm", "prompted", {"way": type(predictions).__name__, **spec}, predictions, store.score(predictions))
    return store.keep(arm)


@pytest.mark.parametrize("predictions", KINDS, ids=lambda predictions: type(predictions).__name__)
def test_an_arm_comes_back_as_it_was_kept(store, predictions):
    kept = keep(store, predictions)
    found = store.find(kept.spec, "another name")
    assert (found.name, found.kind, found.folder) == ("another name", "prompted", kept.folder)
    assert found.predictions == predictions and found.score == kept.score and found.answered == kept.answered
    assert [spec for spec, _ in store.entries()] == [kept.spec]
    assert store.find({"way": "none"}, "an arm") is None


def test_answers_to_other_rows_are_refused(store, tmp_path):
    kept = keep(store, KINDS[0])
    other = ArmStore(tmp_path, SARCASM, [{**row, "label": 1} for row in ROWS])
    with pytest.raises(CourseError, match="answers other rows than these"):
        other.find(kept.spec, "an arm")


def test_keeping_an_arm_removes_the_journals_and_counts_them(store):
    spec = {"way": "Predictions"}
    for process in (0, 1):
        store.journal(spec, process).add({process: "x"}, 1.0 + process)
    journal = store.journal(spec)
    assert journal.answers == {0: "x", 1: "x"} and journal.seconds == 2.0  # they answered at the same time
    kept = keep(store, KINDS[0])
    assert kept.answered["processes"] == 2 and store.journal(spec).answers == {}


def test_the_table_of_predictions_can_be_read_again(tmp_path):
    path = tmp_path / "predictions.csv"
    for predictions in KINDS:
        path.write_text(predictions_csv(SARCASM, ROWS, predictions), encoding="utf-8", newline="")
        entry = {"seconds": 0.5, "bias": getattr(predictions, "bias", None)}
        assert read_predictions(path, SARCASM, ROWS, entry) == predictions
