"""The comparison as one HTML file: figures inside, no script, nothing loaded from elsewhere. Computes nothing itself."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from llmcourse import figures
from llmcourse._base import files
from llmcourse.data import screen
from llmcourse.experiment import metrics
from llmcourse.experiment.experiment import Arm, Experiment


def write(
    experiment: Experiment, results: dict[str, Any], folder: str | Path, arms: Sequence[Arm] | None = None
) -> Path:
    """Write results.json and report.html into `folder`; return the report's path."""
    folder = Path(folder)
    arms = list(arms or experiment.arms)
    files.write_json(folder / "results.json", results)
    return files.write_text(folder / "report.html", render(experiment, results, arms))


def render(experiment: Experiment, results: dict[str, Any], arms: Sequence[Arm]) -> str:
    """The report's HTML. Every text from data or model is escaped, and cannot turn the direction of what stands around it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    template = environment.from_string(
        resources.files("llmcourse.experiment").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    labels, gold = experiment.task.labels, experiment.gold()
    finetuned = [arm for arm in arms if arm.kind == "finetuned"]
    trained = [arm for arm in finetuned if arm.training]
    compared = [*best_prompted(arms), *finetuned[-1:]]
    return template.render(
        results=results,
        task=experiment.task,
        arms=[
            {
                **arm.as_dict(),
                "example": arm.example or "",
                "report": metrics.report(gold, arm.predictions.labels, labels),
            }
            for arm in arms
        ],
        example=experiment.task.example,
        tests=notable_tests(results),
        waterfall=figures.svg(figures.waterfall(results["arms"], 1 / len(labels))),
        loss=figures.svg(figures.loss_curve(trained[-1].training["losses"])) if trained else None,
        confusions=figures.svg(
            figures.confusions(
                {arm.name: metrics.confusion(gold, arm.predictions.labels, labels) for arm in compared}, labels
            )
        )
        if compared
        else None,
    )


def _shown(value: object) -> object:
    """What the template writes of a value: a text, or the markup of a figure, with characters of direction made visible."""
    return type(value)(screen.directions_shown(value)) if isinstance(value, str) else value


def best_prompted(arms: Sequence[Arm]) -> list[Arm]:
    """The prompted arm with the highest accuracy (a list of one, or none)."""
    prompted = [arm for arm in arms if arm.kind == "prompted"]
    return [max(prompted, key=lambda arm: arm.score.accuracy)] if prompted else []


def notable_tests(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The paired tests that involve a finetuned arm; all tests if there is none."""
    names = {arm["name"] for arm in results["arms"] if arm["kind"] == "finetuned"}
    found = [test for test in results["tests"] if not names or {test["a"], test["b"]} & names]
    return found


def table(results: dict[str, Any]) -> str:
    """The comparison as a Markdown table, as the README and the shell show it."""
    lines = [
        "| arm | accuracy | 95 % interval | macro-F1 | invalid | s a row |",
        "|---|---:|:---:|---:|---:|---:|",
    ]
    for arm in results["arms"]:
        low, high = arm["accuracy_ci95"]
        lines.append(
            f"| {arm['name']} | {arm['accuracy']:.1%} | {low:.1%} to {high:.1%} | {arm['macro_f1']:.2f} | {arm['invalid']}"
            f" | {arm['seconds_per_row']:.3f} |"
        )
    return "\n".join(lines)


def p_text(p: float) -> str:
    """A p value as people read it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
