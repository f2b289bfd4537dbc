"""Usual mistakes in the exercises of notebook 01, and the hint that each gets."""

import pytest
import torch

from llmcourse.lessons import exercises


def unscaled(values, places, probs):
    kept = torch.zeros_like(probs)
    kept[places] = values
    return kept


def scores(query, key):
    return query @ key.T / query.shape[-1] ** 0.5


def future(query, diagonal=1):
    return torch.ones(len(query), len(query)).triu(diagonal).bool()


def threshold(probs, k):
    kept = torch.where(probs >= probs.topk(k).values[-1], probs, 0)
    return kept / kept.sum()


INF = float("-inf")
MISTAKES = [
    ("top_k", lambda p, k: unscaled(*p.topk(k), p), "Divide by their sum"),
    ("top_k", lambda p, k: p.topk(k).values, "Return all 5 probabilities"),
    ("top_k", lambda p, k: p.topk(k), "Return all 5 probabilities"),
    ("top_k", lambda p, k: p.argsort(), "not the places"),
    ("top_k", lambda p, k: [0, 0.57, 0, 0.43, 0], "return a tensor"),
    ("top_k", lambda p, k: unscaled(*(-p).topk(k), p).abs() / 0.15, "least probable"),
    ("top_k", lambda p, k: unscaled(*p.topk(k), p) / 2, "adds up to 0.35"),
    ("top_k", lambda p, k: p / p.sum(), "leaves 5 tokens"),
    ("top_k", lambda p, k: unscaled(p.topk(k).values.softmax(0), p.topk(k).indices, p), "4 to 3"),
    ("top_k", lambda p, k: unscaled(*p.topk(2), p) / p.topk(2).values.sum(), "k = 2 only"),
    ("top_k", threshold, "more than k"),
    ("weights_gib", lambda n, bits: n * bits / 2**30, "a byte has 8 bits"),
    ("weights_gib", lambda n, bits: n * bits / 8, "those are bytes"),
    ("weights_gib", lambda n, bits: n * bits / 8 / 1e9, "10**9"),
    ("weights_gib", lambda n, bits: n * bits / 8 / 2**20, "MiB"),
    ("weights_gib", lambda n, bits: n * (bits // 8) / 2**30, "half a byte"),
    ("weights_gib", lambda n, bits: n, "take 16 GiB"),
    ("weights_gib", lambda n, bits: "16 GiB", "one number"),
    ("head_weights", lambda q, k: q, "(5, 5)"),
    ("head_weights", lambda q, k: (q @ k.T).masked_fill(future(q), INF).softmax(-1), "not scaled"),
    ("head_weights", lambda q, k: (q @ k.T / 16).masked_fill(future(q), INF).softmax(-1), "square root"),
    ("head_weights", lambda q, k: scores(q, k).softmax(-1), "nothing is masked"),
    ("head_weights", lambda q, k: scores(q, k).masked_fill(future(q).T, INF).softmax(-1), "wrong way round"),
    ("head_weights", lambda q, k: scores(q, k).masked_fill(future(q, 0), INF).softmax(-1), "NaNs"),
    ("head_weights", lambda q, k: scores(q, k).softmax(-1).masked_fill(future(q), 0), "after softmax"),
    ("head_weights", lambda q, k: scores(q, k).masked_fill(future(q), 0).softmax(-1), "exp(0) is 1"),
    ("head_weights", lambda q, k: scores(q, k).masked_fill(future(q), INF).softmax(0), "wrong axis"),
    ("head_weights", lambda q, k: scores(q, k).masked_fill(future(q), INF), "those are scores"),
    ("head_weights", lambda q, k: torch.eye(5), "the weights are others"),
    ("head_weights", lambda q, k: torch.ones(5, 5), "do not add up to 1"),
]


@pytest.mark.parametrize(("name", "attempt", "hint"), MISTAKES)
def test_a_usual_mistake_gets_its_hint(name, attempt, hint):
    verdict = exercises.load_all()[name].verdict(attempt)
    assert verdict.startswith("not yet: ") and hint in verdict


def test_another_way_to_write_it_is_right():
    def by_sorting(probs, k):
        kept = torch.where(torch.zeros_like(probs).scatter(0, probs.sort(descending=True).indices[:k], 1) > 0, probs, 0)
        return kept / kept.sum()

    def lower_triangle(query, key):
        seen = torch.ones(len(query), len(query)).tril()
        powers = scores(query, key).exp() * seen
        return powers / powers.sum(-1, keepdim=True)

    assert exercises.load_all()["top_k"].verdict(by_sorting) == "right"
    assert exercises.load_all()["head_weights"].verdict(lower_triangle) == "right"
