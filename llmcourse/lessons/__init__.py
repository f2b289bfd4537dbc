"""Only for the notebooks: exercises, code written from scratch, widgets, and the results of long runs.

    check              examines a learner's solution of an exercise
    working            the learner's solution if it is right, else the given one
    label_rows         lets the reader label rows before a model does
    sample_file        writes a CSV to try notebook 06 with
    error_browser      shows the rows that a method got wrong
    playground         lets a prompt and an adapter judge your own text
    next_token_explorer, rank_explorer, nf4_explorer, fit_explorer
                       figures with controls, of notebooks 01 and 04
    adaptation         continued pretraining and finetuning as a plain PyTorch loop, of notebook 03
    prompting          prompts that differ from a reference prompt in one thing, of notebook 02
    fromscratch        sampling, attention, LoRA, NF4 and the bottleneck adapter, written to be read
    recorded           results files that the notebooks show

The names are imported when they are first used (PEP 562): some of them need torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmcourse.lessons import adaptation as adaptation
    from llmcourse.lessons import fromscratch as fromscratch
    from llmcourse.lessons import prompting as prompting
    from llmcourse.lessons import recorded as recorded
    from llmcourse.lessons.exercises import check as check
    from llmcourse.lessons.exercises import working as working
    from llmcourse.lessons.sample import sample_file as sample_file
    from llmcourse.lessons.widgets.errors import error_browser as error_browser
    from llmcourse.lessons.widgets.explorers import fit_explorer as fit_explorer
    from llmcourse.lessons.widgets.explorers import next_token_explorer as next_token_explorer
    from llmcourse.lessons.widgets.explorers import nf4_explorer as nf4_explorer
    from llmcourse.lessons.widgets.explorers import rank_explorer as rank_explorer
    from llmcourse.lessons.widgets.labelling import label_rows as label_rows
    from llmcourse.lessons.widgets.own_text import playground as playground

_HOMES = {
    "check": "exercises",
    "error_browser": "widgets.errors",
    "fit_explorer": "widgets.explorers",
    "label_rows": "widgets.labelling",
    "next_token_explorer": "widgets.explorers",
    "nf4_explorer": "widgets.explorers",
    "playground": "widgets.own_text",
    "rank_explorer": "widgets.explorers",
    "working": "exercises",
    "sample_file": "sample",
}
_MODULES = ("adaptation", "fromscratch", "prompting", "recorded")

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
