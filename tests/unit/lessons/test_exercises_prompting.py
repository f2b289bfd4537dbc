"""Usual mistakes in the exercises of notebooks 02 and A1 get the hint that is meant for them."""

import math

import pytest

from llmcourse.lessons.exercises import load_all

LABELS = ("Sarcasm", "Not Sarcasm")


def normalised(values):
    return [value / sum(values) for value in values]


CALIBRATE = [
    (lambda p, f: [a / b for a, b in zip(p, f, strict=True)], "not normalised"),
    (lambda p, f: [a * b for a, b in zip(p, f, strict=True)], "divide by it"),
    (lambda p, f: [a - b for a, b in zip(p, f, strict=True)], "divide by it"),
    (lambda p, f: normalised([a * b for a, b in zip(p, f, strict=True)]), "doubles the preference"),
    (lambda p, f: normalised([math.exp(a - b) for a, b in zip(p, f, strict=True)]), "keeps 1/3"),
    (lambda p, f: p, "keeps 1/3"),
    (lambda p, f: p[0] / f[0], "one probability for each label"),
    (lambda p, f: [1 / 3, 2 / 3] if len(p) == 2 else normalised(p), "a third each"),
]


@pytest.mark.parametrize(("attempt", "hint"), CALIBRATE, ids=[hint for _, hint in CALIBRATE])
def test_mistakes_in_calibrate(attempt, hint):
    verdict = load_all()["calibrate"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict


def first_that_is_in(text, labels):
    return next((i for i, label in enumerate(labels) if label.lower() in text.lower()), None)


def exact(text, labels):
    return labels.index(text.strip()) if text.strip() in labels else None


def exact_in_any_case(text, labels):
    return next((i for i, label in enumerate(labels) if label.lower() == text.strip().lower()), None)


def longest_that_is_in(text, labels):
    matches = [label for label in labels if label.lower() in text.lower()]
    return labels.index(max(matches, key=len)) if matches else None


def longest_that_it_begins_with(text, labels):
    matches = [label for label in labels if text.strip().lower().startswith(label.lower())]
    return labels.index(max(matches, key=len)) if matches else None


def without_strip(text, labels):
    by_length = sorted(labels, key=len, reverse=True)
    return next((labels.index(label) for label in by_length if text.startswith(label)), None)


PARSE = [
    (lambda text, labels: text.strip() or None, "label's place"),
    (first_that_is_in, "longer label first"),
    (without_strip, "strip() both"),
    (exact, "letter case"),
    (longest_that_is_in, "return None"),
    (longest_that_it_begins_with, "Sarcasmus"),
    (exact_in_any_case, "they count"),
    (
        lambda text, labels: load_all()["parse_first_label"].solution(text, LABELS),
        "labels of this task only",
    ),
]


@pytest.mark.parametrize(("attempt", "hint"), PARSE, ids=[hint for _, hint in PARSE])
def test_mistakes_in_parse_first_label(attempt, hint):
    verdict = load_all()["parse_first_label"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict


def test_another_right_way_is_right():
    import re

    def parse(text, labels):
        words = sorted(labels, key=len, reverse=True)
        match = re.match("|".join(rf"{re.escape(word)}\b" for word in words), text.strip(), re.IGNORECASE)
        return next(i for i, w in enumerate(labels) if w.lower() == match.group().lower()) if match else None

    assert load_all()["parse_first_label"].verdict(parse) == "right"


VOTE = [
    (lambda answers: max(map(answers.count, answers)), "how many prompts agree"),
    (lambda answers: answers[0], "most are 2"),
    (lambda answers: max([a for a in answers if a], key=answers.count), "label of 0"),
    (lambda answers: max(answers, key=answers.count), "invalid answers out"),
    (lambda answers: max(sorted({*answers} - {None}), key=answers.count), "comes first"),
    (lambda answers: max([a for a in answers if a is not None], key=answers.count, default=0), "Return None"),
]


@pytest.mark.parametrize(("attempt", "hint"), VOTE, ids=[hint for _, hint in VOTE])
def test_mistakes_in_vote(attempt, hint):
    verdict = load_all()["vote"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict


FLIPS = [
    (lambda before, after, wanted: sum(a != b for a, b in zip(before, after, strict=True)), "every changed answer"),
    (lambda before, after, wanted: after.count(wanted), "before"),
    (lambda before, after, wanted: 0, "one answer turns"),
    (lambda before, after, wanted: sum(a < b for a, b in zip(before, after, strict=True)), "Use `wanted`"),
]


@pytest.mark.parametrize(("attempt", "hint"), FLIPS, ids=[hint for _, hint in FLIPS])
def test_mistakes_in_flips_to(attempt, hint):
    verdict = load_all()["flips_to"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict


def by_length(prompts):
    shortest = min(map(len, prompts)) - 1
    return next((i for i in range(shortest) if len({prompt[i] for prompt in prompts}) > 1), shortest)


SHARED = [
    (lambda prompts: sum(len(set(tokens)) < 3 for tokens in zip(*prompts, strict=False)), "Stop at the first one"),
    (lambda prompts: min(map(len, prompts)) - 2, "the two tokens 1, 2"),
    (by_length, "zip() stops in time"),
    (lambda prompts: 2, "share nothing"),
]


@pytest.mark.parametrize(("attempt", "hint"), SHARED, ids=[hint for _, hint in SHARED])
def test_mistakes_in_shared_tokens(attempt, hint):
    verdict = load_all()["shared_tokens"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict
