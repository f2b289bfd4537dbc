"""Makes the adapter that ships with the package: `make adapter`.

The `cpu` recipe on the bundled corpus, stored in float16 (half the size; its answers are checked after the rounding).
"""

from pathlib import Path

from llmcourse import cli, data, files, finetune, metrics, models, predict, recipes, tasks
from llmcourse.experiment import Experiment, adapter_readme


def main(runs: Path = Path("runs")) -> Path:
    """Train (or find) the adapter, round it, measure it on the test rows, and put it into the package."""
    task, recipe = tasks.SARCASM, recipes.CPU
    rows = data.load(task)
    experiment = Experiment(rows, models.load(), runs)
    folder, _ = experiment.train(recipe)
    card = models.put_adapter(experiment.loaded, folder)
    for name, parameter in experiment.loaded.model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.half().float()
    answers = predict.generate(experiment.loaded, finetune.training_prompt(task, recipe), list(rows.test))
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


if __name__ == "__main__":
    cli.quiet_libraries()
    main()
