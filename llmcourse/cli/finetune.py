"""`llmcourse finetune`: train a LoRA adapter. `accelerate launch` can start it in several processes."""

import argparse
import shutil
from pathlib import Path

from llmcourse._base import files
from llmcourse._base.errors import CourseError
from llmcourse.cli import processes, shared


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("finetune", help="train a LoRA adapter")
    shared.add_rows_arguments(parser)
    shared.add_training_arguments(parser)
    shared.add_machine_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="copy the adapter to this folder too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Train an adapter, or find the one that an earlier run trained, and copy it to --out."""
    from llmcourse.models import read_card
    from llmcourse.training import training_notes

    recipe = shared.recipe_of(options)
    if options.out:
        _check_out(options.out)
    experiment = shared.experiment_of(options)
    print(shared.describe(experiment), flush=True)
    folder = processes.finetune(experiment, recipe, options.resume)
    card = read_card(folder)
    training = card["training"]
    if options.out and processes.is_main():
        with files.folder_aside(options.out) as aside:
            shutil.copytree(folder, aside, dirs_exist_ok=True)
    shared.print_notes(training_notes(training, card["recipe"]))
    print(
        f"{training['steps']} steps in {training['seconds']:.0f} s; the last loss is {training['losses'][-1]:.3f}."
        f" Adapter: {options.out or folder}"
    )


def _check_out(out: Path) -> None:
    """Raise CourseError if `out` contains anything but an adapter, which would be lost."""
    from llmcourse.models import adapters

    if not out.exists():
        return
    own = (*adapters.PARTS, "README.md", files.SEAL)
    others = sorted(path.name for path in out.iterdir() if path.name not in own) if out.is_dir() else [out.name]
    if others:
        raise CourseError(f"--out {out} contains {others[0]}, which would be lost. Name a new folder.")
