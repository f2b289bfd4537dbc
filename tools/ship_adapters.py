"""Makes the adapters that ship with the package, one for each of the course's tasks: `make adapter`.

Each is trained on the bundled corpus and stored in float16 (half the size; its answers are checked after the rounding).
"""

import argparse
from pathlib import Path

from llmcourse import cli, data, models, predict
from llmcourse._base import files
from llmcourse.data import tasks
from llmcourse.data.tasks import Task
from llmcourse.experiment import Experiment, adapter_readme, metrics
from llmcourse.training import finetuning, recipes
from llmcourse.training.recipes import Recipe

SHIPPED = {"sarcasm": recipes.QUICK, "support": recipes.FEW}
"""The recipe of each task's adapter: that of its notebook on a CPU, 05 and 06."""


def ship(task: Task, recipe: Recipe, runs: Path = Path("runs")) -> Path:
    """Train (or find) a task's adapter, round it, measure it on the test rows, and put it into the package."""
    rows = data.load(task)
    experiment = Experiment(rows, models.load(), runs)
    folder, _ = experiment.train(recipe)
    card = models.put_adapter(experiment.loaded, folder)
    for name, parameter in experiment.loaded.model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.half().float()
    answers = predict.generate(experiment.loaded, finetuning.training_prompt(task, recipe), experiment.test_rows())
    score = metrics.evaluate(experiment.gold(), answers.labels, task.labels)
    card["results"] = {"test": rows.test_id, **score.as_dict()}
    card.pop("base")
    target = Path(__file__).parent / "adapters" / task.name
    models.save_adapter(experiment.loaded, target, card, adapter_readme(card), dtype="float16")
    (target.parent / f".{target.name}.lock").unlink(missing_ok=True)
    size = (target / "adapter_model.safetensors").stat().st_size / 1e6
    print(
        f"{target.name}: accuracy {score.accuracy:.1%}, {score.invalid} invalid, {size:.1f} MB, {files.sha256_of_file(target / 'adapter_model.safetensors')[:12]}"
    )
    return target


def main(arguments=None) -> None:
    """Ship the adapters of the tasks named on the command line; of all, if none is named."""
    parser = argparse.ArgumentParser(prog="python -m tools.ship_adapters", description="Make the adapters that ship.")
    parser.add_argument("task", nargs="*", help=f"{', '.join(SHIPPED)} (default: all)")
    names = parser.parse_args(arguments).task or list(SHIPPED)
    if unknown := set(names) - set(SHIPPED):
        parser.error(f"no adapter ships for {sorted(unknown)[0]!r}")
    for name in names:
        ship(tasks.TASKS[name], SHIPPED[name])


if __name__ == "__main__":
    cli.quiet_libraries()
    main()
