"""Usual mistakes in the exercises of notebook 03 get the hint that is meant for them."""

from math import exp

import pytest

from llmcourse.lessons.exercises import load_all


def share(hits):
    hits = list(hits)
    return sum(hits) / len(hits)


RECALL = [
    (lambda ranks, right, k: sum(r in row[:k] for row, r in zip(ranks, right, strict=True)), "return the share"),
    (lambda ranks, right, k: share(row[0] == r for row, r in zip(ranks, right, strict=True)), "one place alone"),
    (lambda ranks, right, k: share(row[k - 1] == r for row, r in zip(ranks, right, strict=True)), "one place alone"),
    (lambda ranks, right, k: share(r in row for row, r in zip(ranks, right, strict=True)), "so 0.25"),
    (lambda ranks, right, k: share(r in row[: k - 1] for row, r in zip(ranks, right, strict=True)), "so 0.25"),
    (lambda ranks, right, k: share(r in row[: 2 * k - 1] for row, r in zip(ranks, right, strict=True)), "beyond"),
    (lambda ranks, right, k: share(r in row[: max(1, k - 1)] for row, r in zip(ranks, right, strict=True)), "row[:k]"),
]


@pytest.mark.parametrize(("attempt", "hint"), RECALL, ids=range(len(RECALL)))
def test_mistakes_in_recall_at(attempt, hint):
    verdict = load_all()["recall_at"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def flat(texts):
    return [logprob for text in texts for logprob in text]


PERPLEXITY = [
    (lambda texts: exp(mean(flat(texts))), "minus sign"),
    (lambda texts: -mean(flat(texts)), "loss in nats"),
    (lambda texts: exp(-sum(flat(texts))), "number of tokens"),
    (lambda texts: 2 ** -mean(flat(texts)), "power of 2"),
    (lambda texts: mean(exp(-logprob) for logprob in flat(texts)), "exp of each token"),
    (lambda texts: mean(exp(-mean(text)) for text in texts), "not each text"),
    (lambda texts: exp(-mean(mean(text) for text in texts)), "not each text"),
    (lambda texts: exp(-mean(texts[0])), "8 tokens"),
]


@pytest.mark.parametrize(("attempt", "hint"), PERPLEXITY, ids=range(len(PERPLEXITY)))
def test_mistakes_in_perplexity_of(attempt, hint):
    verdict = load_all()["perplexity_of"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict
