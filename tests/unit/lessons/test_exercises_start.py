"""Usual mistakes in the exercises of notebook 00, and the hint that each gets."""

import pytest

from llmcourse.lessons import exercises


def only_valid(predicted, gold):
    pairs = [(a, b) for a, b in zip(predicted, gold, strict=True) if a is not None]
    return sum(a == b for a, b in pairs) / len(pairs)


MISTAKES = [
    ("accuracy", only_valid, "leaves the invalid answers out"),
    ("accuracy", lambda p, g: sum(a == b for a, b in zip(p, g, strict=True)), "Divide it by the number of rows"),
    ("accuracy", lambda p, g: 0.5, "it gives 0.5"),
    ("disagreements", lambda a, b, g: 4, "return two numbers"),
    ("disagreements", lambda a, b, g: (2, 2), "do not count for either"),
    (
        "disagreements",
        lambda a, b, g: (2, sum(x != y for x, y in zip(a, b, strict=True)) - 2),
        "both are wrong do not count",
    ),
]


@pytest.mark.parametrize(("name", "attempt", "hint"), MISTAKES)
def test_a_usual_mistake_gets_its_hint(name, attempt, hint):
    verdict = exercises.load_all()[name].verdict(attempt)
    assert verdict.startswith("not yet: ") and hint in verdict
