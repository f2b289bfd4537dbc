"""The comparison as one HTML file with its figures inside. It has no script and loads nothing from elsewhere."""

from importlib import resources
from pathlib import Path
from typing import Any

from llmcourse import figures
from llmcourse._base import files
from llmcourse.data import screen
from llmcourse.experiment import metrics
from llmcourse.experiment.experiment import Experiment


def write(experiment: Experiment, folder: str | Path, peak_memory_gib: float | None = None) -> Path:
    """Write results.json and report.html into `folder`. Return the report's path."""
    folder = Path(folder)
    results = experiment.results(peak_memory_gib)
    files.write_json(folder / "results.json", results)
    return files.write_text(folder / "report.html", render(experiment, results))


def render(experiment: Experiment, results: dict[str, Any]) -> str:
    """Return the HTML of an experiment's report; `results` are its own, as results.json holds them.

    Every text of data or model is escaped, and its characters of text direction are made visible, so that it cannot
    change anything around it.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_show_directions
    )
    template = resources.files("llmcourse.experiment").joinpath("report.html.j2").read_text(encoding="utf-8")
    finetuned = [arm for arm in experiment.arms if arm.kind == "finetuned"]
    losses = [arm.training["losses"] for arm in finetuned if arm.training]
    best = experiment.best_prompted()
    compared = [*([best] if best else []), *finetuned[-1:]]
    return environment.from_string(template).render(
        results=results,
        task=experiment.task,
        arms=[
            {
                **entry,
                "example": arm.example or "",
                "report": experiment.report(arm),
            }
            for entry, arm in zip(results["arms"], experiment.arms, strict=True)
        ],
        example=experiment.task.example,
        notes=notes(results),
        tests=notable_tests(results),
        p_text=metrics.p_text,
        waterfall=figures.svg(experiment.waterfall()),
        loss=figures.svg(figures.loss_curve(losses[-1])) if losses else None,
        confusions=figures.svg(experiment.confusions(*compared)) if compared else None,
    )


def _show_directions(value: object) -> object:
    """Return a value as the template writes it: in a text, and in the markup of a figure, direction becomes visible."""
    return type(value)(screen.escape_directions(value)) if isinstance(value, str) else value


def notable_tests(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the paired tests of the finetuned arms, or all tests if there is no such arm."""
    finetuned = {arm["name"] for arm in results["arms"] if arm["kind"] == "finetuned"}
    return [test for test in results["tests"] if not finetuned or {test["a"], test["b"]} & finetuned]


def notes(results: dict[str, Any]) -> list[str]:
    """Return the notes of the arms, each with the arm's name."""
    return [f"{arm['name']}: {note}" for arm in results["arms"] for note in arm.get("notes", [])]


def table(results: dict[str, Any]) -> str:
    """Return the comparison as a Markdown table, for the README and the shell."""
    lines = [
        "| method | accuracy | 95 % interval | macro-F1 | invalid | s per row |",
        "|---|---:|:---:|---:|---:|---:|",
    ]
    for arm in results["arms"]:
        low, high = arm["accuracy_ci95"]
        interval = "one answer for all" if low == high else f"{low:.1%} to {high:.1%}"
        lines.append(
            f"| {arm['name']} | {arm['accuracy']:.1%} | {interval} | {arm['macro_f1']:.2f}"
            f" | {arm['invalid']} | {arm['seconds_per_row']:.3f} |"
        )
    return "\n".join(lines)
