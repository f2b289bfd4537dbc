"""Will it run here? Hardware facts, gears, preflight, and what the notebooks' first cell needs.

The first cell imports this package before the dependencies are installed, so the rest of the room is imported when it is first used.
"""

import importlib
from types import ModuleType

from llmcourse.setup.firstcell import check as check
from llmcourse.setup.firstcell import steps as steps


def __getattr__(name: str) -> ModuleType:
    if name not in ("facts", "gears", "preflight"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
