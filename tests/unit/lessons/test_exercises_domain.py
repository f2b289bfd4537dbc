"""Exercises of notebook 03 and appendix A2: the usual mistakes get the hint that names them."""

import math
import re

import pytest

from llmcourse.lessons import exercises

EXERCISES = exercises.load_all()
MISTAKES = [
    ("holds", lambda text, answer: text == answer, "whole sentence"),
    ("holds", lambda text, answer: answer in text, "upper and lower case"),
    ("holds", lambda text, answer: answer.lower() in text.lower(), "must not touch"),
    ("holds", lambda text, answer: bool(re.search(rf"\b{answer}\b", text, re.IGNORECASE)), "re.escape"),
    ("nearest", lambda question, pages, k: (pages @ question).topk(k).indices, "long"),
    ("nearest", lambda question, pages, k: (pages - question).norm(dim=1).argsort()[:k].tolist(), "distances"),
    ("nearest", lambda question, pages, k: cosines(question, pages).topk(k).values.tolist(), "indices"),
    ("nearest", lambda question, pages, k: cosines(question, pages).argsort()[:k].tolist(), "least similar"),
    ("nearest", lambda question, pages, k: cosines(question, pages).topk(2).indices.tolist(), "argument k"),
    ("blame", lambda found, right, verdicts: sum(v != "right" for v in verdicts), "two numbers"),
    ("blame", lambda found, right, verdicts: (2, 3), "no error"),
    ("blame", lambda found, right, verdicts: (1, 2), "open answer"),
    ("blame", lambda found, right, verdicts: (1, 4), "one part only"),
    ("blame", lambda found, right, verdicts: (3, 1), "swapped"),
    ("forgotten", lambda before, after: (sum(before) - sum(after)) / len(before), "hide"),
    ("forgotten", lambda before, after: sum(lost(before, after)) / len(before), "divide by"),
    ("forgotten", lambda before, after: sum(lost(before, after)), "number of lost"),
    ("forgotten", lambda before, after: 1 - sum(lost(before, after)) / sum(before), "kept"),
    ("gpu_hours", lambda n, tokens, speed: n * tokens / speed / 3600, "6 operations"),
    ("gpu_hours", lambda n, tokens, speed: 2 * n * tokens / speed / 3600, "Training takes 6"),
    ("gpu_hours", lambda n, tokens, speed: 6 * n * tokens / speed, "seconds"),
    ("perplexity_of", lambda texts: math.exp(mean(flat(texts))), "minus sign"),
    ("perplexity_of", lambda texts: -mean(flat(texts)), "loss in nats"),
    ("perplexity_of", lambda texts: math.exp(-sum(flat(texts))), "number of tokens"),
    ("perplexity_of", lambda texts: 2 ** -mean(flat(texts)), "power of 2"),
    ("perplexity_of", lambda texts: mean(math.exp(-logprob) for logprob in flat(texts)), "exp of the mean"),
    ("perplexity_of", lambda texts: mean(math.exp(-mean(text)) for text in texts), "not each text"),
    ("perplexity_of", lambda texts: math.exp(-mean(mean(text) for text in texts)), "not each text"),
    ("perplexity_of", lambda texts: math.exp(-mean(texts[0])), "8 tokens"),
    ("kl_divergence", lambda p, q: sum(b * math.log(b / a) for a, b in zip(p, q, strict=True)), "KL(q || p)"),
    ("kl_divergence", lambda p, q: sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True)), "bits"),
    ("kl_divergence", lambda p, q: sum(a * math.log(b / a) for a, b in zip(p, q, strict=True)), "sign"),
    ("kl_divergence", lambda p, q: sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), "p = 0"),
]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def flat(texts):
    return [logprob for text in texts for logprob in text]


def cosines(question, pages):
    return pages @ question / pages.norm(dim=1) / question.norm()


def lost(before, after):
    return [was and not now for was, now in zip(before, after, strict=True)]


@pytest.mark.parametrize(("name", "attempt", "hint"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_usual_mistake_gets_its_hint(name, attempt, hint):
    verdict = EXERCISES[name].verdict(attempt)
    assert verdict.startswith("not yet: ") and hint in verdict
