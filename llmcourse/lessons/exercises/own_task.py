"""Exercises of notebook 06: describe a task, find the weakest label, and find a leak between two files."""

import tempfile
from numbers import Integral, Real
from pathlib import Path

from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.lessons.exercises import exercise

COMPLAINTS = "complaint,priority\n" + "".join(f"Train {i} was late.,{'low' if i % 2 else 'high'}\n" for i in range(20))


def _examine_complaints(attempt) -> str | None:
    from llmcourse import data

    answer = attempt()
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], Task):
        return "return two things: the Task, and a dictionary that maps its columns to those of the file."
    task, columns = answer
    if isinstance(columns, dict) and "priority" in columns:
        return "the columns are the wrong way round: the task's name comes first, as in {'label': 'priority'}."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "complaints.csv"
        path.write_text(COMPLAINTS, encoding="utf-8")
        try:
            rows = data.load(task, path, columns=columns)
        except CourseError as error:
            return f"data.load says: {str(error).replace(str(path), path.name)}"
    if len(task.columns) > 1 or not str(rows.train[0][task.columns[0]]).startswith("Train"):
        return "the model would read another column than the complaint. Name only that one in fields."
    return None


@exercise("06_your_own_task", "Describe a task", difficulty="easy", minutes=5, examine=_examine_complaints)
def complaints_task():
    """Return the Task, and a dictionary from its column names to those of the file."""
    task = Task(
        name="complaints",
        instruction="You read complaints about trains. Say how urgent each one is:",
        fields={"complaint": "complaint"},
        labels=("low", "high"),
    )
    return task, {"label": "priority"}


# 40 + 10 + 50 rows; the last column counts invalid answers
COUNTS = [[30, 6, 4, 0], [0, 5, 1, 4], [15, 0, 35, 0]]


def _examine_weakest(attempt) -> str | None:
    answer = attempt(COUNTS)
    if isinstance(answer, bool) or not isinstance(answer, Integral):
        return f"return the label's number, which is 0, 1 or 2 for a table of three rows. It gives {answer!r}."
    if answer == 2:
        if attempt([[9, 1, 0], [0, 6, 4]]) == 0:
            return "invalid answers, in the last column, are errors too. Count them among the rows of their label."
        return "label 2 has the most errors, 15, but it also has the most rows. Divide by the rows of each label."
    if answer == 0:
        return "label 0 is found most often, in 30 of its 40 rows. Return the label with the smallest share."
    if answer != 1:
        return f"the table has the labels 0, 1 and 2, and it gives {answer}."
    if attempt([[5, 1, 0], [0, 20, 20]]) != 1:
        return "5 of 6 rows is a larger share than 20 of 40. Compare shares, not counts."
    if attempt([[10, 0, 0], [10, 10, 0]]) != 1:
        return (
            "count how many of a label's own rows were found (recall), not how many of its answers were right"
            " (precision)."
        )
    if attempt([[2, 8, 0], [0, 6, 0]]) != 0:
        return "it gives label 1 for every table. Use the argument."
    if attempt([[0, 0, 0], [1, 3, 0]]) != 1:
        return "a label without rows cannot be judged. Leave it out."
    return None


@exercise("06_your_own_task", "The weakest label", difficulty="medium", minutes=7, examine=_examine_weakest)
def weakest_label(table):
    """Return the label with the lowest recall. `table[gold]` counts answers, invalid ones last."""
    recalls = {gold: row[gold] / sum(row) for gold, row in enumerate(table) if sum(row)}
    return min(recalls, key=lambda gold: recalls[gold])


TRAIN = ["Where is my parcel?", "It  broke.", "Thank you!", "Cancel it"]
TEST = ["thank you!", "It broke.", "Where is it?", "cancel it ", "Thank you!"]


def _examine_shared(attempt) -> str | None:
    answer = attempt(TRAIN, TEST)
    if not isinstance(answer, Real) or isinstance(answer, bool):
        return f"return a number: how many of the test texts are also training texts. It gives {answer!r}."
    if answer == 1:
        return "it finds only texts that are the same to the letter. 'thank you!' is a leak too. Compare in lower case."
    if answer == 2:
        return (
            "letter case is right, white space is not. 'It  broke.' with two spaces and 'cancel it ' leak too."
            if attempt(["It  broke."], ["It broke."]) == 0
            else "spaces are right, letter case is not. 'thank you!' and 'Thank you!' are the same to a reader."
        )
    if answer == 3:
        if attempt(["a"], ["a", "A"]) == 1:
            return (
                "'thank you!' and 'Thank you!' are two test rows, and both answers are known. Count rows, not different"
                " texts."
            )
        return "trim the ends, and fold white space inside too. 'It  broke.' and 'It broke.' are the same."
    if answer != 4:
        return f"4 of these 5 test texts are also training texts, and it gives {answer!r}."
    if attempt(["a b"], ["ab"]) != 0:
        return "fold white space to one space, and do not remove it. 'a b' and 'ab' are two texts."
    if attempt(["Yes."], ["Yes"]) != 0:
        return "keep punctuation marks. 'Yes.' and 'Yes' count as two texts here."
    if attempt([], ["a"]) != 0 or attempt(["a", "a", "a"], ["A"]) != 1:
        return "count each test row once, however often its text is among the training rows."
    return None


@exercise("06_your_own_task", "Find the leak", difficulty="easy", minutes=4, examine=_examine_shared)
def shared_rows(train, test):
    """Count the `test` texts that are also in `train`, ignoring letter case and white space."""
    known = {" ".join(text.lower().split()) for text in train}
    return sum(" ".join(text.lower().split()) in known for text in test)
