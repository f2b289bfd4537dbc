"""The command `llmcourse`: the course's experiment from a shell.

Importing this module, and `llmcourse --help`, import neither torch nor transformers.
"""

import argparse
import ast
import errno
import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from llmcourse._base import __version__, files, processes, redact
from llmcourse._base.errors import CourseError
from llmcourse._base.hardware import GEAR_VARIABLE, GEARS

SHOTS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0, 2 for bad input, 130 after Ctrl-C."""
    with processes.beginning():
        options = _parser().parse_args(arguments)
    quiet_libraries()
    sys.excepthook = redact.excepthook
    if getattr(options, "gear", None):
        os.environ[GEAR_VARIABLE] = options.gear
    try:
        with processes.session():
            processes.check(options.command.__name__.strip("_"))
            options.command(options)
        return 0
    except CourseError as error:
        processes.complain(f"llmcourse: {error}")
        return 2
    except BrokenPipeError:
        # the reader of our output went away (`| head`): nothing is wrong, and nothing more is to be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        advice = (
            " Free some space and run the same command again; what was kept stays."
            if error.errno == errno.ENOSPC
            else ""
        )
        said = f"{error.filename or 'a file'}: {error.strerror or error}.{advice}"
        processes.complain(f"llmcourse: {redact.redacted(said)}")
        return 2
    except KeyboardInterrupt as stop:
        processes.complain(f"\nllmcourse: {stop or 'stopped.'} {_what_next(options)}")
        return 130


def _what_next(options) -> str:
    if not getattr(options, "resume", True):
        return "The same command without --no-resume goes on from there."
    if options.command is _predict and not (options.file and options.out):
        return "Nothing was kept; with --file and --out a stopped command goes on."
    return "The same command goes on from there."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmcourse", description="Prompt a language model, finetune it, and compare the two on the same rows."
    )
    parser.add_argument("--version", action="version", version=f"llmcourse {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    data = argparse.ArgumentParser(add_help=False)
    group = data.add_argument_group("rows")
    group.add_argument("--task", default="sarcasm", help="the task (default: %(default)s)")
    group.add_argument(
        "--data", metavar="SOURCE", help="bundled, kaggle, hub, or a CSV, JSONL or Parquet file (default: the gear's)"
    )
    group.add_argument("--test", metavar="FILE", help="the test rows, if they are in a file of their own")
    group.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="a column of yours, e.g. comment=body or label=is_sarcastic; may be repeated",
    )
    group.add_argument(
        "--n-train", type=_count, metavar="N", help="training rows in all (default: the gear's; all of a file)"
    )
    group.add_argument(
        "--n-test", type=_count, metavar="N", help="test rows in all (default: the gear's; all of a file)"
    )
    group.add_argument("--seed", type=int, default=0, help="draws rows and shots (default: %(default)s)")
    group.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="where arms, adapters and reports are kept (default: %(default)s)",
    )

    machine = argparse.ArgumentParser(add_help=False)
    group = machine.add_argument_group("machine")
    group.add_argument(
        "--gear", choices=GEARS, help="what model, rows and recipe to take (default: what the machine has)"
    )
    group.add_argument("--model", metavar="NAME", help="a model of `llmcourse models` (default: the gear's)")

    training = argparse.ArgumentParser(add_help=False)
    group = training.add_argument_group("training")
    group.add_argument("--recipe", help="cpu, few, talk, t4 or workshop (default: the gear's)")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a number of the recipe, e.g. r=8; may be repeated",
    )
    group.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with an interrupted training (default), or start anew",
    )

    demo = commands.add_parser(
        "demo", parents=[data, training, machine], help="the whole comparison: baselines, prompting, finetuning, report"
    )
    demo.add_argument(
        "--record",
        action="store_true",
        help="keep the results as demo-GEAR.json, for the README, the slides and your notes",
    )
    demo.set_defaults(command=_demo)
    finetune = commands.add_parser("finetune", parents=[data, training, machine], help="train a LoRA adapter")
    finetune.add_argument("--out", type=Path, metavar="FOLDER", help="also put the adapter there")
    finetune.set_defaults(command=_finetune)
    evaluate = commands.add_parser(
        "evaluate", parents=[data, machine], help="one arm on the test rows: a prompt, or a saved adapter"
    )
    evaluate.add_argument(
        "--adapter", type=Path, metavar="FOLDER", help="a saved adapter (default: the base model, prompted)"
    )
    evaluate.add_argument(
        "--shots", type=_not_negative, default=SHOTS, metavar="K", help="examples in the prompt (default: %(default)s)"
    )
    evaluate.add_argument("--chat", action="store_true", help="use the model's chat format")
    evaluate.add_argument(
        "--way",
        choices=("generated", "scored", "calibrated"),
        default="generated",
        help="how the answer is taken (default: %(default)s)",
    )
    evaluate.set_defaults(command=_evaluate)
    predict = commands.add_parser(
        "predict", help="classify a text, a file's rows, or standard input, before and after finetuning"
    )
    predict.add_argument("text", nargs="?", help="a text; - reads one a line from standard input")
    predict.add_argument("--parent", default="", metavar="TEXT", help="what the text replies to")
    predict.add_argument(
        "--file", type=Path, metavar="FILE", help="a CSV, JSONL or Parquet file with the task's columns"
    )
    predict.add_argument(
        "--column", action="append", default=[], metavar="NAME=COLUMN", help="a column of yours; may be repeated"
    )
    predict.add_argument(
        "--adapter", type=Path, metavar="FOLDER", help="a saved adapter (default: the one that comes with the course)"
    )
    predict.add_argument("--task", default="sarcasm", help="the task of the shipped adapter (default: %(default)s)")
    predict.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the predictions of a file there, as CSV (default: standard output); stopped, the same command goes on",
    )
    predict.set_defaults(command=_predict)
    compare = commands.add_parser(
        "compare", parents=[data, machine], help="all arms kept for these test rows, side by side"
    )
    compare.set_defaults(command=_compare)
    preflight = commands.add_parser(
        "preflight", parents=[machine], help="look for what would go wrong, before any download"
    )
    preflight.add_argument(
        "--workshop", action="store_true", help="also what an instructor wants in place, in a clone of the course"
    )
    preflight.set_defaults(command=_preflight)
    listed = commands.add_parser("models", help="the models by name")
    listed.set_defaults(command=_models)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("at least 2")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("0 or more")
    return number


# -- the commands ----------------------------------------------------------------------------------------------------


def _demo(options) -> None:
    from llmcourse._base import hardware
    from llmcourse.experiment import report

    start = time.perf_counter()
    recipe = _recipe(options)
    with hardware.PeakMemory() as peak:
        experiment = _experiment(options)
        _say(_describe(experiment))
        demo_arms(experiment, recipe, options.resume, announce=_announce)
    results = experiment.results(peak.gib)
    path = processes.from_main(lambda: report.write(experiment, results, _report_folder(options, experiment)))
    if options.record and processes.is_main():
        recorded = _record_path(results["gear"])
        files.write_json(recorded, results)
        print(f"Recorded: {recorded}")
    print()
    _show(results)
    print(f"\n{time.perf_counter() - start:.0f} s, peak memory {peak.gib:.1f} GiB. Report: {path}")


def _record_path(gear: str) -> Path:
    """Among the repository's results when run inside it, else here."""
    folder = Path("benchmarks/results")
    return (folder if folder.is_dir() else Path()) / f"demo-{gear}.json"


def _preflight(options) -> None:
    from llmcourse._base import hardware
    from llmcourse.setup import gears, preflight

    machine = hardware.glance()
    print(machine.table())
    gear = gears.GEARS[machine.gear]
    if options.model in (None, gear.model):
        print(f"\n{gear.describe()}\n")
    else:
        print(f"\n{options.model} in the gear {gear.name}\n")
    more = _workshop_findings() if options.workshop else ()
    preflight.check_machine(gears.needs(gear, options.model), more)


def _workshop_findings() -> list:
    """Return what `tools/workshop.py` of the clone finds. The wheel does not hold it: it looks into a clone anyway."""
    clone = Path(__file__).parents[2]
    if not (clone / "tools" / "workshop.py").is_file():
        raise CourseError(
            "--workshop needs a clone of the course, and llmcourse is installed without one. In a clone, run:"
            " pip install --editable . && llmcourse preflight --workshop"
        )
    sys.path.append(str(clone))
    from tools import workshop

    return workshop.findings(workshop.look())


def _models(options) -> None:
    from llmcourse.models import catalogue

    print(catalogue.table())


def demo_arms(experiment, recipe, resume: bool = True, announce=lambda arm: None) -> list:
    """The arms of the comparison, in the order of the waterfall; `announce(arm)` is called after each."""
    few, zero = experiment.prompt(SHOTS), experiment.prompt(0)
    steps = [
        experiment.majority,
        experiment.bag_of_words,
        lambda: experiment.generated(zero),
        *(
            [lambda: experiment.generated(experiment.prompt(SHOTS, chat=True))]
            if experiment.loaded.tokenizer.chat_template
            else []
        ),
        lambda: experiment.generated(few),
        lambda: experiment.scored(few),
        lambda: experiment.scored(few, calibrate=True),
        lambda: experiment.finetuned(recipe, resume),
    ]
    arms = []
    for step in steps:
        arms.append(step())
        announce(arms[-1])
    return arms


def _finetune(options) -> None:
    import shutil

    from llmcourse._base import files
    from llmcourse.models import adapters

    recipe = _recipe(options)
    out = options.out
    if out and out.exists():
        # an adapter's folder, and an empty one, may be replaced
        own = (*adapters.PARTS, "README.md", files.SEAL)
        others = sorted(path.name for path in out.iterdir() if path.name not in own) if out.is_dir() else [out.name]
        if others:
            raise CourseError(f"--out {out} holds {others[0]}, which would be lost. Name a new folder.")
    experiment = _experiment(options)
    _say(_describe(experiment))
    folder, training = experiment.train(recipe, options.resume)
    if options.out:

        def put() -> None:
            with files.folder_aside(options.out) as aside:
                shutil.copytree(folder, aside, dirs_exist_ok=True)

        processes.from_main(put)
    print(
        f"{training['steps']} steps in {training['seconds']:.0f} s; the last loss is {training['losses'][-1]:.3f}. Adapter: {options.out or folder}"
    )


def _evaluate(options) -> None:
    from llmcourse.experiment import metrics

    experiment = _experiment(options)
    if options.adapter:
        arm = experiment.adapter_arm(options.adapter, options.way)
    else:
        prompt = experiment.prompt(options.shots, chat=options.chat)
        generated = options.way == "generated"
        arm = experiment.generated(prompt) if generated else experiment.scored(prompt, options.way == "calibrated")
    print(f"{arm.name}, {arm.score.n} rows (test set {experiment.rows.test_id})\n")
    print(metrics.report(experiment.gold(), arm.predictions.labels, experiment.task.labels))
    low, high = arm.score.accuracy_ci95
    print(
        f"accuracy {arm.score.accuracy:.1%}, 95 % interval {low:.1%} to {high:.1%}; {arm.score.invalid} invalid; {arm.seconds_per_row:.3f} s a row"
    )


def _predict(options) -> None:
    from llmcourse import models, predict
    from llmcourse.models import adapters, catalogue
    from llmcourse.predict import shards

    folder = options.adapter or models.shipped_adapter(_task(options).name)
    card = models.read_card(folder)
    task = adapters.task_of(card)
    rows, listed = _texts(options, task), bool(options.file) or options.text == "-"
    if options.out and not listed:
        raise CourseError("--out is for the rows of a file or of standard input.")
    if options.file and options.text is not None:
        raise CourseError("Give a text or --file, not both.")

    def load() -> shards.Ask:
        loaded = models.load(catalogue.of_adapter(card["base"]["name"]))
        return lambda rows: predict.before_and_after(loaded, task, folder, rows)

    if options.file:
        belongs = {part: files.sha256_of_file(Path(folder) / part) for part in adapters.PARTS}
        columns = _columns(options.column)
        done = shards.predict_file(task, options.file, load, options.out, belongs, columns, sys.stdout.write)
        if options.out:
            print(f"{done:,} predictions: {options.out}")
        return
    before, after = load()(rows)
    if listed:
        table = shards.head(task) + shards.lines(task, rows, before, after)
        if options.out:
            files.write_text(options.out, table)
            print(f"{len(rows):,} predictions: {options.out}")
        else:
            sys.stdout.write(table)
        return
    print(f"before finetuning: {_verdict(task, before, 0)}\nafter finetuning:  {_verdict(task, after, 0)}")


def _compare(options) -> None:
    from llmcourse.experiment import report

    experiment = _experiment(options)
    experiment.find_all()
    if not experiment.arms:
        raise CourseError(
            f"{options.runs} holds no arm on this test set ({experiment.rows.test_id}). `llmcourse demo` makes some."
        )
    results = experiment.results()
    path = report.write(experiment, results, _report_folder(options, experiment))
    _show(results)
    print(f"\nReport: {path}")


# -- what the commands share -----------------------------------------------------------------------------------------


def _show(results: dict) -> None:
    from llmcourse.experiment import report

    print(f"{report.table(results)}\n")
    for test in report.notable_tests(results):
        print(f"{test['a']}  against  {test['b']}: {report.p_text(test['p'])}")


def _task(options):
    from llmcourse.data.tasks import TASKS

    if options.task not in TASKS:
        raise CourseError(f"There is no task {options.task!r}. Known: {', '.join(TASKS)}.")
    return TASKS[options.task]


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    mapping = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise CourseError(f"--column {pair}: write it as NAME=COLUMN, for instance comment=body.")
        mapping[name] = column
    return mapping


def _recipe(options):
    from llmcourse.setup import gears
    from llmcourse.training.recipes import RECIPES

    if options.recipe is None:
        recipe = gears.gear().recipe
    elif options.recipe in RECIPES:
        recipe = RECIPES[options.recipe]
    else:
        raise CourseError(f"There is no recipe {options.recipe!r}. Known: {', '.join(RECIPES)}.")
    changes = {}
    for pair in options.set:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise CourseError(f"--set {pair}: write it as NAME=VALUE, for instance r=8.")
        try:
            changes[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            changes[name] = text
    return recipe.changed(**changes)


def _experiment(options):
    from llmcourse import data, models
    from llmcourse.experiment import Experiment
    from llmcourse.setup import gears

    task, gear = _task(options), gears.gear()
    # a source of one's own is taken whole
    sizes = (None, None) if options.data else (gear.n_train, gear.n_test)
    # the rows first: what is wrong with them shows before a model is loaded
    rows = processes.from_main(
        lambda: data.load_first(
            task,
            [options.data] if options.data else gear.sources_of(task),
            test=options.test,
            n_train=options.n_train or sizes[0],
            n_test=options.n_test or sizes[1],
            columns=_columns(options.column),
            seed=options.seed,
        )
    )
    return Experiment(rows, models.load(options.model or gear.model), options.runs, options.seed)


def _describe(experiment) -> str:
    from llmcourse._base import hardware

    rows, report = experiment.rows, experiment.rows.report
    dropped = [
        f"{report[key]:,} {key.replace('_', ' ')}"
        for key in ("rejected", "no_label", "empty", "too_long", "duplicates", "contradictory", "other_split")
        if report.get(key)
    ]
    cleaned = f" (left out: {', '.join(dropped)})" if dropped else ""
    lines = [
        f"{report['read']:,} rows read from {rows.source}{cleaned}: {len(rows.train):,} to train on, {len(rows.test):,} to test on."
    ]
    if report["rejected_lines"]:
        lines.append(
            f"Unreadable lines: {', '.join(map(str, report['rejected_lines'][:10]))}{' ...' if report['rejected'] > 10 else ''}."
        )
    for side in ("train", "test"):
        if f"{side}_wanted" in report:
            lines.append(
                f"Note: {report[f'{side}_wanted']:,} {side} rows were wanted; balance and distinct groups leave {sum(report[side].values()):,}."
            )
    if report.get("shared_with_test"):
        shared = experiment.task.group_column or "text"
        lines.append(
            f"Note: {report['shared_with_test']:,} training rows share a {shared} with test rows; they are left out."
        )
    machine = hardware.detect()
    lines.append(
        f"Test set {rows.test_id}; model {experiment.loaded.base['name']}; gear {machine.gear}, {machine.dtype}."
    )
    if experiment.loaded.note:
        lines.append(f"Note: {experiment.loaded.note}")
    return "\n".join(lines)


def _announce(arm) -> None:
    invalid = f", {arm.score.invalid} invalid" if arm.score.invalid else ""
    trained = f" (trained in {arm.training['seconds']:.0f} s)" if arm.training else ""
    _say(f"{arm.name:<32} {arm.score.accuracy:6.1%}{invalid}{trained}")


def _say(text: str) -> None:
    print(text, flush=True)


def _report_folder(options, experiment) -> Path:
    return options.runs / f"{experiment.task.name}-{experiment.rows.test_id}"


def _texts(options, task) -> list[dict]:
    from llmcourse.data.texts import one_line

    if options.file:
        return []
    if options.text is None:
        raise CourseError("Nothing to classify: give a text, - for standard input, or --file FILE.")
    try:
        texts = [line.rstrip("\n") for line in sys.stdin if line.strip()] if options.text == "-" else [options.text]
    except UnicodeDecodeError:
        raise CourseError("Standard input is not UTF-8 text.") from None
    if not texts or not all(text.strip() for text in texts):
        raise CourseError("The text to classify is empty.")
    for text in (*texts, options.parent):
        one_line(text)  # raises for one that is too long, before a model is loaded
    return [
        {"row": n, **dict.fromkeys(task.columns, options.parent), task.columns[-1]: text}
        for n, text in enumerate(texts, 1)
    ]


def _verdict(task, scored, row: int) -> str:
    return f"{task.labels[scored.labels[row]]} ({scored.probability(row):.0%})"


def quiet_libraries() -> None:
    """The libraries' warnings concern their own developers; ours are CourseErrors."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=files.Damaged)
    warnings.showwarning = lambda message, *_: print(f"llmcourse: {message}", file=sys.stderr)
