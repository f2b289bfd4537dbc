"""Exercises: a title, a check that teaches, and a solution that is stored once, here, and shown folded in its notebook.

An exercise is a solution function under `@exercise(...)`, and an examiner. In the notebook stands a stub of the same name with
`...` for its body, and `check("name", stub)` in the same cell:

    @exercise("01_llm_background", "Sharpen a distribution", difficulty="easy", minutes=3, examine=examine_sharpen)
    def sharpen(logits, temperature):
        return softmax(logits / temperature)

The examiner gets the learner's function, tries it on small inputs, and returns None if it is right, or a hint that names
the likely mistake. It may assume nothing about what comes back.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmcourse._base.errors import CourseError

MODULES = ("start", "background", "prompting", "domain", "lora_math", "demo", "own_task")
"""The exercises of notebooks 00 to 06, a module each."""


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
    examine: Callable[[Callable[..., Any]], str | None]
    """Gets a function in the solution's place; returns a hint, or None if it is right."""

    def header(self) -> str:
        """The line above the exercise in its notebook."""
        return f"**Exercise: {self.title}** ({self.difficulty}, {self.minutes} minutes)"

    def source(self) -> str:
        """The solution's source text, without the decorator."""
        lines = inspect.getsource(self.solution).splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("def "))
        return "\n".join(lines[start:])

    def folded(self) -> str:
        """The solution as a notebook's markdown shows it: folded away."""
        return f"<details>\n<summary>Solution</summary>\n\n```python\n{self.source()}\n```\n\n</details>"


_known: dict[str, Exercise] = {}


def exercise(notebook: str, title: str, *, difficulty: str, minutes: int, examine: Callable) -> Callable:
    """Register a solution function as an exercise under the function's name."""

    def register(solution: Callable) -> Callable:
        _known[solution.__name__] = Exercise(solution.__name__, notebook, title, difficulty, minutes, solution, examine)
        return solution

    return register


def every() -> dict[str, Exercise]:
    """All exercises by name."""
    for module in MODULES:
        importlib.import_module(f"{__name__}.{module}")
    return dict(_known)


def check(name: str, attempt: Callable[..., Any]) -> None:
    """Print what is to be said of an attempt: not attempted yet, right, or a hint.

    A stub returns None (its body is `...`) and stops no notebook. Raises CourseError only for a name that no exercise has.
    """
    known = every()
    if name not in known:
        raise CourseError(f"There is no exercise {name!r}. There are: {', '.join(known)}.")
    print(f"{name}: {verdict(known[name], attempt)}")


def verdict(one: Exercise, attempt: Callable[..., Any]) -> str:
    """What `check` prints, without the name."""
    answered = []

    def watched(*args, **kwargs):
        answer = attempt(*args, **kwargs)
        answered.append(answer is not None)
        return answer

    try:
        hint = one.examine(watched)
    except Exception as error:
        if answered and not any(answered):
            return "not attempted yet"
        return f"not yet: it raises {type(error).__name__}: {error}"
    if answered and not any(answered):
        return "not attempted yet"
    return "right" if hint is None else f"not yet: {hint}"
