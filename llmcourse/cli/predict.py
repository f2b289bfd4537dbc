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
    from llmcourse.predict import Predictions
    from llmcourse.predict.judges import Judge


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
        help=f"{shared.TASK_NAMES}, if the adapter does not say it",
    )
    shared.add_own_task_arguments(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="without --adapter, a whole model that writes its answers, such as a folder of `llmcourse export`; with"
        " --adapter, its base: a folder on this machine, or a name if the adapter has no card",
    )
    parser.add_argument(
        "--engine",
        choices=("transformers", "vllm"),
        default="transformers",
        help="what computes the answers of a whole model; vllm is for large files on an NVIDIA GPU, where vLLM is"
        " installed (default: %(default)s)",
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
    judge = _judge_of(options)
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
        if before is None:
            print(f"answer: {_describe(judge.task, after)}")
        else:
            print(f"before finetuning: {_describe(judge.task, before)}")
            print(f"after finetuning:  {_describe(judge.task, after)}")
        shards.note_counts(judge, shards.counts_of(after), 1)
        return
    if options.out:
        print(f"{count:,} predictions: {options.out}")


def _judge_of(options: argparse.Namespace) -> "Judge":
    """Return who predicts: an adapter, a whole model, or the course's own adapter. A prompt that no card names is shown
    on standard error."""
    from llmcourse import models
    from llmcourse.predict import judges

    if options.model is not None and options.adapter is None:
        task = None
        if models.catalogue.base(options.model).is_merged:
            why = f"with {options.model}, whose card names its task and prompt. Leave it out."
            shared.refuse_options(options, ("task", *shared.OWN_TASK), why)
        else:
            task = shared.task_of(options)
            _note(f"{options.model} gets the zero-shot prompt of the task {task.name!r}.")
        return judges.of_model(options.model, task, options.engine)
    if options.engine != "transformers":
        raise CourseError(
            f"--engine {options.engine} takes a whole model. Merge the adapter, then name the new folder: llmcourse"
            " export --adapter ADAPTER --out FOLDER && llmcourse predict --model FOLDER"
        )
    if options.adapter is None:
        shared.refuse_options(options, shared.OWN_TASK, "without --adapter FOLDER or --model NAME. Name yours.")
        return judges.of_adapter(models.shipped_adapter(shared.task_of(options).name))
    adapter = shared.adapter_of(options, (), shared.OWN_TASK)
    for note in shared.notes_on(adapter):
        _note(note)
    return judges.of_adapter(adapter, options.model)


def _note(text: str) -> None:
    print(f"Note: {text}", file=sys.stderr)


def _row(task: "Task", text: str, parent: str) -> dict[str, Any]:
    """Return a text as a row of the task. Raises CourseError for unusable text, before a model is loaded."""
    from llmcourse.data.texts import is_blank, one_line

    if is_blank(text):
        raise CourseError("The text to classify is empty. Give a text with at least one word.")
    for value in (text, parent):
        one_line(value)
    return {task.number_column: 1, **dict.fromkeys(task.columns, parent), task.columns[-1]: text}


def _describe(task: "Task", predictions: "Predictions") -> str:
    """Return the first row's answer: its label and probability, or the label that was read from what was written."""
    from llmcourse.predict import Scored

    label = predictions.labels[0]
    if label is None:
        return "invalid"
    return task.labels[label] + (f" ({predictions.probability(0):.0%})" if isinstance(predictions, Scored) else "")
