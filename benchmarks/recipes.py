"""Choose a recipe on training rows only: `python benchmarks/recipes.py` trains variants with three seeds each.

Each run holds out a fifth of the task's training rows, by parent where the task has one, and scores them after each
epoch. A seed decides the held-out rows, the first A matrices and the order of the rows. No test row is read. Each run
is saved in results/recipes.json, so an interrupted script continues. A variant is a list of a recipe's values, written
as on the command line of `finetune`: `python benchmarks/recipes.py --variants "learning_rate=5e-4" "epochs=6 r=16"`.
A run takes 2 to 5 minutes on 2 cores.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from measure import RESULTS, about

from llmcourse import data, models
from llmcourse._base import files
from llmcourse.cli.shared import recipe_values
from llmcourse.data.tasks import SARCASM, TASKS
from llmcourse.models import LoadedModel
from llmcourse.training import finetuning
from llmcourse.training.recipes import QUICK, RECIPES, Recipe

SEEDS = (42, 43, 44)
SHARE = 0.2
"""How many of the rows are held out."""
VARIANTS = (
    "",
    "lm_weight=1.0",
    "lm_weight=0.01",
    "epochs=3",
    "learning_rate=5e-4",
    "upper_layers=18",
    "target_modules=('q_proj','k_proj','v_proj','o_proj','gate_proj','up_proj','down_proj') r=16",
)


def measure(
    loaded: LoadedModel,
    source: data.Rows,
    recipe: Recipe,
    out: Path,
    variants: Sequence[str] = VARIANTS,
    seeds: Sequence[int] = SEEDS,
    say: Callable[..., None] = print,
) -> list[dict[str, Any]]:
    """Run what is missing in `out` and return the runs on these rows, with this model and recipe."""
    task, rows = source.task, list(source.train)
    subject = {"task": task.name, "train_id": source.train_id, "model": loaded.base, "recipe": recipe.as_dict()}

    def known() -> list[dict[str, Any]]:
        return json.loads(out.read_text(encoding="utf-8"))["runs"] if out.is_file() else []

    for seed in seeds:
        for variant in variants:
            run = {**subject, "variant": variant, "seed": seed}
            if any(all(kept[key] == value for key, value in run.items()) for kept in known()):
                continue
            values = recipe_values(variant.split())
            tried = recipe.changed(**{"validation": SHARE, "seed": seed, **values})
            with tempfile.TemporaryDirectory() as folder:
                done = finetuning.finetune(loaded, task, rows, tried, folder)
            run |= {
                "rows": done.rows,
                "held_out": done.held_out,
                "trained": done.trainable,
                "seconds": round(done.seconds, 1),
                "loss_last_10": round(sum(done.losses[-10:]) / len(done.losses[-10:]), 4),
                "validation": done.validation,
            }
            with files.lock(out):
                files.write_json(out, {**about(), "runs": [*known(), run]})
            curve = ", ".join(f"{entry['accuracy']:.3f} ({entry['loss']:.3f})" for entry in done.validation)
            say(f"{task.name}, seed {seed}, {variant or recipe.name}, {done.seconds:.0f} s: {curve}", flush=True)
    loaded.drop_adapter()
    return [kept for kept in known() if all(kept[key] == value for key, value in subject.items())]


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "recipes.json", help="the results file")
    parser.add_argument("--task", choices=TASKS, default=SARCASM.name)
    parser.add_argument("--data", default="bundled", metavar="FILE", help="rows of your own (default: the course's)")
    parser.add_argument("--recipe", choices=RECIPES, default=QUICK.name, help="what the variants change")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, metavar='"NAME=VALUE ..."')
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N")
    chosen = parser.parse_args(arguments)
    source = data.load(TASKS[chosen.task], chosen.data)
    measure(models.load(), source, RECIPES[chosen.recipe], chosen.out, chosen.variants, chosen.seeds)


if __name__ == "__main__":
    main()
