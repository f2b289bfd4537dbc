"""`llmcourse preflight`: look for what would go wrong, before any download."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse._base.errors import CourseError
from llmcourse.cli import shared

if TYPE_CHECKING:
    from llmcourse.setup.preflight import Finding


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("preflight", help="look for what would go wrong, before any download")
    shared.add_machine_arguments(parser)
    parser.add_argument(
        "--workshop", action="store_true", help="also check what an instructor needs, in a clone of the course"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the machine, the gear and the findings. Raises CourseError if something would go wrong."""
    from llmcourse._base import hardware
    from llmcourse.setup import gears, preflight

    machine = hardware.detect_without_torch()
    print(machine.table())
    gear = gears.gear(machine)
    if options.model in (None, gear.model):
        print(f"\n{gear.describe()}\n")
    else:
        print(f"\n{options.model} in the gear {gear.name}\n")
    preflight.check_machine(gears.needs(gear, options.model), _workshop_findings() if options.workshop else ())


def _workshop_findings() -> list["Finding"]:
    """Return the findings of `tools/workshop.py`, which checks a clone and is therefore not in the wheel."""
    clone = Path(__file__).parents[2]
    if not (clone / "tools" / "workshop.py").is_file():
        raise CourseError(
            "--workshop needs a clone of the course, but llmcourse was installed without one."
            " In a clone, run: pip install --editable . && llmcourse preflight --workshop"
        )
    sys.path.append(str(clone))
    from tools import workshop

    return workshop.findings(workshop.look())
