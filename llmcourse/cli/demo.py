"""`llmcourse demo`: the whole comparison, from the baselines to the report."""

import argparse
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse._base import hardware
from llmcourse.cli import shared

if TYPE_CHECKING:
    from llmcourse.experiment import Arm


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("demo", help="the whole comparison: baselines, prompting, finetuning, report")
    shared.add_rows_arguments(parser)
    shared.add_training_arguments(parser)
    shared.add_machine_arguments(parser)
    parser.add_argument(
        "--record",
        action="store_true",
        help="copy the results to demo-GEAR.json, for the README, the slides and your notes",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run every arm, write the report, and print the comparison."""
    from llmcourse.experiment import report, run_demo

    start = time.perf_counter()
    recipe = shared.recipe_of(options)
    with hardware.PeakMemory() as peak:
        experiment = shared.experiment_of(options)
        print(shared.describe(experiment), flush=True)
        run_demo(experiment, recipe, options.resume, announce=_announce)
    path = report.write(experiment, shared.report_folder(options, experiment), peak.gib)
    if options.record:
        record = _record_path()
        shutil.copyfile(path.with_name("results.json"), record)
        print(f"Recorded: {record}")
    print()
    shared.print_comparison(path)
    print(f"\n{time.perf_counter() - start:.0f} s, peak memory {peak.gib:.1f} GiB. Report: {path}")


def _announce(arm: "Arm") -> None:
    trained = f" (trained in {arm.training['seconds']:.0f} s)" if arm.training else ""
    print(f"{arm}{trained}", flush=True)


def _record_path() -> Path:
    """Return where --record writes: the repository's results if the command runs there, else the current folder."""
    folder = Path("benchmarks/results")
    return (folder if folder.is_dir() else Path()) / f"demo-{hardware.detect().gear}.json"
