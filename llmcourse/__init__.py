"""Companion library of the notebook course *Finetune LLMs*.

One experiment runs through everything: the same rows, the same base model; prompt it, finetune it, compare.

    rows -> prompt -> model -> predictions -> metrics -> comparison -> figures and report

Importing the package is cheap: torch and transformers are imported by the functions that need them.
"""

__version__ = "0.1.0"


class CourseError(Exception):
    """Something the user can put right. The message says what was wrong, where, and what to do next."""
