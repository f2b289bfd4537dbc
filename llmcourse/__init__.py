"""Companion library of the notebook course *Finetune LLMs*.

One experiment runs through everything: the same rows and the same base model; prompt it, finetune it, compare the
results.

    rows -> prompt -> model -> predictions -> comparison -> figures, report, slides
                        ^
                     training

Each step is a package of its own: `data`, `models`, `predict`, `training`, `experiment` and `figures`. `setup` asks
whether the course runs on this machine, `lessons` serves the notebooks, and `cli` is the command line.

Importing the package is cheap. The names below are imported when they are first used (PEP 562), and torch and
transformers only by the functions that need them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from llmcourse._base import __version__ as __version__
from llmcourse._base.errors import CourseError as CourseError

if TYPE_CHECKING:
    from llmcourse.data.tasks import SARCASM as SARCASM
    from llmcourse.data.tasks import SENTIMENT as SENTIMENT
    from llmcourse.data.tasks import SUPPORT as SUPPORT
    from llmcourse.data.tasks import Task as Task
    from llmcourse.experiment import Experiment as Experiment
    from llmcourse.predict.prompts import Prompt as Prompt

_HOMES = {
    "Experiment": "experiment",
    "Prompt": "predict",
    "Task": "data",
    "SARCASM": "data",
    "SENTIMENT": "data",
    "SUPPORT": "data",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
