"""The bundled handbook as the notebooks read it."""

from llmcourse.data import handbook


def test_the_handbook_and_its_questions_belong_together():
    book = handbook.load()
    assert len(book.passages) == len(book.questions) == 60 and (len(book.seen), len(book.unseen)) == (48, 12)
    for question in book.questions:
        assert book.passage(question).id == question.passage and question.paraphrase and question.answer
    passages, facts = handbook.general()
    assert len(passages) == 16 and len(facts) == 80 and not facts[0].passage
    assert book.passages[0].whole.startswith(f"{book.passages[0].title}\n")
