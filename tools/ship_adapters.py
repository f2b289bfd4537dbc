"""Make the adapters that ship with the package, one for each of the course's tasks: `make adapter`.

Each is trained on the bundled corpus and stored in float16, which halves its size. It is measured after the rounding.
With `--cards` only their cards and READMEs are written again. The weights stay as they are.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llmcourse
from llmcourse import cli, data, models, predict
from llmcourse._base import files
from llmcourse._base.errors import CourseError
from llmcourse.data import tasks
from llmcourse.data.tasks import Task
from llmcourse.experiment import Experiment, adapter_readme, training_spec
from llmcourse.models import adapters
from llmcourse.training import configs, recipes, training_rows
from llmcourse.training.recipes import Recipe

SHIPPED = dict.fromkeys(tasks.TASKS, recipes.QUICK)
"""The recipe of each task's adapter: the one that its notebook uses on a CPU."""

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

    # 3. Measure and store
    card["results"] = measured(experiment, recipe)
    card.pop("base")
    target = FOLDER / task.name
    models.save_adapter(experiment.loaded, target, card, adapter_readme(card), dtype="float16")
    (FOLDER / f".{task.name}.lock").unlink(missing_ok=True)
    weights = target / "adapter_model.safetensors"
    size, digest = weights.stat().st_size / 1e6, files.sha256_of_file(weights)[:12]
    print(f"{target.name}: {size:.1f} MB, {digest}, {card['results']}")
    return target


def measured(experiment: Experiment, recipe: Recipe) -> dict[str, Any]:
    """Return what the card says of the model's answers to the test rows, with its present adapter."""
    prompt = configs.training_prompt(experiment.task, recipe)
    answers = predict.generate(experiment.loaded, prompt, experiment.test_rows())
    return {"test": experiment.rows.test_id, **experiment.store.score(answers).as_dict()}


def write_card(task: Task, recipe: Recipe) -> Path:
    """Write the card and the README of a shipped adapter again, for its weights as they are.

    What the card says of the training rows is counted again, and the test rows are answered again. Raises CourseError
    if the adapter was trained on other rows, or by another recipe or prompt, than it would be now.
    """
    folder, rows = FOLDER / task.name, data.load(task)
    card = models.read_card(folder)
    spec = training_spec(task, rows.train_id, card["base"], recipe)
    # a number that recipes did not have then has its default
    defaults = {name: value for name, value in Recipe("any").as_dict().items() if name in spec["recipe"]}
    if {**card["spec"], "recipe": {**defaults, **card["spec"]["recipe"]}} != spec:
        raise CourseError(f"{folder} was trained in another way. Train it: python -m tools.ship_adapters {task.name}")
    loaded = models.load()
    _, cut = training_rows(loaded, task, list(rows.train), recipe)
    models.put_adapter(loaded, folder)
    card["results"] = measured(Experiment(rows, loaded), recipe)
    card["spec"], card["recipe"] = spec, recipe.as_dict()
    card["training"] |= {"cut_rows": cut, "max_length": recipe.max_length}
    with files.folder_aside(folder) as aside:
        for name in (adapters.CONFIG, adapters.WEIGHTS):
            shutil.copyfile(folder / name, aside / name)
        files.write_json(aside / adapters.ADAPTER_MARK, card)
        files.write_text(aside / "README.md", adapter_readme(card))
    (FOLDER / f".{task.name}.lock").unlink(missing_ok=True)
    print(f"{folder.name}: card and README written, {cut} of {len(rows.train)} training rows cut")
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Ship the adapters of the tasks named on the command line, or of all tasks if none is named."""
    parser = argparse.ArgumentParser(prog="python -m tools.ship_adapters", description="Make the adapters that ship.")
    parser.add_argument("task", nargs="*", help=f"{', '.join(SHIPPED)} (default: all)")
    parser.add_argument("--cards", action="store_true", help="write cards and READMEs again, without training")
    options = parser.parse_args(arguments)
    names = options.task or list(SHIPPED)
    if unknown := sorted(set(names) - set(SHIPPED)):
        parser.error(f"No adapter ships for the task {unknown[0]!r}. Choose from: {', '.join(SHIPPED)}.")
    for name in names:
        (write_card if options.cards else ship)(tasks.TASKS[name], SHIPPED[name])


if __name__ == "__main__":
    cli.quiet_libraries()
    main()
