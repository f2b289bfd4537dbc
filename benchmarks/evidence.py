"""Compare methods on many rows: `python benchmarks/evidence.py crossval` and `python benchmarks/evidence.py curves`.

    crossval    5-fold cross-validation over all rows of a task, whole groups in one fold, with three seeds. A seed
                decides the folds, the examples of prompts and all that is random in training. Every row is a test row
                once for each seed.
    curves      accuracy on the test rows against the number of training rows, with three seeds, which also decide the
                rows

Predictions are kept in results/crossval.json and results/curves.json row by row, so that any two methods can be
compared in pairs. Each fit is saved when it is done, so an interrupted script continues. LoRA takes 2 to 5 minutes a
fit on 2 cores; `--methods` leaves it out.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import RESULTS, about

from llmcourse import data, models, predict
from llmcourse._base import files
from llmcourse.data.tasks import SARCASM, TASKS, Task
from llmcourse.experiment import baselines, metrics
from llmcourse.models import LoadedModel
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.training import configs, finetuning
from llmcourse.training.recipes import QUICK, Recipe

SEEDS = (0, 1, 2)
FOLDS = 5
SIZES = (25, 50, 100, 200, 400, 800)

Labels = list[int | None]
Method = Callable[[LoadedModel, Task, Sequence[Mapping], Sequence[Mapping], int], Labels]
"""Learns from rows, answers others, and returns their labels; the last argument is the seed."""


def _lora(recipe: Recipe) -> Method:
    def answer(loaded: LoadedModel, task: Task, train: Sequence[Mapping], rows: Sequence[Mapping], seed: int) -> Labels:
        mine = recipe.changed(seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            finetuning.finetune(loaded, task, train, mine, folder)
        try:
            return predict.generate(loaded, configs.training_prompt(task, mine), rows).labels
        finally:
            loaded.drop_adapter()

    return answer


def _fitted(fit: baselines.Fit) -> Method:
    return lambda loaded, task, train, rows, seed: fit(task, train)(rows).labels


def _prompt(shots: int, calibrate: bool) -> Method:
    def answer(loaded: LoadedModel, task: Task, train: Sequence[Mapping], rows: Sequence[Mapping], seed: int) -> Labels:
        return predict.score(loaded, Prompt(task, few_shots(task, train, shots, seed)), rows, calibrate).labels

    return answer


METHODS: dict[str, Method] = {
    "zero-shot, scored": _prompt(0, calibrate=False),
    "8-shot, calibrated": _prompt(8, calibrate=True),
    "bag of words": _fitted(baselines.bag_of_words),
    "sentence embeddings": _fitted(baselines.sentence_embeddings),
    "frozen features": lambda loaded, task, train, rows, seed: (
        baselines.frozen_features(loaded, task, train)(rows).labels
    ),
    "LoRA, TRL's loss": _lora(QUICK.changed(lm_weight=1.0)),
    "LoRA": _lora(QUICK),
}


def crossval(
    loaded: LoadedModel, task: Task, out: Path, methods: Sequence[str], seeds: Sequence[int] = SEEDS
) -> list[dict[str, Any]]:
    """Run what is missing in `out`, and return the runs on these rows: labels by method, seed and fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    source = data.load(task)
    rows = data.in_order(task, [*source.train, *source.test])
    subject = {"task": task.name, "rows": data.rows_id(task, rows), "model": loaded.base, "recipe": QUICK.as_dict()}
    groups = groups_of(task, rows)
    for seed in seeds:
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        for fold, (train, test) in enumerate(folds.split(rows, [row["label"] for row in rows], groups)):
            for method in methods:
                key = {**subject, "method": method, "seed": seed, "fold": fold}
                _run(out, key, loaded, task, [rows[i] for i in train], [rows[i] for i in test], test.tolist())
    return _known(out, subject)


def curves(
    loaded: LoadedModel,
    task: Task,
    out: Path,
    methods: Sequence[str],
    seeds: Sequence[int] = SEEDS,
    sizes: Sequence[int] = SIZES,
) -> list[dict[str, Any]]:
    """Run what is missing in `out`, and return the runs on these rows: labels by method, seed and training rows."""
    source = data.load(task)
    train, test = data.in_order(task, source.train), data.in_order(task, source.test)
    subject = {
        "task": task.name,
        "rows": source.test_id,
        "train": source.train_id,
        "model": loaded.base,
        "recipe": QUICK.as_dict(),
    }
    for seed in seeds:
        order = random.Random(seed).sample(train, len(train))
        for size in [size for size in sizes if size < len(train)] + [len(train)]:
            for method in methods:
                key = {**subject, "method": method, "seed": seed, "size": size}
                _run(out, key, loaded, task, balanced(task, order, size), test, list(range(len(test))))
    return _known(out, subject)


def balanced(task: Task, rows: Sequence[Mapping], size: int) -> list[Mapping]:
    """Return the first `size` rows, as many of each label as that allows."""
    if size == len(rows):
        return list(rows)
    wanted = {label: size // len(task.labels) + (label < size % len(task.labels)) for label in range(len(task.labels))}
    chosen = []
    for row in rows:
        if wanted[row["label"]]:
            wanted[row["label"]] -= 1
            chosen.append(row)
    return chosen


def groups_of(task: Task, rows: Sequence[Mapping]) -> list[Any]:
    """Return the group of each row; a row of a task without groups is a group of its own."""
    return [row[task.group_column] if task.group_column else place for place, row in enumerate(rows)]


def compared(task: Task, rows: Sequence[Mapping], runs: Sequence[Mapping], a: str, b: str) -> dict[str, Any]:
    """Return two methods' accuracies over all seeds of a cross-validation, and p of the paired test by groups.

    A group's rows are one toss in all seeds, so three seeds do not count as three times the rows.
    """
    answers = {
        method: {
            (run["seed"], place): label
            for run in runs
            if run["method"] == method
            for place, label in zip(run["places"], run["labels"], strict=True)
        }
        for method in (a, b)
    }
    keys = sorted(answers[a].keys() & answers[b].keys())
    gold, groups = [rows[place]["label"] for _, place in keys], groups_of(task, rows)
    labels = {method: [answers[method][key] for key in keys] for method in (a, b)}
    return {
        "rows": len({place for _, place in keys}),
        "seeds": len({seed for seed, _ in keys}),
        **{method: sum(x == y for x, y in zip(labels[method], gold, strict=True)) / len(gold) for method in (a, b)},
        "p": metrics.paired_test(gold, labels[a], labels[b], [groups[place] for _, place in keys]),
    }


def _run(
    out: Path,
    key: dict[str, Any],
    loaded: LoadedModel,
    task: Task,
    train: Sequence[Mapping],
    rows: Sequence[Mapping],
    places: list[int],
) -> None:
    """Run a method unless `out` has it, and save its labels."""
    if _known(out, key):
        return
    start = time.perf_counter()
    labels = METHODS[key["method"]](loaded, task, train, rows, key["seed"])
    seconds = round(time.perf_counter() - start, 1)
    right = sum(label == row["label"] for label, row in zip(labels, rows, strict=True))
    with files.lock(out):
        files.write_json(
            out,
            {
                **about(),
                "runs": [
                    *_known(out, {}),
                    {**key, "trained_on": len(train), "places": places, "labels": labels, "seconds": seconds},
                ],
            },
        )
    what = ", ".join(f"{name} {key[name]}" for name in ("seed", "fold", "size") if name in key)
    print(f"{task.name}, {key['method']}, {what}: {right / len(rows):.1%} in {seconds:.0f} s", flush=True)


def _known(out: Path, key: Mapping[str, Any]) -> list[dict[str, Any]]:
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"] if out.is_file() else []
    return [run for run in runs if all(run.get(name) == value for name, value in key.items())]


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("crossval", "curves"))
    parser.add_argument("--task", choices=TASKS, default=SARCASM.name)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--out", type=Path, help="the results file")
    chosen = parser.parse_args(arguments)
    out = chosen.out or RESULTS / f"{chosen.what}.json"
    work = crossval if chosen.what == "crossval" else curves
    work(models.load(), TASKS[chosen.task], out, chosen.methods, chosen.seeds)


if __name__ == "__main__":
    main()
