"""`llmcourse compare`: every arm that was kept for these test rows, side by side."""

import argparse

from llmcourse._base.errors import CourseError
from llmcourse.cli import shared


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("compare", help="all results kept for these test rows, side by side")
    shared.add_rows_arguments(parser)
    shared.add_machine_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Find the kept arms, write the report, and print the comparison."""
    from llmcourse.experiment import report

    experiment = shared.experiment_of(options)
    if not experiment.find_all():
        raise CourseError(
            f"There are no results for the test set {experiment.rows.test_id} in {options.runs}."
            " Run `llmcourse demo` or `llmcourse evaluate` on the same rows first."
        )
    print(f"{shared.describe(experiment)}\n")
    path = report.write(experiment, shared.report_folder(options, experiment))
    shared.print_comparison(path)
    print(f"\nReport: {path}")
