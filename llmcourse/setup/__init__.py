"""Will the course run here? Hardware, gears, the check before a download, and what the notebooks' first cell installs.

The first cell imports this package before the dependencies are installed. So only `install` is imported at once;
the other names are imported when they are first used (PEP 562).
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base import hardware
from llmcourse.setup.firstcell import install

if TYPE_CHECKING:
    from llmcourse.setup.gears import GEARS, Gear, gear, needs
    from llmcourse.setup.preflight import Finding, check_machine

_HOMES = {
    "GEARS": "gears",
    "Finding": "preflight",
    "Gear": "gears",
    "check_machine": "preflight",
    "gear": "gears",
    "needs": "gears",
}

__all__ = ["GEARS", "Finding", "Gear", "check_machine", "gear", "install", "machine", "needs", "runs_folder"]


def machine() -> hardware.Hardware:
    """Return what this machine has: device, memory, and the number type that suits it. Imports torch."""
    return hardware.detect()


def runs_folder() -> Path:
    """Return where notebooks keep what they computed.

    On Colab this is `runs` beside the notebook, which the file panel shows. In a clone it is the `runs` beside the
    notebooks' folder, which the command line uses too.
    """
    return Path("runs") if hardware.on_colab() else Path("../runs")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
