"""What the commands share: groups of arguments, the objects that the arguments describe, and the text about them."""

import argparse
import ast
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from llmcourse._base.errors import CourseError
from llmcourse._base.hardware import GEARS
from llmcourse.cli import processes

if TYPE_CHECKING:
    from llmcourse.data.tasks import Task
    from llmcourse.experiment import Experiment
    from llmcourse.training.recipes import Recipe

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The parser's commands, to which each module adds its own."""


# -- arguments -------------------------------------------------------------------------------------------------------


def add_rows_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that decide on the rows and on the folder of the results."""
    group = parser.add_argument_group("rows")
    group.add_argument("--task", default="sarcasm", help="the task (default: %(default)s)")
    group.add_argument(
        "--data", metavar="SOURCE", help="bundled, kaggle, hub, or a CSV, JSONL or Parquet file (default: the gear's)"
    )
    group.add_argument("--test", metavar="FILE", help="the test rows, if they are in a file of their own")
    add_column_argument(group)
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


def add_column_argument(parser: argparse._ActionsContainer) -> None:
    """Add --column, which maps the task's columns to those of a file."""
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="a column of your file, e.g. comment=body or label=is_sarcastic; can be repeated",
    )


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that decide on the gear and the model."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--gear", choices=GEARS, help="which model, rows and recipe to use (default: chosen from your hardware)"
    )
    group.add_argument("--model", metavar="NAME", help="a model of `llmcourse models` (default: the gear's)")


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
    """Return the task that --task names. Raises CourseError if there is none."""
    from llmcourse.data.tasks import TASKS

    if options.task not in TASKS:
        raise CourseError(f"There is no task {options.task!r}. Use one of: {', '.join(TASKS)}.")
    return TASKS[options.task]


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
    changes = dict(_split(pair, "--set", "NAME=VALUE", "r=8") for pair in options.set)
    return recipe.changed(**{name: _literal(text) for name, text in changes.items()})


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


def experiment_of(options: argparse.Namespace) -> "Experiment":
    """Load the rows and the model. Raises CourseError for unusable rows before a model is loaded."""
    from llmcourse import data, models
    from llmcourse.experiment import Experiment
    from llmcourse.setup import gears

    task, gear = task_of(options), gears.gear()
    # the gear's sizes belong to the gear's sources; a source that the user names is used whole
    n_train, n_test = (None, None) if options.data else (gear.n_train, gear.n_test)
    with processes.main_first():
        rows = data.load_first(
            task,
            [options.data] if options.data else gear.sources_of(task),
            test=options.test,
            n_train=options.n_train or n_train,
            n_test=options.n_test or n_test,
            columns=columns_of(options.column),
            seed=options.seed,
        )
        loaded = models.load(options.model or gear.model)
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
        *_describe_rows(experiment),
        f"Test set {experiment.rows.test_id}; model {experiment.loaded.base['name']};"
        f" gear {machine.gear}, {machine.dtype}.",
    ]
    if experiment.loaded.note:
        lines.append(f"Note: {experiment.loaded.note}")
    return "\n".join(lines)


def _describe_rows(experiment: "Experiment") -> list[str]:
    rows, report = experiment.rows, experiment.rows.report
    dropped = [
        f"{report[key]:,} {key.replace('_', ' ')}"
        for key in ("rejected", "no_label", "empty", "too_long", "duplicates", "contradictory", "other_split")
        if report.get(key)
    ]
    left_out = f" (left out: {', '.join(dropped)})" if dropped else ""
    lines = [
        f"{report['read']:,} rows read from {rows.source}{left_out}:"
        f" {len(rows.train):,} to train on, {len(rows.test):,} to test on."
    ]
    if report["rejected_lines"]:
        numbers = ", ".join(map(str, report["rejected_lines"][:10]))
        lines.append(f"Unreadable lines: {numbers}{' ...' if report['rejected'] > 10 else ''}.")
    for side in ("train", "test"):
        if f"{side}_wanted" in report:
            lines.append(
                f"Note: you asked for {report[f'{side}_wanted']:,} {side} rows. Balanced labels and distinct groups"
                f" leave {sum(report[side].values()):,}."
            )
    if report.get("shared_with_test"):
        shared = experiment.task.group_column or "text"
        lines.append(
            f"Note: {report['shared_with_test']:,} training rows share a {shared} with test rows. They are left out."
        )
    return lines


def print_comparison(report_path: Path) -> None:
    """Print the results that `report.write` put beside a report: the table, and the tests of the finetuned arms."""
    from llmcourse.experiment import metrics, report

    results = json.loads(report_path.with_name("results.json").read_text(encoding="utf-8"))
    print(f"{report.table(results)}\n")
    for test in report.notable_tests(results):
        print(f"{test['a']}  against  {test['b']}: {metrics.p_text(test['p'])}")
