"""What rank does a finetuning need? `python benchmarks/ranks.py` measures it for notebook 04.

The embedded model is finetuned on support messages (the task of notebook 06), on training rows only: 240 to learn from and 60 to validate. Once
in full, and the singular values of what that changed are kept, with those of noise of the same size beside them; then with LoRA,
at several ranks and several alphas, and at one rank on weights in NF4. One seed each.

Results go into the package, llmcourse/lessons/recorded/lora.json, after each run: a script that was interrupted goes on. About 20 minutes on 2 cores.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
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
from llmcourse.training.recipes import FEW, Recipe

VALIDATION = 60
SEED = 0
FULL_RATE = 5e-5
"""Learning rate of full finetuning: that of LoRA would wreck the model."""
FULL_EPOCHS = 3
RANKS = (1, 4, 16, 64)
ALPHAS = (0.25, 8)
"""alpha / r, beside the 2 of the ranks' runs."""
ALPHA_RANK = 16
NF4_RANK = 16
SHOWN_LAYER = 20
SHOWN = ("q_proj", "v_proj", "down_proj")


def split(task: Task, rows: Sequence[Mapping]) -> tuple[list[Mapping], list[Mapping]]:
    """Training rows and validation rows: as many of each label, chosen by the seed."""
    rows = data.in_order(task, rows)
    validation = list(few_shots(task, rows, VALIDATION, SEED))
    chosen = {row[task.columns[-1]] for row in validation}
    return [row for row in rows if row[task.columns[-1]] not in chosen], validation


def labelled(loaded: LoadedModel, task: Task, rows: Sequence[Mapping], recipe: Recipe) -> list[tuple[list, list]]:
    """The recipe's training rows as (tokens, labels), for `llmcourse.lessons.adaptation`: the answer and the end of the text are learned."""
    examples, _ = finetuning.training_rows(loaded, task, rows, recipe)
    result = []
    for example in examples:
        prompt = loaded.tokenizer(example["prompt"]).input_ids
        answer = [*loaded.tokenizer(example["completion"]).input_ids, loaded.tokenizer.eos_token_id]
        result.append((prompt + answer, [adaptation.IGNORED] * len(prompt) + answer))
    return result


def spectrum(delta) -> list[float]:
    """Singular values, largest first: the roots of the eigenvalues of delta times its transpose, which come in a tenth of the time."""
    import torch

    wide = (delta if delta.shape[0] <= delta.shape[1] else delta.T).double()
    return torch.linalg.eigvalsh(wide @ wide.T).clamp(min=0).sqrt().flip(0).tolist()


def rank_for(values: Sequence[float], share: float) -> int:
    """How many singular values hold a share of the energy (the sum of their squares)."""
    energy, total = 0.0, sum(value**2 for value in values)
    for rank, value in enumerate(values, start=1):
        energy += value**2
        if energy >= share * total:
            return rank
    return len(values)


def change(before: Mapping, after: Mapping, layers: int) -> dict[str, Any]:
    """What full finetuning did to the matrices: their spectra, and the ranks that hold half and nine tenths of the energy."""
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


def measure(loaded: LoadedModel, source: data.Rows, recipe: Recipe, out: Path, ranks=RANKS, alphas=ALPHAS, say=print):
    """Measure whatever `out` does not hold yet, keep it after each run, and return all of it.

    A file about other rows, another model or another recipe is begun anew.
    """
    task = source.task
    train, validation = split(task, source.train)
    subject = trained_on(loaded, task, recipe, train, validation)
    kept = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    if any(kept.get(key) != value for key, value in subject.items()):
        kept = {"runs": []}

    def keep() -> dict[str, Any]:
        whole = {**about(), **subject, **{k: v for k, v in kept.items() if k in ("full", "runs")}}
        files.write_json(out, whole)
        return whole

    if "full" not in kept:
        loaded.drop_adapter()
        settings = adaptation.Settings("full", FULL_RATE, FULL_EPOCHS, rows=recipe.batch_rows, seed=recipe.seed)
        trained = adaptation.train(loaded, labelled(loaded, task, train, recipe), settings)
        before, after = ({n: p.detach() for n, p in m.model.named_parameters()} for m in (loaded, trained.loaded))
        kept["full"] = {
            "learning_rate": FULL_RATE,
            "epochs": FULL_EPOCHS,
            "trained": trained.trainable,
            "seconds": round(trained.seconds, 1),
            "losses": [round(loss, 4) for loss in trained.losses],
            **validated(trained.loaded, recipe, task, validation),
            **change(before, after, loaded.model.config.num_hidden_layers),
        }
        del trained, after
        keep()
        say(f"full: {kept['full']['accuracy']:.0%}, {kept['full']['seconds']} s")
    wanted = [{"r": r, "alpha": 2 * r, "weights": "float32"} for r in ranks]
    wanted += [{"r": ALPHA_RANK, "alpha": int(a * ALPHA_RANK), "weights": "float32"} for a in alphas]
    wanted += [{"r": NF4_RANK, "alpha": 2 * NF4_RANK, "weights": "nf4"}]
    for one in wanted:
        if any(all(run[key] == value for key, value in one.items()) for run in kept["runs"]):
            continue
        base = loaded if one["weights"] == "float32" else models.embedded_in_nf4()
        tried = recipe.changed(r=one["r"], alpha=one["alpha"])
        with tempfile.TemporaryDirectory() as folder:
            run = finetuning.finetune(base, task, train, tried, folder)
        kept["runs"].append(
            {
                **one,
                "trained": run.trainable,
                "seconds": round(run.seconds, 1),
                "loss_last_10": round(sum(run.losses[-10:]) / len(run.losses[-10:]), 4),
                **validated(base, tried, task, validation),
            }
        )
        base.drop_adapter()
        keep()
        say(*[f"{key}: {value}" for key, value in kept["runs"][-1].items()], sep="; ")
    return keep()


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=recorded.path("lora"), help="the results file")
    options = parser.parse_args(arguments)
    measure(models.load(), data.load(SUPPORT), FEW, options.out)


if __name__ == "__main__":
    main()
