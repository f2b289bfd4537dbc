"""Measure what a second process buys: rows per second of finetuning, by `llmcourse finetune` itself.

    1 process, 1 thread       the others are compared with this one
    2 processes, 1 thread     launch/cpu_2.yaml: gradients are averaged over gloo at every step
    1 process, 2 threads      the same two cores, shared inside each matrix product

All train the same rows of the bundled corpus with the recipe `quick` for the same steps, in processes of their own, in
turn. The seconds are those of training, as the run reports them. They include the frozen layers and, for two processes,
copying the model from one to the other, but not imports and loading.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import about, finish, options, spread

from llmcourse._base import files
from llmcourse.models import catalogue
from llmcourse.training import recipes

ROOT = Path(__file__).parents[1]
ALONE = "1 process, 1 thread"
WAYS = {ALONE: (1, 1), "2 processes, 1 thread each": (2, 1), "1 process, 2 threads": (1, 2)}
"""Name -> processes, threads in each."""


def command(processes: int) -> list[str]:
    """Return the command that starts `llmcourse` in so many processes."""
    if processes == 1:
        return [sys.executable, "-m", "llmcourse"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "launch" / "cpu_2.yaml")]
    return [*launch, "--num_processes", str(processes), "-m", "llmcourse"]


def trained(processes: int, threads: int, rows: int, epochs: int) -> dict[str, Any]:
    """Train once, and return what the adapter's card says about the training."""
    with tempfile.TemporaryDirectory() as runs:
        recipe = ["--recipe", recipes.QUICK.name, "--set", f"epochs={epochs}"]
        size = ["--n-train", str(rows), "--n-test", "20"]
        arguments = ["finetune", "--gear", "cpu", *recipe, *size, "--runs", runs, "--out", f"{runs}/adapter"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        subprocess.run([*command(processes), *arguments], env=environment, check=True, capture_output=True)
        return json.loads((Path(runs) / "adapter" / "llmcourse.json").read_text(encoding="utf-8"))["training"]


def main(arguments: Sequence[str] | None = None) -> dict:
    chosen = options(
        __doc__,
        arguments,
        rows=(320, 32, "training rows"),
        epochs=(2, 1, "times that each row is seen"),
        rounds=(3, 1, "times that each way is measured"),
    )
    runs: dict[str, list[dict]] = {name: [] for name in WAYS}
    for number in range(chosen.rounds):
        for turn in range(len(WAYS)):
            name = list(WAYS)[(number + turn) % len(WAYS)]
            runs[name].append(trained(*WAYS[name], chosen.rows, chosen.epochs))
            print(f"round {number + 1}, {name}: {runs[name][-1]['seconds']:.1f} s", flush=True)
    seen = chosen.rows * chosen.epochs
    losses = [training[0]["losses"] for training in runs.values()]
    apart = max(max(step) - min(step) for step in zip(*losses, strict=True))
    alone = [training["seconds"] for training in runs[ALONE]]
    ways = {}
    for name, training in runs.items():
        seconds = [run["seconds"] for run in training]
        ways[name] = {
            "processes": WAYS[name][0],
            "threads": WAYS[name][1],
            "rows_at_once": training[0]["micro_rows"],
            "seconds": [round(value, 2) for value in seconds],
            "rows_per_second": spread([seen / value for value in seconds]),
            "times_faster": spread([a / b for a, b in zip(alone, seconds, strict=True)]),
        }
    results = {
        **about(),
        "model": catalogue.EMBEDDED,
        "work": {"rows": chosen.rows, "epochs": chosen.epochs, "recipe": files.short_hash(recipes.QUICK.as_dict())},
        "agree": {"steps": len(losses[0]), "largest_difference_of_losses": round(apart, 5)},
        "ways": ways,
    }
    return finish("processes", results, chosen)


if __name__ == "__main__":
    main()
