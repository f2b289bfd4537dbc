"""What the commands share: groups of arguments, the objects that the arguments describe, and the text about them."""

import argparse
import ast
import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from llmcourse._base.errors import CourseError
from llmcourse._base.hardware import GEARS
from llmcourse.cli import processes
from llmcourse.data.csvfiles import QUOTES

if TYPE_CHECKING:
    from llmcourse.data.tasks import Task
    from llmcourse.experiment import Experiment
    from llmcourse.models.adapters import Folder
    from llmcourse.training.recipes import Recipe

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The parser's commands, to which each module adds its own."""

TASK_NAMES = "sarcasm (default), sentiment, support, or a name for your own"
"""What `--task` takes. The tasks themselves are not imported for a parser."""


# -- arguments -------------------------------------------------------------------------------------------------------


def add_rows_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that decide on the rows and on the folder of the results."""
    group = parser.add_argument_group("rows")
    group.add_argument("--task", metavar="NAME", help=TASK_NAMES)
    group.add_argument(
        "--data", metavar="SOURCE", help="bundled, kaggle, hub, or a CSV, JSON or Parquet file (default: the gear's)"
    )
    group.add_argument("--test", metavar="FILE", help="the test rows, if they are in a file of their own")
    add_column_arguments(group)
    group.add_argument(
        "--test-column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="a column of the test file, where its name differs",
    )
    group.add_argument(
        "--balance", action="store_true", help="use the same number of rows for each label, and leave out the others"
    )
    group.add_argument(
        "--n-train", type=at_least(2), metavar="N", help="training rows in all (default: the gear's; all of a file)"
    )
    group.add_argument(
        "--n-test", type=at_least(2), metavar="N", help="test rows in all (default: the gear's; all of a file)"
    )
    group.add_argument("--seed", type=int, default=0, help="draws rows and examples (default: %(default)s)")
    group.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="where results, adapters and reports are kept (default: %(default)s)",
    )
    add_own_task_arguments(parser)


def add_own_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe a task of one's own."""
    group = parser.add_argument_group("a task of your own")
    group.add_argument(
        "--labels", metavar="WORD,WORD", help="its label words, separated by commas; --labels=-1,1 if one begins with -"
    )
    group.add_argument(
        "--text-column",
        action="append",
        metavar="COLUMN",
        help="a column of its texts (default: text); can be repeated, in the order of the prompt",
    )
    group.add_argument("--instruction", metavar="TEXT", help="what the model should do, in one or two sentences")


def add_column_arguments(parser: argparse._ActionsContainer) -> None:
    """Add --column, which maps the task's columns to those of a file, and --quotes."""
    parser.add_argument(
        "--quotes",
        choices=QUOTES,
        default=QUOTES[0],
        help="quotation marks in a CSV: refuse those that swallow rows, trust all, or none: read them as characters"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="a column of your file, e.g. comment=body or label=is_sarcastic; can be repeated",
    )


def add_adapter_argument(parser: argparse.ArgumentParser) -> None:
    """Add --adapter for commands that take the course's own adapter without it."""
    parser.add_argument(
        "--adapter", type=Path, metavar="FOLDER", help="a saved adapter (default: the one that comes with the course)"
    )


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that decide on the gear and the model."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--gear", choices=GEARS, help="which model, rows and recipe to use (default: chosen from your hardware)"
    )
    group.add_argument(
        "--model",
        metavar="NAME",
        help="a name from `llmcourse models`, owner/name[@revision] of the hub, or a folder (default: the gear's)",
    )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that decide on the training."""
    from llmcourse.training.recipes import RECIPES

    group = parser.add_argument_group("training")
    group.add_argument("--recipe", help=f"{', '.join(RECIPES)} (default: the gear's)")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a number of the recipe, e.g. r=8; can be repeated",
    )
    group.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="resume an interrupted training (default), or start again from the first step",
    )


def at_least(minimum: int) -> Callable[[str], int]:
    """Return an argument type: a whole number that is not below `minimum`."""

    def number(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} does not work; give a whole number from {minimum} upwards")
        return int(text)

    return number


# -- from arguments to objects ---------------------------------------------------------------------------------------


def task_of(options: argparse.Namespace) -> "Task":
    """Return the task that --task names, or the one that --labels and --text-column describe.

    Raises CourseError if there is none.
    """
    from llmcourse.data.tasks import TASKS

    own = [option for option in OWN_TASK if getattr(options, option, None)]
    if own:
        return _own_task(options, own)
    name = options.task or "sarcasm"
    if name not in TASKS:
        own_task = ""
        if hasattr(options, "labels"):
            file = "--data FILE and " if hasattr(options, "data") else ""
            own_task = f" A task of your own needs {file}--labels WORD,WORD."
        raise CourseError(f"There is no task {name!r}. Use one of: {', '.join(TASKS)}.{own_task}")
    return TASKS[name]


def course_task(task: "Task") -> "Task":
    """Return the course's own task if a card's task is the same, because a card does not say where rows come from."""
    from llmcourse.data.tasks import TASKS

    own = TASKS.get(task.name)
    return own if own and own.as_dict() == task.as_dict() else task


OWN_TASK = ("labels", "text_column", "instruction")
"""The options that describe a task of one's own."""


def _own_task(options: argparse.Namespace, given: Sequence[str]) -> "Task":
    from llmcourse.data.tasks import TASKS, Task

    option = "--" + given[0].replace("_", "-")
    if options.task in TASKS:
        raise CourseError(
            f"The task {options.task!r} is the course's, and {option} cannot change it. Give yours another name."
        )
    if hasattr(options, "data") and not options.data:
        raise CourseError(f"{option} describes a task of your own, which needs rows. Name their file: --data FILE.")
    if not options.labels:
        raise CourseError(_ask_labels(options))
    words = next(csv.reader([options.labels], skipinitialspace=True), [])
    rows = getattr(options, "data", None) or getattr(options, "file", None) or ""
    return Task(
        name=options.task or re.sub(r"\W+", "-", Path(rows).stem).strip("-_") or "own",
        instruction=options.instruction or "Read the text and sort it into one of these categories:",
        fields={column: column for column in options.text_column or ["text"]},
        labels=tuple(word.strip() for word in words),
    )


def _ask_labels(options: argparse.Namespace) -> str:
    """Return how to name the labels, with those that the file of --data has if they are few."""
    from itertools import islice

    from llmcourse.data.fileformats import open_table

    if not hasattr(options, "data"):  # `predict`, whose rows need no labels
        return "Which labels can the answers be? Name them: --labels WORD,WORD."
    table, column = open_table(Path(options.data)), columns_of(options.column).get("label", "label")
    if column in table.names:
        records = islice(table.records([column]), 10_000)
        values = {(record[0] or "").strip() for record in records if isinstance(record, list)} - {""}
        if 1 < len(values) <= 100 and not any("," in value for value in values):
            return f"Which labels do your rows have? Perhaps: --labels={','.join(sorted(values))}"
    return "Which labels do your rows have? Name them: --labels WORD,WORD, and their column with --column label=COLUMN."


def columns_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return what each NAME=COLUMN of --column maps. Raises CourseError for another form."""
    return dict(_split(pair, "--column", "NAME=COLUMN", "comment=body") for pair in pairs)


def recipe_of(options: argparse.Namespace) -> "Recipe":
    """Return the recipe of --recipe, or the gear's, with the changes of --set. Raises CourseError for unknown names."""
    from llmcourse.setup import gears
    from llmcourse.training.recipes import RECIPES

    if options.recipe not in (None, *RECIPES):
        raise CourseError(f"There is no recipe {options.recipe!r}. Use one of: {', '.join(RECIPES)}.")
    recipe = RECIPES[options.recipe] if options.recipe else gears.gear().recipe
    return recipe.changed(**recipe_values(options.set))


def recipe_values(pairs: Sequence[str]) -> dict[str, object]:
    """Return a recipe's values that are written as NAME=VALUE. Raises CourseError for what is not."""
    changes = dict(_split(pair, "--set", "NAME=VALUE", "r=8") for pair in pairs)
    return {name: _literal(text) for name, text in changes.items()}


def _split(pair: str, option: str, form: str, example: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not (name and equals and value):
        raise CourseError(f"{option} {pair} cannot be read. Write it as {form}, for instance {option} {example}.")
    return name, value


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def adapter_of(options: argparse.Namespace, decided: Sequence[str], by_card: Sequence[str]) -> "Folder":
    """Return the adapter of --adapter. For a PEFT adapter without a card, the options name its task and base model.

    Raises CourseError for options that every adapter has `decided`, or that a card decides (`by_card`).
    """
    from llmcourse import models

    folder = options.adapter
    is_named = any(getattr(options, option, None) for option in ("task", *OWN_TASK))
    if models.is_plain(folder) and is_named:
        refuse_options(options, decided, _DECIDED)
        return models.plain_adapter(folder, task_of(options), options.model)
    task = models.task_of(models.read_card(folder))
    refuse_options(options, (*decided, *by_card), _DECIDED)
    if options.task not in (None, task.name):
        raise CourseError(
            f"--task {options.task} has no effect: the adapter in {folder} was trained for the task {task.name!r}."
            " Leave it out."
        )
    return folder


_DECIDED = "with --adapter, which was trained for one task and one prompt on one base model. Leave it out."


def refuse_options(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raise CourseError for the first of some options that is given and has no effect, and say `why`."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False:
            raise CourseError(f"--{name.replace('_', '-')} has no effect {why}")


def notes_on(adapter: "Folder") -> list[str]:
    """Return how an adapter without a card is asked, which is for the user to check; nothing for one with a card."""
    from llmcourse.models import PlainAdapter, adapters
    from llmcourse.predict import Prompt

    if not isinstance(adapter, PlainAdapter):
        return []
    prompt = Prompt.from_card(adapter.card).text({column: f"{{{column}}}" for column in adapter.task.fields})
    return [
        f"{adapter.folder} has no card of the course. It gets the training prompt of the task {adapter.task.name!r},"
        f" {prompt!r}, on {adapter.model}. Its {adapters.CONFIG} names {adapter.trained_on!r:.120}."
    ]


def experiment_of(options: argparse.Namespace, task: "Task | None" = None, model: str | None = None) -> "Experiment":
    """Load the rows and the model: those of the options, or another task and model if they are given.

    Raises CourseError for unusable rows before a model is loaded.
    """
    from llmcourse import data, models
    from llmcourse.experiment import Experiment
    from llmcourse.setup import gears

    task, gear = task or task_of(options), gears.gear()
    if options.data is None and not task.sources:
        raise CourseError(f"The task {task.name!r} has no rows of its own. Name their file: --data FILE.")
    # the gear's sizes belong to the gear's sources; a source that the user names is used whole
    n_train, n_test = (None, None) if options.data is not None else (gear.n_train, gear.n_test)
    with processes.main_first():
        rows = data.load_first(
            task,
            [options.data] if options.data is not None else gear.sources_of(task),
            test=options.test,
            n_train=options.n_train or n_train,
            n_test=options.n_test or n_test,
            columns=columns_of(options.column),
            test_columns=columns_of(options.test_column),
            balance=options.balance,
            quotes=options.quotes,
            seed=options.seed,
        )
        loaded = models.load(model or options.model or gear.model)
        return Experiment(rows, loaded, options.runs, options.seed, quiet=not processes.is_main())


def report_folder(options: argparse.Namespace, experiment: "Experiment") -> Path:
    """Return the folder of the experiment's report."""
    return options.runs / f"{experiment.task.name}-{experiment.rows.test_id}"


# -- what is printed -------------------------------------------------------------------------------------------------


def describe(experiment: "Experiment") -> str:
    """Return what the experiment starts from, in a few lines: rows read and left out, test set, model, machine."""
    from llmcourse._base import hardware

    machine = hardware.detect()
    lines = [
        experiment.rows.describe(),
        f"Test set {experiment.rows.test_id}; model {experiment.loaded.base['name']};"
        f" gear {machine.gear}, {experiment.loaded.base.get('weights', machine.dtype)}.",
    ]
    if experiment.loaded.note:
        lines.append(f"Note: {experiment.loaded.note}")
    return "\n".join(lines)


def print_notes(notes: Iterable[str]) -> None:
    """Print what a reader should know besides the numbers, a line for each note."""
    for note in notes:
        print(f"Note: {note}", flush=True)


def print_comparison(report_path: Path) -> None:
    """Print the results that `report.write` put beside a report: table, notes, and the tests of the finetuned arms."""
    from llmcourse.experiment import metrics, report

    results = json.loads(report_path.with_name("results.json").read_text(encoding="utf-8"))
    print(f"{report.table(results)}\n")
    print_notes(report.notes(results))
    for test in report.notable_tests(results):
        print(f"{test['a']}  against  {test['b']}: {metrics.p_text(test['p'])}")
