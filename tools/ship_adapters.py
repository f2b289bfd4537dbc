"""Make the adapters that ship with the package, one for each of the course's tasks: `make adapter`.

Each is trained on the bundled corpus and stored in float16, which halves its size. It is measured after the rounding.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import llmcourse
from llmcourse import cli, data, models, predict
from llmcourse._base import files
from llmcourse.data import tasks
from llmcourse.data.tasks import Task
from llmcourse.experiment import Experiment, adapter_readme, metrics
from llmcourse.training import configs, recipes
from llmcourse.training.recipes import Recipe

SHIPPED = {"sarcasm": recipes.QUICK, "support": recipes.FEW}
"""The recipe of each task's adapter: the one that its notebook (05, 06) uses on a CPU."""

FOLDER = Path(llmcourse.__file__).parent / "models" / "shipped"


def ship(task: Task, recipe: Recipe, runs: Path = Path("runs")) -> Path:
    """Train a task's adapter or reuse it, round it, measure it on the test rows, and add it to the package."""
    # 1. Train
    rows = data.load(task)
    experiment = Experiment(rows, models.load(), runs)
    folder, _ = experiment.train(recipe)

    # 2. Round to float16, as it is stored
    card = models.put_adapter(experiment.loaded, folder)
    for name, parameter in experiment.loaded.model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.half().float()

    # 3. Measure
    answers = predict.generate(experiment.loaded, configs.training_prompt(task, recipe), experiment.test_rows())
    score = metrics.evaluate(experiment.gold(), answers.labels, task.labels)

    # 4. Store
    card["results"] = {"test": rows.test_id, **score.as_dict()}
    card.pop("base")
    target = FOLDER / task.name
    models.save_adapter(experiment.loaded, target, card, adapter_readme(card), dtype="float16")
    (FOLDER / f".{task.name}.lock").unlink(missing_ok=True)
    weights = target / "adapter_model.safetensors"
    size, digest = weights.stat().st_size / 1e6, files.sha256_of_file(weights)[:12]
    print(f"{target.name}: accuracy {score.accuracy:.1%}, {score.invalid} invalid, {size:.1f} MB, {digest}")
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    """Ship the adapters of the tasks named on the command line, or of all tasks if none is named."""
    parser = argparse.ArgumentParser(prog="python -m tools.ship_adapters", description="Make the adapters that ship.")
    parser.add_argument("task", nargs="*", help=f"{', '.join(SHIPPED)} (default: all)")
    names = parser.parse_args(arguments).task or list(SHIPPED)
    if unknown := sorted(set(names) - set(SHIPPED)):
        parser.error(f"No adapter ships for the task {unknown[0]!r}. Choose from: {', '.join(SHIPPED)}.")
    for name in names:
        ship(tasks.TASKS[name], SHIPPED[name])


if __name__ == "__main__":
    cli.quiet_libraries()
    main()
