"""What the scripts of this folder share: sides that do the same work in turn, machine and versions, results files.

In a comparison (`compare`), all sides run in one go on the same rows, in blocks: each side does one block, then each
the next, so that other work of the machine disturbs all of them alike. Trainings do the same in rounds of processes.
The sides' results are compared before anything is timed, and a side that computes something else is not timed. A
results file has date, machine, versions, the seconds of each block, and for each side minimum, median and maximum of
its rows per second and of its ratio to ours, block by block.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse import data, models, predict
from llmcourse._base import files, hardware
from llmcourse.data.tasks import SARCASM, Task
from llmcourse.experiment import metrics
from llmcourse.models import LoadedModel
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.training import configs
from llmcourse.training.recipes import Recipe

RESULTS = Path(__file__).parent / "results"
OURS = "llmcourse"


@dataclass(frozen=True)
class Side:
    """One way to do the work."""

    name: str
    work: Callable[[Sequence[Mapping]], Any]
    """Processes rows and returns what it computed."""
    plain: LoadedModel | None = None
    """The model, if this side uses it as transformers loads it; see `as_it_comes`."""

    def __call__(self, rows: Sequence[Mapping]) -> Any:
        with as_it_comes(self.plain):
            return self.work(rows)


@contextlib.contextmanager
def as_it_comes(loaded: LoadedModel | None) -> Iterator[None]:
    """Use the model without what llmcourse chooses for this processor: torch's own matrix products and attention.

    None changes nothing.
    """
    if loaded is None:
        yield
        return
    chosen = loaded.model.config._attn_implementation
    loaded.model.set_attn_implementation("sdpa")
    try:
        with hardware.prefer_mkl():
            yield
    finally:
        loaded.model.set_attn_implementation(chosen)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {name: round(pick(values), 4) for name, pick in SPREAD.items()}


SPREAD = {"min": min, "median": statistics.median, "max": max}


def compare(sides: Sequence[Side], rows: Sequence[Mapping], blocks: int, say=print) -> dict[str, Any]:
    """Measure each side on each block of the rows, in turn, and return seconds, rows per second and ratios to the
    first.

    The order of sides changes from block to block, so that none is always first. Before, every side does two rows that
    are not measured.
    """
    for side in sides:
        side(rows[:2])
    parts = [rows[place::blocks] for place in range(blocks)]
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for number, part in enumerate(parts):
        for turn in range(len(sides)):
            side = sides[(number + turn) % len(sides)]
            clock = time.perf_counter()
            side(part)
            seconds[side.name].append(time.perf_counter() - clock)
            say(
                f"block {number + 1} of {blocks}, {side.name}: {len(part) / seconds[side.name][-1]:.2f} rows/s",
                flush=True,
            )
    ours = seconds[sides[0].name]
    return {
        side.name: {
            "as_it_comes": side.plain is not None,
            "seconds": [round(value, 3) for value in seconds[side.name]],
            "rows_per_second": spread([len(p) / s for p, s in zip(parts, seconds[side.name], strict=True)]),
            "times_slower": spread([s / o for s, o in zip(seconds[side.name], ours, strict=True)]),
        }
        for side in sides
    }


def about(loaded: LoadedModel | None = None, peers: Sequence[str] = ()) -> dict[str, Any]:
    """Return date, machine, versions (also those of `peers`) and base model, for a results file."""
    from importlib import metadata

    versions = {**hardware.versions(), **{name: metadata.version(name) for name in peers}}
    whole = {"date": hardware.now(), "machine": hardware.detect().as_dict(), "versions": versions}
    return {**whole, "model": loaded.base} if loaded else whole


def trained_on(
    loaded: LoadedModel, task: Task, recipe: Recipe, train: Sequence, validation: Sequence
) -> dict[str, Any]:
    """Return what a results file of trainings is about. A file about something else is replaced."""
    return {
        "task": task.name,
        "model": loaded.base,
        "recipe": recipe.as_dict(),
        "train": len(train),
        "train_id": data.rows_id(task, train),
        "validation": len(validation),
        "validation_id": data.rows_id(task, validation),
    }


def groups_of(task: Task, rows: Sequence[Mapping]) -> list[Any]:
    """Return the group of each row; a row of a task without groups is a group of its own."""
    return [row[task.group_column] if task.group_column else place for place, row in enumerate(rows)]


def few_shot_work(chosen: argparse.Namespace) -> tuple[LoadedModel, Prompt, list[Mapping], dict[str, Any]]:
    """Return model, prompt and test rows for `chosen.rows` and `chosen.shots`, and their description."""
    loaded, corpus = models.load(), data.load(SARCASM)
    rows = list(corpus.test)[: chosen.rows]
    prompt = Prompt(SARCASM, few_shots(SARCASM, list(corpus.train), chosen.shots))
    lengths = [len(ids) for ids in predict.encode(loaded, prompt, rows)]
    tokens = round(sum(lengths) / len(lengths), 1)
    return loaded, prompt, rows, {"rows": len(rows), "shots": chosen.shots, "prompt_tokens": tokens}


def fastest(sizes: Sequence[int], rows: Sequence[Mapping], work: Callable[[int], Any]) -> tuple[int, dict[int, float]]:
    """Return the size with which `work(size)` processes the rows fastest, and the rows per second of each."""
    tried = {}
    for size in sizes:
        clock = time.perf_counter()
        work(size)
        tried[size] = round(len(rows) / (time.perf_counter() - clock), 3)
    return max(tried, key=tried.__getitem__), tried


def options(doc: str, arguments: Sequence[str] | None = None, **more: tuple) -> argparse.Namespace:
    """Parse the command line that all scripts share: --quick, --out and the options in `more`.

    Each of those is a number, given as (its value, its value with --quick, its meaning), or a text, as (str, its
    meaning).
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a few rows of everything, to see that it runs; no results file"
    )
    parser.add_argument("--out", type=Path, help="folder for the results file (default: results/; with --quick none)")
    numbers = {name: entry for name, entry in more.items() if entry[0] is not str}
    for name, entry in more.items():
        if name in numbers:
            whole, quick, meaning = entry
            parser.add_argument(f"--{name}", type=int, help=f"{meaning} (default: {whole}; with --quick {quick})")
        else:
            parser.add_argument(f"--{name}", help=entry[1])
    chosen = parser.parse_args(arguments)
    for name, (whole, quick, _) in numbers.items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, quick if chosen.quick else whole)
    if chosen.out is None and not chosen.quick:
        chosen.out = RESULTS
    return chosen


def finish(name: str, results: dict[str, Any], chosen: argparse.Namespace) -> dict[str, Any]:
    """Save the results if there is a folder for them, else print them."""
    if chosen.out:
        print(f"saved in {files.write_json(chosen.out / f'{name}.json', results)}")
    else:
        print(json.dumps(results, indent=1))
    return results


def validated(loaded: LoadedModel, recipe: Recipe, task: Task, rows: Sequence[Mapping]) -> dict[str, Any]:
    """Score rows, and return accuracy and mean log-probability of the right label."""
    answers = predict.score(loaded, configs.training_prompt(task, recipe), rows)
    gold = [row["label"] for row in rows]
    score = metrics.evaluate(gold, answers.labels, task.labels, groups_of(task, rows))
    right = [logs[label] for logs, label in zip(answers.logprobs, gold, strict=True)]
    return {
        "accuracy": score.accuracy,
        "accuracy_ci95": [round(bound, 4) for bound in score.accuracy_ci95],
        "log_probability": round(sum(right) / len(right), 4),
    }
