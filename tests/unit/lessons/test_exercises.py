"""Every exercise: its solution passes, its stub does not, and its notebook shows it as the library stores it."""

from pathlib import Path

import nbformat
import pytest

from llmcourse import CourseError
from llmcourse.lessons import exercises

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
EXERCISES = exercises.load_all()


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes_and_the_stub_does_not(name, capsys):
    exercise = EXERCISES[name]
    exercises.check(name, exercise.solution)
    exercises.check(name, lambda *args, **kwargs: ...)
    exercises.check(name, lambda *args, **kwargs: None)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{name}: right"
    assert not printed[1].endswith(": right") and printed[2] == f"{name}: not attempted yet"


@pytest.mark.parametrize("name", EXERCISES)
def test_an_attempt_that_raises_stops_nothing(name, capsys):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("division by zero")

    exercises.check(name, broken)
    assert "not yet: it raises ZeroDivisionError" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXERCISES)
def test_the_notebook_shows_it(name):
    """Header, a stub with its check in one cell, and the folded solution, as the library has them."""
    exercise = EXERCISES[name]
    cells = nbformat.read(NOTEBOOKS / f"{exercise.notebook}.ipynb", as_version=4).cells
    text = [cell.source for cell in cells if cell.cell_type == "markdown"]
    code = [cell.source for cell in cells if cell.cell_type == "code" and f'check("{name}", {name})' in cell.source]
    assert len(code) == 1 and f"def {name}(" in code[0] and "    ..." in code[0]
    assert any(exercise.header() in source for source in text) and any(exercise.folded() in source for source in text)


def test_two_exercises_a_notebook():
    for path in NOTEBOOKS.glob("*.ipynb"):
        own = [exercise for exercise in EXERCISES.values() if exercise.notebook == path.stem]
        assert len(own) >= 2 and any(exercise.difficulty == "easy" for exercise in own), path.name


def test_an_unknown_exercise_is_named():
    with pytest.raises(CourseError, match="no exercise 'fly'"):
        exercises.check("fly", lambda: None)
