"""Measure what rank a finetuning needs, for notebook 04: `python benchmarks/ranks.py`.

The embedded model is finetuned on 300 support messages (the task of notebook 06), of the training rows only: 240 to
learn from and 60 to validate. First in full: the singular values of the change are saved, beside those of noise of the
same size. Then with LoRA, at several ranks and alphas, and at one rank on weights in NF4. One seed each.

Each run is saved in the package, llmcourse/lessons/recorded/lora.json, so an interrupted script continues. About 20
minutes on 2 cores.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import about, trained_on, validated

from llmcourse import data, models
from llmcourse._base import files
from llmcourse.data.tasks import SUPPORT, Task
from llmcourse.lessons import adaptation, recorded
from llmcourse.models import LoadedModel
from llmcourse.predict.prompts import few_shots
from llmcourse.training import finetuning
from llmcourse.training.examples import training_rows
from llmcourse.training.recipes import QUICK, Recipe

ROWS, VALIDATION = 300, 60
SEED = 0
FULL_RATE = 5e-5
"""Learning rate of full finetuning. LoRA's rate would destroy the model."""
FULL_EPOCHS = 3
RANKS = (1, 4, 16, 64)
ALPHAS = (0.25, 8)
"""Further ratios alpha / r. The runs of RANKS have 2."""
ALPHA_RANK = 16
NF4_RANK = 16
SHOWN_LAYER = 20
SHOWN = ("q_proj", "v_proj", "down_proj")


def split(task: Task, rows: Sequence[Mapping]) -> tuple[list[Mapping], list[Mapping]]:
    """Split ROWS of the rows (or all, if they are fewer) into training and validation rows, with equally many of each
    label, chosen by the seed."""
    rows = data.in_order(task, rows)
    if len(rows) > ROWS:
        rows = data.in_order(task, few_shots(task, rows, ROWS, SEED))
    validation = list(few_shots(task, rows, VALIDATION, SEED))
    chosen = {row[task.columns[-1]] for row in validation}
    return [row for row in rows if row[task.columns[-1]] not in chosen], validation


def labelled(loaded: LoadedModel, task: Task, rows: Sequence[Mapping], recipe: Recipe) -> list[tuple[list, list]]:
    """Return the recipe's training rows as (tokens, labels) for `llmcourse.lessons.adaptation`.

    Only the answer and the end of the text are learned.
    """
    examples, _ = training_rows(loaded, task, rows, recipe)
    result = []
    for example in examples:
        prompt = loaded.tokenizer(example["prompt"]).input_ids
        answer = [*loaded.tokenizer(example["completion"]).input_ids, loaded.tokenizer.eos_token_id]
        result.append((prompt + answer, [adaptation.IGNORED] * len(prompt) + answer))
    return result


def spectrum(delta) -> list[float]:
    """Return the singular values of a matrix, largest first.

    They are the roots of the eigenvalues of delta times its transpose, which is ten times as fast as an SVD.
    """
    import torch

    wide = (delta if delta.shape[0] <= delta.shape[1] else delta.T).double()
    return torch.linalg.eigvalsh(wide @ wide.T).clamp(min=0).sqrt().flip(0).tolist()


def rank_for(values: Sequence[float], share: float) -> int:
    """Return how many singular values make up a share of the energy (the sum of their squares)."""
    energy, total = 0.0, sum(value**2 for value in values)
    for rank, value in enumerate(values, start=1):
        energy += value**2
        if energy >= share * total:
            return rank
    return len(values)


def change(before: Mapping, after: Mapping, layers: int) -> dict[str, Any]:
    """Return how full finetuning changed the matrices: spectra, and the ranks with half and 90 % of the energy."""
    import torch

    every = []
    shown = {}
    luck = torch.Generator().manual_seed(SEED)
    for layer in range(layers):
        for name in SHOWN:
            key = next(k for k in before if f"layers.{layer}." in k and k.endswith(f"{name}.weight"))
            delta = after[key] - before[key]
            values = spectrum(delta)
            noise = torch.randn(delta.shape, generator=luck)
            noisy = spectrum(noise * (delta.norm() / noise.norm()))
            entry = {"layer": layer, "matrix": name, "shape": list(delta.shape)}
            entry |= {"change": round(float(delta.norm() / before[key].norm()), 5)}
            entry |= {f"rank{int(s * 100)}": rank_for(values, s) for s in (0.5, 0.9)}
            entry |= {f"noise_rank{int(s * 100)}": rank_for(noisy, s) for s in (0.5, 0.9)}
            every.append(entry)
            if layer == min(SHOWN_LAYER, layers - 1):
                largest = values[0]
                shown[name] = {
                    "shape": list(delta.shape),
                    "change": [round(value / largest, 5) for value in values],
                    "noise": [round(value / largest, 5) for value in noisy],
                }
    return {"matrices": every, "layer": min(SHOWN_LAYER, layers - 1), "spectra": shown}


def measure_full(
    loaded: LoadedModel, task: Task, train: Sequence[Mapping], validation: Sequence[Mapping], recipe: Recipe
) -> dict[str, Any]:
    """Finetune a copy of the model in full, and return its accuracy and how its matrices changed."""
    loaded.drop_adapter()
    settings = adaptation.Settings("full", FULL_RATE, FULL_EPOCHS, rows=recipe.batch_rows, seed=recipe.seed)
    trained = adaptation.train(loaded, labelled(loaded, task, train, recipe), settings)
    before, after = ({n: p.detach() for n, p in m.model.named_parameters()} for m in (loaded, trained.loaded))
    return {
        "learning_rate": FULL_RATE,
        "epochs": FULL_EPOCHS,
        "trained": trained.trainable,
        "seconds": round(trained.seconds, 1),
        "losses": [round(loss, 4) for loss in trained.losses],
        **validated(trained.loaded, recipe, task, validation),
        **change(before, after, loaded.model.config.num_hidden_layers),
    }


def measure_lora(
    base: LoadedModel, task: Task, train: Sequence[Mapping], validation: Sequence[Mapping], recipe: Recipe
) -> dict[str, Any]:
    """Finetune with LoRA, and return its accuracy. The model has no adapter afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        run = finetuning.finetune(base, task, train, recipe, folder)
    result = {
        "trained": run.trainable,
        "seconds": round(run.seconds, 1),
        "loss_last_10": round(sum(run.losses[-10:]) / len(run.losses[-10:]), 4),
        **validated(base, recipe, task, validation),
    }
    base.drop_adapter()
    return result


def measure(
    loaded: LoadedModel,
    source: data.Rows,
    recipe: Recipe,
    out: Path,
    ranks: Sequence[int] = RANKS,
    alphas: Sequence[float] = ALPHAS,
    say: Callable[..., None] = print,
) -> dict[str, Any]:
    """Measure what is missing in `out`, save it after each run, and return all of it.

    A file about other rows, another model or another recipe is replaced.
    """
    task = source.task
    train, validation = split(task, source.train)
    subject = trained_on(loaded, task, recipe, train, validation)
    results = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    if any(results.get(key) != value for key, value in subject.items()):
        results = {"runs": []}

    def save() -> dict[str, Any]:
        whole = {**about(), **subject, **{key: results[key] for key in ("full", "runs") if key in results}}
        files.write_json(out, whole)
        return whole

    if "full" not in results:
        results["full"] = measure_full(loaded, task, train, validation, recipe)
        save()
        say(f"full: {results['full']['accuracy']:.0%}, {results['full']['seconds']} s")
    variants = [{"r": r, "alpha": 2 * r, "weights": "float32"} for r in ranks]
    variants += [{"r": ALPHA_RANK, "alpha": int(a * ALPHA_RANK), "weights": "float32"} for a in alphas]
    variants += [{"r": NF4_RANK, "alpha": 2 * NF4_RANK, "weights": "nf4"}]
    for variant in variants:
        if any(all(run[key] == value for key, value in variant.items()) for run in results["runs"]):
            continue
        base = loaded if variant["weights"] == "float32" else models.embedded_in_nf4()
        changed = recipe.changed(r=variant["r"], alpha=variant["alpha"])
        results["runs"].append({**variant, **measure_lora(base, task, train, validation, changed)})
        save()
        say(*[f"{key}: {value}" for key, value in results["runs"][-1].items()], sep="; ")
    return save()


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=recorded.path("lora"), help="the results file")
    options = parser.parse_args(arguments)
    measure(models.load(), data.load(SUPPORT), QUICK, options.out)


if __name__ == "__main__":
    main()
