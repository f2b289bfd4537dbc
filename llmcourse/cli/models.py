"""`llmcourse models`: the models by name."""

import argparse

from llmcourse.cli import shared


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    commands.add_parser("models", help="the models by name").set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the catalogue."""
    from llmcourse.models import catalogue

    print(catalogue.table())
