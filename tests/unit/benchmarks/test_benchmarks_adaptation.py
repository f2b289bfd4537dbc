"""The measurement behind notebook 03: its script on a tiny model, and the file that the notebook reads."""

import json

import adaptation
import pytest

from llmcourse.data import handbook
from llmcourse.lessons import recorded
from llmcourse.predict import retrieval
from llmcourse.predict.answers import verdict


@pytest.mark.slow
def test_arms_are_measured_kept_and_gone_on_with(tiny, tmp_path):
    bench, out = adaptation.Bench(tiny, few=3), tmp_path / "out.json"
    names = adaptation.missing(bench, out)
    for name in names:
        whole = adaptation.measure(bench, name, out)
        assert json.loads(out.read_text()) == whole and name in whole["arms"]
    assert adaptation.missing(bench, out) == []
    for name in (*adaptation.READING, *adaptation.ANSWERING):
        arm = whole["arms"][name]
        followed = [epoch["epoch"] for epoch in arm["epochs"]]
        last = arm["settings"]["epochs"]
        assert followed == ([last] if name.startswith("finetuning") else list(range(1, last + 1)))
        assert arm["seconds"] > 0 and arm["peak_memory_gib"] > 0
        assert ("paraphrased" in arm) == name.startswith("finetuning")
    del whole["arms"][names[-1]]  # as after an interruption
    out.write_text(json.dumps(whole))
    assert adaptation.missing(bench, out) == names[-1:]


def test_other_rows_or_another_model_begin_anew(tiny, make_tiny, tmp_path):
    out = tmp_path / "out.json"
    adaptation.measure(adaptation.Bench(tiny, few=2), "base", out)
    for bench in (adaptation.Bench(tiny, few=3), adaptation.Bench(make_tiny(1), few=2)):
        assert "base" in adaptation.missing(bench, out)
        assert list(adaptation.measure(bench, "base", tmp_path / "other.json")["arms"]) == ["base"]


@pytest.fixture(scope="module")
def results():
    return recorded.read("adaptation")


def test_the_file_is_whole_and_about_this_handbook(results, embedded_model, tmp_path):
    bench = adaptation.Bench(embedded_model)
    assert adaptation.missing(bench, recorded.path("adaptation")) == []
    assert results["date"] and results["machine"]["cores"] and results["versions"]["torch"]
    for name, settings in (adaptation.READING | adaptation.ANSWERING).items():
        assert results["arms"][name]["settings"] == json.loads(json.dumps(adaptation.asdict(settings)))


def test_the_file_agrees_with_itself(results):
    """Each verdict is what the answer beside it gets today, and the counts are those of the verdicts."""
    questions, (_, facts) = handbook.load().questions, handbook.general()
    arms = results["arms"]
    known = [fact for fact, v in zip(facts, arms["base"]["facts"]["verdicts"], strict=True) if v == "right"]
    asked = [(arms["base"]["facts"], facts), *((found, questions) for found in arms["retrieval"]["answers"].values())]
    for name, arm in arms.items():
        if name != "retrieval":
            asked.append((arm["closed"], questions))
        if "settings" in arm:
            asked.append((arm["facts"], known))
        if "paraphrased" in arm:
            asked.append((arm["paraphrased"], questions[::2]))
    assert len(asked) == 1 + 4 + 5 + 4 + 2
    for found, about in asked:
        again = [verdict(text, question.accept) for text, question in zip(found["texts"], about, strict=True)]
        assert found["verdicts"] == again
        assert found["counts"] == {name: again.count(name) for name in ("right", "wrong", "open")}


def test_recall_is_what_the_retrievers_give_today(results):
    book = handbook.load()
    right = [book.place(question) for question in book.questions]
    texts = [passage.whole for passage in book.passages]
    for name, retriever in (("embeddings", retrieval.Embeddings(texts)), ("bm25", retrieval.BM25(texts))):
        for wording in ("question", "paraphrase"):
            ranks = retriever.rank([getattr(question, wording) for question in book.questions], 5)
            found = {str(k): retrieval.recall(ranks, right, k) for k in (1, 3, 5)}
            assert results["arms"]["retrieval"]["recall"][f"{name}, {wording}"] == found
