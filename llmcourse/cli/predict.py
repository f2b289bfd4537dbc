"""`llmcourse predict`: classify a text, a file's rows, or standard input, before and after finetuning."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.cli import shared
from llmcourse.data.csvfiles import QUOTES

if TYPE_CHECKING:
    from llmcourse.data.tasks import Task
    from llmcourse.predict import Scored


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "predict", help="classify a text, a file's rows, or standard input, before and after finetuning"
    )
    parser.add_argument(
        "text", nargs="?", help="a text; - reads standard input, where each line is a text and line n is row n"
    )
    parser.add_argument("--parent", default="", metavar="TEXT", help="the message that the text replies to")
    parser.add_argument("--file", type=Path, metavar="FILE", help="a CSV, JSON or Parquet file with the task's columns")
    shared.add_column_arguments(parser)
    shared.add_adapter_argument(parser)
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="sarcasm (default), support, or a name for your own, if the adapter does not say it",
    )
    shared.add_own_task_arguments(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="the adapter's base model: its folder on this machine, or a name if the adapter has no card (default: the"
        " one that the adapter names)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write a table of predictions to this CSV file (default: standard output); the same command resumes a"
        " stopped run",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print two lines for a text, or write a table of predictions for a file or standard input."""
    from llmcourse import models
    from llmcourse.predict import shards

    if options.file and options.text is not None:
        raise CourseError("Both a text and --file were given. Give one of them.")
    if options.out and not options.file and options.text != "-":
        raise CourseError("--out works with --file or with - for standard input. A single text is printed.")
    if not options.file and options.text is None:
        raise CourseError("There is nothing to classify. Give a text, - for standard input, or --file FILE.")
    if not options.file and (options.column or options.quotes != QUOTES[0]):
        raise CourseError("--column and --quotes describe a file, and there is none. Name it with --file FILE.")
    if options.file and options.parent:
        raise CourseError("--parent has no effect with --file, whose rows have texts of their own. Leave it out.")
    if options.adapter:
        adapter = shared.adapter_of(options, (), shared.OWN_TASK)
    elif options.model:
        raise CourseError("--model names the base model of an adapter, and there is none. Name it: --adapter FOLDER.")
    else:
        shared.refuse_own_task(options)
        adapter = models.shipped_adapter(shared.task_of(options).name)
    judge = shards.judge_of(adapter, options.model)
    for note in shared.notes_on(adapter):
        print(f"Note: {note}", file=sys.stderr)
    if options.file:
        count = shards.ask_file(
            judge, options.file, options.out, shared.columns_of(options.column), quotes=options.quotes
        )
    elif options.text == "-":
        if sys.stdin is None:
            raise CourseError("Standard input is closed. Send texts to it, or give a text or --file FILE.")
        count = shards.ask_lines(judge, sys.stdin.buffer, options.parent, options.out)
    else:
        before, after = judge.load()([_row(judge.task, options.text, options.parent)])
        print(f"before finetuning: {_describe(judge.task, before)}")
        print(f"after finetuning:  {_describe(judge.task, after)}")
        shards.note_cut(judge, after.cut_rows, 1)
        return
    if options.out:
        print(f"{count:,} predictions: {options.out}")


def _row(task: "Task", text: str, parent: str) -> dict[str, Any]:
    """Return a text as a row of the task. Raises CourseError for unusable text, before a model is loaded."""
    from llmcourse.data.texts import is_blank, one_line

    if is_blank(text):
        raise CourseError("The text to classify is empty. Give a text with at least one word.")
    for value in (text, parent):
        one_line(value)
    return {task.number_column: 1, **dict.fromkeys(task.columns, parent), task.columns[-1]: text}


def _describe(task: "Task", predictions: "Scored") -> str:
    return f"{task.labels[predictions.labels[0]]} ({predictions.probability(0):.0%})"
