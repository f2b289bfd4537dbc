"""Measure which parts of the `quick` recipe pay: `python benchmarks/recipes.py` trains variants with three seeds each.

The embedded model is trained on sarcasm's training rows only, split by parent: 800 to learn from, 200 to validate. The
variants change the dropout and how many upper layers get adapters. A seed decides the first A matrices, the order of
the rows and the dropout. Each run is saved in results/recipes.json, so an interrupted script continues. `--variants`
chooses some of them. Two scripts may run beside each other with one thread each (OMP_NUM_THREADS=1), as ours did: about
40 minutes on 2 cores.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import RESULTS, about, trained_on, validated

from llmcourse import data, models
from llmcourse._base import files
from llmcourse.data.tasks import SARCASM, Task
from llmcourse.models import LoadedModel
from llmcourse.training import finetuning
from llmcourse.training.recipes import QUICK, Recipe

SEEDS = (42, 43, 44)
VARIANTS = {
    "quick": {},
    "dropout 0.05": {"dropout": 0.05},
    "upper 6 layers": {"upper_layers": 6},
    "all 30 layers": {"upper_layers": None},
}
SHARE = 0.2


def split(task: Task, rows: Sequence[Mapping]) -> tuple[list[Mapping], list[Mapping]]:
    """Split rows by a hash into training and validation rows. No group of the task is in both."""
    column = task.group_column
    order = sorted({row[column] for row in rows}, key=files.short_hash)
    chosen = set(order[: round(SHARE * len(order))])
    rows = data.in_order(task, rows)
    return [row for row in rows if row[column] not in chosen], [row for row in rows if row[column] in chosen]


def measure(
    loaded: LoadedModel,
    source: data.Rows,
    recipe: Recipe,
    out: Path,
    variants: Sequence[str] = tuple(VARIANTS),
    seeds: Sequence[int] = SEEDS,
    say: Callable[..., None] = print,
) -> dict[str, Any]:
    """Run what is missing in `out` and return all of it. A file about other rows, model or recipe is replaced."""
    task = source.task
    train, validation = split(task, source.train)
    subject = trained_on(loaded, task, recipe, train, validation)

    def known() -> dict[str, Any]:
        kept = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
        return kept if all(kept.get(key) == value for key, value in subject.items()) else {"runs": []}

    for seed in seeds:
        for name in variants:
            if any((run["variant"], run["seed"]) == (name, seed) for run in known()["runs"]):
                continue
            tried = recipe.changed(seed=seed, **VARIANTS[name])
            with tempfile.TemporaryDirectory() as folder:
                run = finetuning.finetune(loaded, task, train, tried, folder)
            result = {
                "variant": name,
                "seed": seed,
                "trained": run.trainable,
                "seconds": round(run.seconds, 1),
                "loss_last_10": round(sum(run.losses[-10:]) / len(run.losses[-10:]), 4),
                **validated(loaded, tried, task, validation),
            }
            with files.lock(out):
                runs = sorted([*known()["runs"], result], key=lambda run: (run["variant"], run["seed"]))
                files.write_json(out, {**about(), **subject, "runs": runs})
            say(*[f"{key}: {value}" for key, value in result.items()], sep="; ", flush=True)
    loaded.drop_adapter()
    return known()


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "recipes.json", help="the results file")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    options = parser.parse_args(arguments)
    measure(models.load(), data.load(SARCASM), QUICK, options.out, options.variants)


if __name__ == "__main__":
    main()
