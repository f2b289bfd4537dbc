"""`llmcourse predict`: classify a text, a file's rows, or standard input, before and after finetuning."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.cli import shared

if TYPE_CHECKING:
    from llmcourse.data.tasks import Task
    from llmcourse.predict import Scored


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "predict", help="classify a text, a file's rows, or standard input, before and after finetuning"
    )
    parser.add_argument("text", nargs="?", help="a text; - reads one text per line from standard input")
    parser.add_argument("--parent", default="", metavar="TEXT", help="the message that the text replies to")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="a CSV, JSONL or Parquet file with the task's columns"
    )
    shared.add_column_arguments(parser)
    parser.add_argument(
        "--adapter", type=Path, metavar="FOLDER", help="a saved adapter (default: the one that comes with the course)"
    )
    parser.add_argument("--task", default="sarcasm", help="the task of the course's adapter (default: %(default)s)")
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
    judge = shards.judge_of(options.adapter or models.shipped_adapter(shared.task_of(options).name))
    if options.file:
        count = shards.ask_file(judge, options.file, options.out, shared.columns_of(options.column))
    else:
        rows = _read_rows(options, judge.task)
        if options.text != "-":
            before, after = judge.load()(rows)
            print(f"before finetuning: {_describe(judge.task, before)}")
            print(f"after finetuning:  {_describe(judge.task, after)}")
            return
        count = shards.ask_rows(judge, rows, options.out, count=len(rows))
    if options.out:
        print(f"{count:,} predictions: {options.out}")


def _read_rows(options: argparse.Namespace, task: "Task") -> list[dict[str, Any]]:
    """Return the text, or the lines of standard input, as rows of the task. Raises CourseError for unusable text."""
    from llmcourse.data.texts import one_line

    if options.text is None:
        raise CourseError("There is nothing to classify. Give a text, - for standard input, or --file FILE.")
    try:
        texts = [line.rstrip("\n") for line in sys.stdin if line.strip()] if options.text == "-" else [options.text]
    except UnicodeDecodeError:
        raise CourseError("Standard input is not UTF-8 text. Convert it, for instance with iconv.") from None
    if not texts or not all(text.strip() for text in texts):
        raise CourseError("The text to classify is empty. Give a text with at least one word.")
    for text in (*texts, options.parent):
        one_line(text)  # raises for a text that is too long, before a model is loaded
    return [
        {"row": number, **dict.fromkeys(task.columns, options.parent), task.columns[-1]: text}
        for number, text in enumerate(texts, 1)
    ]


def _describe(task: "Task", predictions: "Scored") -> str:
    return f"{task.labels[predictions.labels[0]]} ({predictions.probability(0):.0%})"
