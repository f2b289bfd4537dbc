"""Exercises: a title, a check that gives hints, and a solution that is stored here and shown folded in its notebook.

An exercise is a solution function under `@exercise(...)`, and an examiner. The notebook has a stub of the same name,
with `...` for its body, and `check("name", stub)` in the same cell:

    @exercise("01_llm_background", "Sharpen a distribution", difficulty="easy", minutes=3, examine=examine_sharpen)
    def sharpen(logits, temperature):
        return softmax(logits / temperature)

The examiner gets the learner's function and tries it on small inputs. It returns None if the function is right, or a
hint that names the likely mistake. The learner's function may return anything.

Solutions have no type annotations and use zip() without strict=, because learners read them.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from llmcourse._base.errors import CourseError

MODULES = ("start", "background", "prompting", "domain", "lora_math", "demo", "own_task")
"""The exercises of notebooks 00 to 06, one module for each. Those of an appendix are beside its notebook's."""

UNTOUCHED = "not attempted yet"
"""What an examiner returns for a stub with given lines, while the missing ones are still missing."""

Examiner: TypeAlias = Callable[[Callable[..., Any]], str | None]
"""Examines a learner's function: None if it is right, or a hint, or `UNTOUCHED`."""


@dataclass(frozen=True)
class Exercise:
    """One exercise."""

    name: str
    notebook: str
    """The notebook's name without .ipynb."""
    title: str
    difficulty: str
    """easy, medium or hard."""
    minutes: int
    solution: Callable[..., Any]
    examine: Examiner

    def header(self) -> str:
        """Return the line above the exercise in its notebook."""
        return f"**Exercise: {self.title}** ({self.difficulty}, {self.minutes} minutes)"

    def source(self) -> str:
        """Return the solution's source text, without the decorator."""
        lines = inspect.getsource(self.solution).splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("def "))
        return "\n".join(lines[start:])

    def folded(self) -> str:
        """Return the solution as the notebook's markdown shows it, folded away."""
        return f"<details>\n<summary>Solution</summary>\n\n```python\n{self.source()}\n```\n\n</details>"

    def verdict(self, attempt: Callable[..., Any]) -> str:
        """Return what `check` prints about a learner's function: not attempted yet, right, or a hint."""
        attempted = []

        def watched(*args: Any, **kwargs: Any) -> Any:
            answer = attempt(*args, **kwargs)
            attempted.append(answer is not None)
            return answer

        hint: str | None
        try:
            hint = self.examine(watched)
        except Exception as error:
            hint = f"it raises {type(error).__name__}: {error}"
        if hint == UNTOUCHED or (attempted and not any(attempted)):  # a stub without given lines returns None
            return UNTOUCHED
        return "right" if hint is None else f"not yet: {hint}"


_exercises: dict[str, Exercise] = {}


def exercise(
    notebook: str, title: str, *, difficulty: str, minutes: int, examine: Examiner
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a solution function as an exercise with the function's name."""

    def register(solution: Callable[..., Any]) -> Callable[..., Any]:
        name = solution.__name__
        _exercises[name] = Exercise(name, notebook, title, difficulty, minutes, solution, examine)
        return solution

    return register


def load_all() -> dict[str, Exercise]:
    """Return all exercises by name."""
    for module in MODULES:
        importlib.import_module(f"{__name__}.{module}")
    return dict(_exercises)


def check(name: str, attempt: Callable[..., Any]) -> None:
    """Print whether a learner's function solves an exercise: not attempted yet, right, or a hint.

    Errors in the learner's function become part of the hint, so that no attempt stops the notebook. Raises CourseError
    only for an unknown exercise.
    """
    print(f"{name}: {_find(name).verdict(attempt)}")


def working(name: str, attempt: Callable[..., Any]) -> Callable[..., Any]:
    """Return the learner's function if it is right, else the solution, so that later cells can use it.

    Raises CourseError for an unknown exercise.
    """
    exercise = _find(name)
    return attempt if exercise.verdict(attempt) == "right" else exercise.solution


def _find(name: str) -> Exercise:
    """Return the exercise of this name. Raises CourseError if there is none."""
    exercises = load_all()
    if name not in exercises:
        raise CourseError(f"There is no exercise {name!r}. Choose one of: {', '.join(exercises)}.")
    return exercises[name]
