"""Usual mistakes in the exercises of notebook 05, and the hint that each gets."""

import pytest

from llmcourse.lessons import exercises

MISTAKES = [
    ("loss_mask", lambda p, c, e: [*p, *c, e], "every token is learned from"),
    ("loss_mask", lambda p, c, e: [-100] * len(p) + [*c], "end-of-text token is missing"),
    ("loss_mask", lambda p, c, e: [-100] * len(p) + [*c, -100], "end-of-text token is masked"),
    ("loss_mask", lambda p, c, e: [-100] * (len(p) - 1) + [*c, e, -100], "shifted by one"),
    ("loss_mask", lambda p, c, e: [*c, e], "a label for each token"),
    ("loss_mask", lambda p, c, e: [-100, -100, -100, 21, 22, 2], "one row only"),
    ("on_parsed_answers", lambda r, p, s: (80.5, 0.45), "counts all 100 rows"),
    ("on_parsed_answers", lambda r, p, s: (100, 0.5), "how many answers were read"),
    ("on_parsed_answers", lambda r, p, s: (80.5, 0.559), "use the arguments"),
    ("on_parsed_answers", lambda r, p, s: 0.56, "return two numbers"),
]


@pytest.mark.parametrize(("name", "attempt", "hint"), MISTAKES)
def test_a_usual_mistake_gets_its_hint(name, attempt, hint):
    verdict = exercises.load_all()[name].verdict(attempt)
    assert verdict.startswith("not yet: ") and hint in verdict


def test_the_talks_report_gives_what_the_slides_say():
    """45 right of about 80 that could be read: little better than guessing, and some 20 without an answer."""
    read, right = exercises.load_all()["on_parsed_answers"].solution((0.16, 0.74), (0.67, 0.54), (50, 50))
    assert (round(read), round(right, 2)) == (80, 0.56)
