"""Compare methods on many rows: `python benchmarks/evidence.py crossval` and `python benchmarks/evidence.py curves`.

    crossval    5-fold cross-validation over all rows of a task, whole groups in one fold, with three seeds. A seed
                decides the folds, the examples of prompts and all that is random in training. Every row is a test row
                once for each seed.
    curves      accuracy on the test rows against the number of training rows, with three seeds, which also decide the
                rows

Answers are kept in results/crossval.json and results/curves.json row by row, so that any two methods can be compared in
pairs. Each fit is saved when it is done, so an interrupted script continues. LoRA takes 2 to 6 minutes a fit on 2
cores; `--methods` leaves it out. At the end the summary that notebooks show is written into the package,
llmcourse/lessons/recorded/evidence.json; `python benchmarks/evidence.py summary` does only that.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import RESULTS, about, groups_of

from llmcourse import data, models, predict
from llmcourse._base import files
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import SARCASM, TASKS, Task
from llmcourse.experiment import baselines, metrics
from llmcourse.lessons import recorded
from llmcourse.models import LoadedModel
from llmcourse.predict import features
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.training import configs, finetuning
from llmcourse.training.recipes import QUICK, Recipe

SEEDS = (0, 1, 2)
FOLDS = 5
SIZES = (25, 50, 100, 200, 400, 800)

LORA, BAG = "LoRA", "bag of words"
"""The two methods that the others are tested against."""

SCORED = "LoRA, scored"
"""LoRA whose labels are scored. With few training rows, the free answers of the others are often no label yet."""

LORAS = {"LoRA, TRL's loss": QUICK.changed(lm_weight=1.0), SCORED: QUICK, LORA: QUICK}

Labels = list[int | None]
Method = Callable[[LoadedModel, Task, Sequence[Mapping], Sequence[Mapping], int], Labels]
"""Learns from rows, answers others, and returns their labels; the last argument is the seed."""


def _lora(recipe: Recipe, ask: Callable[..., predict.Predictions] = predict.generate) -> Method:
    def answer(loaded: LoadedModel, task: Task, train: Sequence[Mapping], rows: Sequence[Mapping], seed: int) -> Labels:
        mine = recipe.changed(seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            finetuning.finetune(loaded, task, train, mine, folder)
        try:
            return ask(loaded, configs.training_prompt(task, mine), rows).labels
        finally:
            loaded.drop_adapter()

    return answer


def _fitted(fit: baselines.Fit) -> Method:
    return lambda loaded, task, train, rows, seed: fit(task, train)(rows).labels


def _on_vectors(vectors: Callable[[LoadedModel, Task, Sequence[Mapping]], Any]) -> Method:
    """Return what `baselines` does with these vectors. A row's vector is computed once, not in every fit."""
    known: dict[tuple[str, ...], Any] = {}

    def answer(loaded: LoadedModel, task: Task, train: Sequence[Mapping], rows: Sequence[Mapping], seed: int) -> Labels:
        keys = [[tuple(row[column] for column in task.columns) for row in side] for side in (train, rows)]
        missing = {key: row for key, row in zip(keys[0] + keys[1], [*train, *rows], strict=True) if key not in known}
        if missing:
            known.update(zip(missing, vectors(loaded, task, list(missing.values())), strict=True))
        model = baselines.vector_model().fit([known[key] for key in keys[0]], [row["label"] for row in train])
        return model.predict([known[key] for key in keys[1]]).tolist()

    return answer


def _prompt(shots: int, calibrate: bool) -> Method:
    def answer(loaded: LoadedModel, task: Task, train: Sequence[Mapping], rows: Sequence[Mapping], seed: int) -> Labels:
        return predict.score(loaded, Prompt(task, few_shots(task, train, shots, seed)), rows, calibrate).labels

    return answer


PROMPTS: dict[str, Method] = {
    "zero-shot, scored": _prompt(0, calibrate=False),
    "8-shot, calibrated": _prompt(8, calibrate=True),
}
METHODS: dict[str, Method] = {
    **PROMPTS,
    BAG: _fitted(baselines.bag_of_words),
    "sentence embeddings": _on_vectors(lambda loaded, task, rows: features.embeddings(task, rows)),
    "frozen features": _on_vectors(features.hidden_states),
    **{name: _lora(recipe, predict.score if name == SCORED else predict.generate) for name, recipe in LORAS.items()},
}


def crossval(
    loaded: LoadedModel,
    task: Task,
    out: Path,
    methods: Sequence[str],
    seeds: Sequence[int] = SEEDS,
    folds: Sequence[int] = tuple(range(FOLDS)),
) -> list[dict[str, Any]]:
    """Run what is missing in `out`, and return the runs on these rows: answers by method, seed and fold.

    Several processes may share the work, each with other `folds`.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    source = data.load(task)
    rows = data.in_order(task, [*source.train, *source.test])
    subject = {"task": task.name, "rows": data.rows_id(task, rows), "model": loaded.base}
    groups = groups_of(task, rows)
    for seed in seeds:
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        parts = list(splitter.split(rows, [row["label"] for row in rows], groups))
        for fold in folds:
            train, test = parts[fold]
            for method in methods:
                key = {**subject, **_method(method), "seed": seed, "fold": fold}
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
    """Run what is missing in `out`, and return the runs on these rows: answers by method, seed and training rows."""
    source = data.load(task)
    train, test = data.in_order(task, source.train), data.in_order(task, source.test)
    subject = {
        "task": task.name,
        "rows": source.test_id,
        "train": source.train_id,
        "model": loaded.base,
    }
    for seed in seeds:
        order = random.Random(seed).sample(train, len(train))
        for size in [size for size in sizes if size < len(train)] + [len(train)]:
            for method in methods:
                key = {**subject, **_method(method), "seed": seed, "size": size}
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


def crossval_summary(task: Task, rows: Sequence[Mapping], runs: Sequence[Mapping]) -> list[dict[str, Any]]:
    """Return accuracy, 95 % interval and invalid answers of each method over all seeds, and p of two tests.

    The tests are against LoRA and against the bag of words, on the rows and seeds that both answered. A group's rows
    are one toss in all seeds, so three seeds do not count as three times the rows. `n` counts rows, `n_answers`
    counts each row once for each seed. `figures.waterfall` draws such entries.
    """
    groups = groups_of(task, rows)
    answers: dict[str, dict[tuple[int, int], int | None]] = {}
    for run in runs:
        given = zip(map(int, run["places"].split()), _labels(run["answers"]), strict=True)
        answers.setdefault(run["method"], {}).update({(run["seed"], place): label for place, label in given})
    summary = []
    for method, labels in answers.items():
        right = [label == rows[place]["label"] for (_, place), label in labels.items()]
        entry = {
            "name": method,
            "kind": "finetuned" if method in LORAS else "prompted" if method in PROMPTS else "baseline",
            "seeds": sorted({seed for seed, _ in labels}),
            "n": len({place for _, place in labels}),
            "n_answers": len(labels),
            "accuracy": round(sum(right) / len(right), 4),
            "accuracy_ci95": _rounded(metrics.accuracy_interval(right, [groups[place] for _, place in labels])),
            "invalid": sum(label is None for label in labels.values()),
        }
        for name, other in {"p_against_lora": LORA, "p_against_bag": BAG}.items():
            both = sorted(labels.keys() & answers.get(other, {}).keys()) if method != other else []
            if both:
                gold, shared = [rows[place]["label"] for _, place in both], [groups[place] for _, place in both]
                mine, theirs = ([given[key] for key in both] for given in (labels, answers[other]))
                entry[name] = metrics.paired_test(gold, mine, theirs, shared)
        summary.append(entry)
    return summary


def curves_summary(task: Task, rows: Sequence[Mapping], runs: Sequence[Mapping]) -> list[dict[str, Any]]:
    """Return for each method and number of training rows: the accuracy of each seed, their mean, and its 95 % interval
    over test rows."""
    groups = groups_of(task, rows)
    by_point: dict[tuple[str, int], list[Mapping]] = {}
    for run in runs:
        by_point.setdefault((run["method"], run["size"]), []).append(run)
    points = []
    for (method, size), fits in sorted(by_point.items()):
        right = [
            [label == row["label"] for label, row in zip(_labels(run["answers"]), rows, strict=True)] for run in fits
        ]
        every = [value for fit in right for value in fit]
        points.append(
            {
                "method": method,
                "size": size,
                "seeds": [run["seed"] for run in fits],
                "accuracies": [round(sum(fit) / len(fit), 4) for fit in right],
                "mean": round(sum(every) / len(every), 4),
                "mean_ci95": _rounded(metrics.accuracy_interval(every, groups * len(fits))),
            }
        )
    return points


def summarise(out: Path | None = None, folder: Path = RESULTS) -> dict[str, Any]:
    """Write the summary of both results files, for the tasks' present rows and `QUICK`, and return it."""
    whole: dict[str, Any] = {**about(), "recipe": QUICK.as_dict(), "folds": FOLDS, "crossval": {}, "curves": {}}
    for task in TASKS.values():
        source = data.load(task)
        test = data.in_order(task, source.test)
        rows = data.in_order(task, [*source.train, *source.test])
        sets = {
            "crossval": (crossval_summary, rows, {}),
            "curves": (curves_summary, test, {"train": source.train_id}),
        }
        for what, (summary, subjects, learned) in sets.items():
            key = {"task": task.name, "rows": data.rows_id(task, subjects), **learned}
            runs = [run for name in METHODS for run in _known(folder / f"{what}.json", {**key, **_method(name)})]
            if len({json.dumps(run["model"]) for run in runs}) > 1:
                raise CourseError(f"{what}.json has runs of several models on {task.name}. Keep those of one.")
            if runs:
                whole[what][task.name] = {"rows": len(subjects), "points": summary(task, subjects, runs)}
    files.write_json(out or recorded.path("evidence"), whole)
    return whole


def _rounded(interval: Sequence[float]) -> list[float]:
    return [round(bound, 4) for bound in interval]


def _text(labels: Sequence[int | None]) -> str:
    """Return labels as a text with a character for each: a digit, or "-" for an invalid answer."""
    return "".join("-" if label is None else str(label) for label in labels)


def _labels(text: str) -> Labels:
    return [None if character == "-" else int(character) for character in text]


def _method(name: str) -> dict[str, Any]:
    """Return what a run says of its method. LoRA's runs depend on their recipe too."""
    return {"method": name, **({"recipe": LORAS[name].as_dict()} if name in LORAS else {})}


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
                    {
                        **key,
                        "trained_on": len(train),
                        "places": " ".join(map(str, places)),
                        "answers": _text(labels),
                        "seconds": seconds,
                    },
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
    parser.add_argument("what", choices=("crossval", "curves", "summary"))
    parser.add_argument("--task", choices=TASKS, default=SARCASM.name)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, metavar="N", help="training rows, besides all")
    parser.add_argument("--folds", nargs="+", type=int, choices=range(FOLDS), default=range(FOLDS), metavar="N")
    chosen = parser.parse_args(arguments)
    if chosen.what != "summary":
        common = models.load(), TASKS[chosen.task], RESULTS / f"{chosen.what}.json", chosen.methods, chosen.seeds
        crossval(*common, chosen.folds) if chosen.what == "crossval" else curves(*common, chosen.sizes)
    summarise()


if __name__ == "__main__":
    main()
