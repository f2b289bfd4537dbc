"""Exercises of notebook 06: a leak between two files, and the label that a model reads worst."""

from numbers import Integral, Real

from llmcourse.lessons.exercises import exercise

TRAIN = ["Where is my parcel?", "It  broke.", "Thank you!", "Cancel it"]
TEST = ["thank you!", "It broke.", "Where is it?", "cancel it ", "Thank you!"]


def _examine_shared(attempt) -> str | None:
    answer = attempt(TRAIN, TEST)
    if not isinstance(answer, Real) or isinstance(answer, bool):
        return f"return a number: how many of the test texts are known from training. It gives {answer!r}."
    if answer == 1:
        return "it finds only what is the same to the letter. 'thank you!' is a leak too: compare in lower case."
    if answer == 2:
        return (
            "letter case is right, white space is not: 'It  broke.' with two spaces and 'cancel it ' leak too."
            if attempt(["It  broke."], ["It broke."]) == 0
            else "spaces are right, letter case is not: 'thank you!' and 'Thank you!' are the same to a reader."
        )
    if answer == 3:
        if attempt(["a"], ["a", "A"]) == 1:
            return (
                "'thank you!' and 'Thank you!' are two test rows, and both answers are known: count rows, not different"
                " texts."
            )
        return "trim the ends, and fold white space inside too: 'It  broke.' and 'It broke.' are the same."
    if answer != 4:
        return f"4 of these 5 test texts are known from training; it gives {answer!r}."
    if attempt(["a b"], ["ab"]) != 0:
        return "white space is folded to one space, not removed: 'a b' and 'ab' are two texts."
    if attempt(["Yes."], ["Yes"]) != 0:
        return "marks stay as they are here: 'Yes.' and 'Yes' count as two texts."
    if attempt([], ["a"]) != 0 or attempt(["a", "a", "a"], ["A"]) != 1:
        return "count each test row once, however often its text is among the training rows."
    return None


@exercise("06_your_own_task", "Find the leak", difficulty="easy", minutes=4, examine=_examine_shared)
def shared_rows(train, test):
    """How many of the `test` texts are among the `train` texts, whatever their letter case and white space."""
    known = {" ".join(text.lower().split()) for text in train}
    return sum(" ".join(text.lower().split()) in known for text in test)


# 40 + 10 + 50 rows; the last column counts invalid answers
COUNTS = [[30, 6, 4, 0], [0, 5, 1, 4], [15, 0, 35, 0]]


def _examine_weakest(attempt) -> str | None:
    answer = attempt(COUNTS)
    if isinstance(answer, bool) or not isinstance(answer, Integral):
        return f"return the label's place, 0, 1 or 2 for a table of three rows; it gives {answer!r}."
    if answer == 2:
        if attempt([[9, 1, 0], [0, 6, 4]]) == 0:
            return "invalid answers, in the last column, are errors too: they belong to the sum of a label's rows."
        return "label 2 has the most errors, 15, but it also has the most rows. Divide by the rows of each label."
    if answer == 0:
        return "of label 0 the largest share was found, 30 of 40 rows. The smallest is wanted."
    if answer != 1:
        return f"the table has the labels 0, 1 and 2; it gives {answer}."
    if attempt([[5, 1, 0], [0, 20, 20]]) != 1:
        return "5 of 6 rows found is more than 20 of 40: compare shares, not counts."
    if attempt([[10, 0, 0], [10, 10, 0]]) != 1:
        return (
            "what counts is how many of a label's own rows were found (recall), not how many of its answers were right"
            " (precision)."
        )
    if attempt([[2, 8, 0], [0, 6, 0]]) != 0:
        return "it gives label 1 for every table; use the argument."
    if attempt([[0, 0, 0], [1, 3, 0]]) != 1:
        return "a label without rows cannot be judged: leave it out."
    return None


@exercise("06_your_own_task", "The label that is read worst", difficulty="medium", minutes=7, examine=_examine_weakest)
def weakest_label(table):
    """The label of which the smallest share of rows was found; `table[gold]` counts its answers, invalid ones last."""
    recalls = {gold: row[gold] / sum(row) for gold, row in enumerate(table) if sum(row)}
    return min(recalls, key=lambda gold: recalls[gold])
