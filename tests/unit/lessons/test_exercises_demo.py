"""Usual mistakes in the exercises of notebook 05, and the hint that each gets."""

import math

import pytest

from llmcourse.lessons import exercises


def _share(logprobs, own):
    return math.exp(logprobs[own]) / sum(map(math.exp, logprobs))


MISTAKES = [
    ("majority_accuracy", lambda train, test: 0.75, "only look at the training rows"),
    ("majority_accuracy", lambda train, test: 0.6, "Count it among the test rows"),
    ("majority_accuracy", lambda train, test: test.count(max(set(train), key=train.count)), "Divide them by"),
    ("majority_accuracy", lambda train, test: test.count(0) / len(test), "one pair of lists only"),
    ("majority_accuracy", lambda train, test: 0, "0.25, not 0"),
    ("on_parsed_answers", lambda r, p, s: (80.5, 0.45), "counts all 100 rows"),
    ("on_parsed_answers", lambda r, p, s: (100, 0.5), "fewer answers were labels"),
    ("on_parsed_answers", lambda r, p, s: (80.5, 0.559), "use the arguments"),
    ("on_parsed_answers", lambda r, p, s: 0.56, "return two numbers"),
    ("on_parsed_answers", lambda r, p, s: (45.0, 0.7), "recall x support"),
    ("loss_mask", lambda p, c, e: [*p, *c, e], "every token is learned"),
    ("loss_mask", lambda p, c, e: [-100] * len(p) + [*c], "end-of-text token is missing"),
    ("loss_mask", lambda p, c, e: [-100] * len(p) + [*c, -100], "end-of-text token is masked"),
    ("loss_mask", lambda p, c, e: [-100] * (len(p) - 1) + [*c, e, -100], "shifted by one"),
    ("loss_mask", lambda p, c, e: [*c, e], "each token needs a label"),
    ("loss_mask", lambda p, c, e: [-100, -100, -100, 21, 22, 2], "one row only"),
    ("choice_loss", lambda logprobs, own: -logprobs[own], "also charges the model"),
    ("choice_loss", lambda logprobs, own: math.log(_share(logprobs, own)), "a loss is minus the logarithm"),
    ("choice_loss", _share, "minus its logarithm"),
    ("choice_loss", lambda logprobs, own: -math.log(_share(logprobs, 0)), "the loss of the other label"),
    ("choice_loss", lambda logprobs, own: -math.log2(_share(logprobs, own)), "in bits"),
    ("choice_loss", lambda logprobs, own: math.log(5), "cost ln 3"),
    ("choice_loss", lambda logprobs, own: logprobs, "return one number"),
    ("choice_loss", lambda logprobs, own: 0.7, "not 0.7"),
    ("best_epoch", lambda curve: min(curve, key=lambda entry: entry["loss"]), "the whole entry"),
    ("best_epoch", lambda curve: min(entry["loss"] for entry in curve), "the epoch that has it"),
    ("best_epoch", lambda curve: min(range(len(curve)), key=lambda i: curve[i]["loss"]), "counts from 0"),
    ("best_epoch", lambda curve: max(curve, key=lambda entry: entry["accuracy"])["epoch"], "highest accuracy"),
    ("best_epoch", lambda curve: curve[-1]["epoch"], "the last one"),
    ("best_epoch", lambda curve: min(range(len(curve)), key=lambda i: curve[i]["loss"]) + 1, "own epoch"),
    ("best_epoch", lambda curve: 1, "that of epoch 3"),
    ("comments_ahead", lambda gold, a, b, comments: 2, "return two numbers"),
    ("comments_ahead", lambda gold, a, b, comments: (1, 2), "wrong way round"),
    ("comments_ahead", lambda gold, a, b, comments: (4, 2), "counts rows"),
    ("comments_ahead", lambda gold, a, b, comments: (3, 2), "neither is ahead"),
    ("comments_ahead", lambda gold, a, b, comments: (2, 1), "need not be next to each other"),
    ("comments_ahead", lambda gold, a, b, comments: (0, 0), "(2, 1), not (0, 0)"),
]


@pytest.mark.parametrize(("name", "attempt", "hint"), MISTAKES)
def test_a_usual_mistake_gets_its_hint(name, attempt, hint):
    verdict = exercises.load_all()[name].verdict(attempt)
    assert verdict.startswith("not yet: ") and hint in verdict


def test_the_talks_report_gives_what_the_slides_say():
    """45 right of about 80 that could be read: little better than guessing, and some 20 without an answer."""
    read, right = exercises.load_all()["on_parsed_answers"].solution((0.16, 0.74), (0.67, 0.54), (50, 50))
    assert (round(read), round(right, 2)) == (80, 0.56)
