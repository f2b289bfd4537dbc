"""Asking: a part of the rows first, then the rest; the example's answer in words."""

from llmcourse.data.tasks import SARCASM
from llmcourse.experiment.questions import Asker, Question, in_words
from llmcourse.predict import Generated, Prompt, Scored, engine
from llmcourse.predict.journal import Journal

ROWS = [{"row": n, "label": 0, "comment": f"reply {n}", "parent_comment": "p"} for n in range(5)]


def test_what_a_journal_was_filled_with_is_not_asked_again(tiny, monkeypatch):
    asker = Asker(tiny, ROWS, SARCASM.example, quiet=True)
    question = Question("zero-shot", Prompt(SARCASM), "scored", {})
    whole, example = asker.answer(question, Journal())
    journal = Journal()
    asker.fill(question, journal, [1, 3])
    asked, real = [], engine.batches

    def batches(loaded, prompts, rows, new_tokens):
        asked.append(sorted(rows))
        return real(loaded, prompts, rows, new_tokens)

    monkeypatch.setattr(engine, "batches", batches)
    again, said = asker.answer(question, journal)
    assert asked == [[0, 2, 4], [0]] and again.labels == whole.labels and said == example


def test_a_row_without_example_gives_none(tiny):
    question = Question("zero-shot", Prompt(SARCASM), "scored", {})
    assert Asker(tiny, ROWS[:1], None, quiet=True).answer(question, Journal())[1] is None


def test_an_answer_in_words():
    labels = SARCASM.labels
    assert in_words(Scored([1], 0.1, [[-2.4, -0.1]]), labels) == "Sarcasm"
    assert in_words(Generated([1], 0.1, [" Sarcasm\n"]), labels) == "Sarcasm"
    assert in_words(Generated([1], 0.1, ["It is Sarcasm"]), labels) == "It is Sarcasm (Sarcasm)"
    assert in_words(Generated([None], 0.1, ["mu"]), labels) == "mu (invalid)"
