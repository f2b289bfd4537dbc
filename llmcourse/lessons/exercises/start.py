"""Exercises of notebook 00: how answers are counted."""

from llmcourse.lessons.exercises import exercise

GOLD = [0, 1, 1, 0, 1, 0, 0, 1]
FIRST = [0, 1, None, 0, 0, None, 1, 1]
SECOND = [0, 0, 1, 1, None, 0, 1, 1]


def _examine_accuracy(attempt) -> str | None:
    answer = attempt(FIRST, GOLD)
    if answer == 4:
        return "that is the number of right answers. Divide it by the number of rows."
    if abs(answer - 4 / 6) < 1e-9:
        return "that leaves the invalid answers out. An invalid answer is not right, so divide by all rows."
    if abs(answer - 0.5) > 1e-9 or attempt([1, None], [1, 0]) != 0.5 or attempt([None, None], [1, 0]) != 0:
        return f"for 4 right answers, 2 wrong ones and 2 invalid ones it gives {answer}."
    return None


@exercise("00_start_here", "Count invalid answers", difficulty="easy", minutes=3, examine=_examine_accuracy)
def accuracy(predicted, gold):
    """Return the share of all rows that were answered correctly. None is an invalid answer."""
    return sum(a == b for a, b in zip(predicted, gold)) / len(gold)


def _examine_disagreements(attempt) -> str | None:
    answer = attempt(FIRST, SECOND, GOLD)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return "return two numbers: (rows that only the first got right, rows that only the second got right)."
    if tuple(answer) == (2, 2):
        if tuple(attempt([0], [0], [0])) != (0, 0) or tuple(attempt([1, 1], [0, 0], [1, 1])) != (2, 0):
            return "rows that both got right, or both got wrong, do not count for either."
        return None
    if sum(answer) == sum(a != b for a, b in zip(FIRST, SECOND)):
        return "rows on which both are wrong do not count for either, even if their answers differ."
    return f"here the first alone is right on 2 rows and the second alone on 2. It gives {tuple(answer)}."


@exercise("00_start_here", "Count the disagreements", difficulty="medium", minutes=5, examine=_examine_disagreements)
def disagreements(first, second, gold):
    """Return how many rows only the first method got right, and how many only the second."""
    first_alone = sum(a == g and b != g for a, b, g in zip(first, second, gold))
    second_alone = sum(b == g and a != g for a, b, g in zip(first, second, gold))
    return first_alone, second_alone
