"""Companion library of the notebook course *Finetune LLMs*.

One experiment runs through everything: the same rows, the same base model; prompt it, finetune it, compare.

    rows -> prompt -> model -> predictions -> metrics -> comparison -> figures and report

Importing the package is cheap: torch and transformers are imported by the functions that need them.
"""

import sys

from llmcourse import redact

__version__ = "0.1.0"


class CourseError(Exception):
    """Something the user can put right. The message says what was wrong, where, and what to do next.

    It often quotes a library's error; neither of the two shows an access token afterwards, nor does a traceback of both.
    """

    def __init__(self, *what):
        super().__init__(*(redact.redacted(one) if isinstance(one, str) else one for one in what))
        redact.clean(sys.exception())  # what is being handled, and will be shown as the cause
