"""Interrupted evaluations go on; what a session leaves on a Drive comes back."""

import json

import pytest

from llmcourse import predict
from llmcourse.data import Rows
from llmcourse.data.tasks import SARCASM
from llmcourse.experiment import Experiment
from llmcourse.predict import engine
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import Prompt
from llmcourse.training.recipes import Recipe

RECIPE = Recipe(name="test", r=2, alpha=4, epochs=1, batch_rows=4, learning_rate=1e-2, save_steps=2, max_length=160)


def rows(start, count):
    return [
        {"parent_comment": f"Parent {i}", "comment": f"Reply {i}. " * (1 + i % 9), "label": i % 2, "row": i}
        for i in range(start, start + count)
    ]


class Killed(BaseException):
    pass


def stop_after(batches: int):
    def progress(done, total, count=[0]):  # noqa: B006
        count[0] += 1
        if count[0] == batches:
            raise Killed

    return progress


@pytest.mark.parametrize("way", ["generate", "score", "calibrate"])
def test_an_interrupted_evaluation_asks_only_what_is_missing(way, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "TOKENS_AT_ONCE", 120)

    def ask(journal, progress=None):
        if way == "generate":
            return predict.generate(tiny, Prompt(SARCASM), rows(0, 12), progress, journal)
        return predict.score(tiny, Prompt(SARCASM), rows(0, 12), way == "calibrate", progress, journal)

    whole = ask(None)
    with pytest.raises(Killed):
        ask(Journal(tmp_path / "log"), stop_after(3))
    kept = Journal(tmp_path / "log")
    known = set(kept.answers)
    assert 3 <= len(known) < 12 and kept.seconds > 0
    asked = []
    real = engine.batches

    def batches(loaded, prompts, rows, new_tokens):
        asked.extend(rows)
        return real(loaded, prompts, rows, new_tokens)

    monkeypatch.setattr(engine, "batches", batches)
    resumed = ask(kept)
    assert asked and not known & set(asked)
    assert type(resumed) is type(whole) and resumed.labels == whole.labels
    if isinstance(whole, predict.Generated):
        assert resumed.texts == whole.texts
    else:
        assert resumed.bias == pytest.approx(whole.bias)
        for one, other in zip(resumed.logprobs, whole.logprobs, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
    assert resumed.seconds > kept.seconds * 0.99


def test_a_line_cut_short_is_written_over(tmp_path):
    journal = Journal(tmp_path / "log")
    journal.add({0: "a", 2: None}, 1.5)
    journal.add({1: [0.25, -1.0]}, 0.5)
    whole = (tmp_path / "log").read_bytes()
    for damage in (
        b'{"seconds": 1, "answers": {"3": "x"}}',
        b'{"seconds": 1}\n',
        b"\xff\xfe\n",
        b'{"seconds": 1, "ans',
    ):
        (tmp_path / "log").write_bytes(whole + damage)
        again = Journal(tmp_path / "log")
        assert again.answers == {0: "a", 2: None, 1: [0.25, -1.0]} and again.seconds == 2.0
        again.add({3: "d"}, 1.0)
        assert Journal(tmp_path / "log").answers[3] == "d"
    again.remove()
    assert not (tmp_path / "log").exists() and Journal(tmp_path / "log").answers == {}


def experiment(loaded, folder, **options):
    side = Rows(SARCASM, "made", rows(0, 16), rows(100, 10), {"read": 26})
    return Experiment(side, loaded, folder, quiet=True, **options)


def test_an_arm_goes_on_and_leaves_no_journal(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "TOKENS_AT_ONCE", 120)
    first = experiment(tiny, tmp_path)
    real = Journal.add

    def add(self, answers, seconds, count=[0]):  # noqa: B006
        real(self, answers, seconds)
        count[0] += 1
        if count[0] == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", add)
        with pytest.raises(Killed):
            first.scored(first.prompt(2))
    partial = list((tmp_path / "arms").glob("*.partial.jsonl"))
    assert len(partial) == 1
    arm = experiment(tiny, tmp_path).scored(first.prompt(2))
    assert arm.score.n == 10 and not list((tmp_path / "arms").glob("*.partial.jsonl"))
    answered = json.loads((arm.folder / "arm.json").read_text())["answered"]
    assert (
        answered["machine"]["dtype"] == "float32"
        and "torch" in answered["versions"]
        and arm.as_dict()["answered"] == answered
    )
