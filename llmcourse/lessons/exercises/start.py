"""Exercises of notebook 00: how answers are counted."""

from llmcourse.lessons.exercises import exercise

GOLD = [0, 1, 1, 0, 1, 0, 0, 1]
FIRST = [0, 1, None, 0, 0, None, 1, 1]
SECOND = [0, 0, 1, 1, None, 0, 1, 1]


def _examine_accuracy(attempt) -> str | None:
    answer = attempt(FIRST, GOLD)
    if answer == 4:
        return "that is the number of right answers; divide it by the number of rows."
    if abs(answer - 4 / 6) < 1e-9:
        return (
            "that leaves the invalid answers out."
            " A row that got no usable answer was not answered right: divide by all rows."
        )
    if abs(answer - 0.5) > 1e-9 or attempt([1, None], [1, 0]) != 0.5 or attempt([None, None], [1, 0]) != 0:
        return f"for 4 right answers, 2 wrong ones and 2 invalid ones it gives {answer}."
    return None


@exercise("00_start_here", "Count invalid answers", difficulty="easy", minutes=3, examine=_examine_accuracy)
def accuracy(predicted, gold):
    """Share of all rows that were answered right; None is an invalid answer."""
    return sum(a == b for a, b in zip(predicted, gold)) / len(gold)


def _examine_disagreements(attempt) -> str | None:
    answer = attempt(FIRST, SECOND, GOLD)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return "return two numbers: (rows that only the first got right, rows that only the second got right)."
    if tuple(answer) == (2, 2):
        if tuple(attempt([0], [0], [0])) != (0, 0) or tuple(attempt([1, 1], [0, 0], [1, 1])) != (2, 0):
            return "rows that both got right, or both wrong, count for neither."
        return None
    if sum(answer) == sum(a != b for a, b in zip(FIRST, SECOND)):
        return "rows on which both are wrong count for neither, even if their answers differ."
    return f"here the first alone is right on 2 rows and the second alone on 2; it gives {tuple(answer)}."


@exercise("00_start_here", "Who was right alone?", difficulty="medium", minutes=5, examine=_examine_disagreements)
def disagreements(first, second, gold):
    """Rows that only the first arm got right, and rows that only the second did: all that a paired test looks at."""
    first_alone = sum(a == g != b for a, b, g in zip(first, second, gold))
    second_alone = sum(b == g != a for a, b, g in zip(first, second, gold))
    return first_alone, second_alone
