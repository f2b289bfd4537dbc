"""`llmcourse export`: a finetuned model for others: merged, as plain transformers load it, and published if asked."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.cli import shared

if TYPE_CHECKING:
    from llmcourse.data.tasks import Task

ROWS = 20
"""How many rows both models answer, if --rows does not say."""


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("export", help="a finetuned model as one folder, which needs no course")
    shared.add_adapter_argument(parser)
    parser.add_argument("--task", default="sarcasm", help="the task of the course's adapter (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the new folder of the merged model")
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        help="the type of its weights (default: bfloat16 if the base was published in it, float16 if not)",
    )
    parser.add_argument(
        "--gguf", action="store_true", help="also write a GGUF file for llama.cpp, and a Modelfile for Ollama"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="the base model, where the adapter's card cannot name it: such as its folder"
    )
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="publish the merged model on the Hugging Face hub, or the adapter if there is no --out",
    )
    parser.add_argument("--yes", action="store_true", help="publish without asking")
    group = parser.add_argument_group("comparison with the adapter on its base")
    group.add_argument(
        "--file", type=Path, metavar="FILE", help="rows to ask both (default: the task's bundled test rows)"
    )
    shared.add_column_arguments(group)
    group.add_argument(
        "--rows", type=shared.at_least(0), default=ROWS, metavar="N", help="how many rows (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Merge and write the model, and say how its answers compare. Publish it, or the adapter, if asked."""
    from llmcourse import models
    from llmcourse.models import publishing

    if options.out is None and options.push is None:
        raise CourseError("Where should the merged model be written? Name a new folder: --out FOLDER.")
    if options.push:
        publishing.check(options.push)
    adapter = options.adapter or models.shipped_adapter(shared.task_of(options).name)
    if options.out:
        _export(options, adapter)
    else:
        for option in ("dtype", "gguf", "model", "file"):
            if getattr(options, option):
                raise CourseError(f"--{option} has no effect without --out FOLDER. Leave it out.")
        models.read_card(adapter)  # raises for what is no adapter
    if options.push:
        _push(options, options.out or adapter)


def _export(options: argparse.Namespace, adapter: Path) -> None:
    from llmcourse import models
    from llmcourse.experiment import exporting

    task = shared.course_task(models.task_of(models.read_card(adapter)))
    exported = exporting.export(adapter, options.out, _rows(options, task), options.dtype, options.model, options.gguf)
    print(f"{exported.folder} is the merged model, in {exported.dtype}. README.md says how to use it.")
    shared.print_notes([exported.note] if exported.note else [])
    print(exported.describe())


def _push(options: argparse.Namespace, folder: Path) -> None:
    """Show what will be public, ask, and publish it."""
    from llmcourse.models import publishing

    names = publishing.contents(folder)
    print(f"\n{(folder / 'README.md').read_text(encoding='utf-8').rstrip()}\n")
    print(f"This card and these files would be public as {options.push}:")
    for name, size in names.items():
        print(f"{size:>15,} bytes  {name}")
    if not options.yes and not _agrees():
        raise CourseError("Nothing was published. To publish it, answer yes, or use --yes.")
    print(f"Published: {publishing.push(folder, options.push, list(names))}")


def _agrees() -> bool:
    try:
        return input("Publish them? Type yes: ").strip().lower() == "yes"
    except EOFError:
        return False


def _rows(options: argparse.Namespace, task: "Task") -> list[dict[str, Any]]:
    """Return the rows that both models will answer: those of --file, or the task's own."""
    from itertools import islice

    from llmcourse import data

    if options.file is None and options.column:
        raise CourseError("--column describes a file, and there is none. Name it with --file FILE.")
    if options.file is not None:
        columns = shared.columns_of(options.column)
        rows = data.stream(task, options.file, columns, labelled=False, quotes=options.quotes)
        return list(islice(rows, options.rows))
    if "bundled" not in task.sources or not options.rows:
        return []
    return list(islice(data.load(task).test, options.rows))
