"""The figure of notebook 02: what each change of a prompt does to its accuracy."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.figures.style import FAINT, TEXT, axes_of

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure

WAYS = {"scored": ("#0072B2", "o"), "calibrated": ("#E69F00", "^"), "generated": ("#009E73", "s")}
"""Colour and mark of each way of reading answers (Okabe and Ito 2008)."""


def prompt_levers(
    results: Mapping[str, Any], levers: Sequence[str], title: str, ways: Sequence[str] = ("scored", "calibrated")
) -> "DescribedFigure":
    """Draw accuracy on the test rows for every value of some levers, below the reference prompt.

    A mark is one prompt with its 95 % interval. Prompts of the same value (several draws of examples) share a line.
    `results` is what benchmarks/prompting.py wrote.
    """
    points = [p for p in results["points"] if p["on"] == "test" and p["lever"] in ("reference", *levers)]
    points = [p for p in points if p["way"] in ways]
    names = list(dict.fromkeys((p["lever"], p["value"]) for p in points))
    groups = [[p for p in points if (p["lever"], p["value"]) == name] for name in names]
    said = [
        f"{_name(*name)}: "
        + ", ".join(
            f"{way} {_span([p['accuracy'] for p in group if p['way'] == way])}"
            for way in ways
            if any(p["way"] == way for p in group)
        )
        for name, group in zip(names, groups, strict=True)
    ]
    figure, axes = axes_of(
        9, 0.48 * len(names) + 1.5, f"{title}. Accuracy on {results['rows']} rows. {'; '.join(said)}."
    )
    gold = results["gold"]["test"]
    axes.axvline(max(map(gold.count, set(gold))) / len(gold), color=FAINT, linewidth=1.2, linestyle="--", zorder=0)
    for way in ways:
        colour, mark = WAYS[way]
        axes.plot([], [], mark, color=colour, markersize=7, label=way)
        for line, group in enumerate(groups):
            marks = [p for p in group if p["way"] == way]
            for place, point in enumerate(marks):
                y = line + 0.22 * (ways.index(way) - (len(ways) - 1) / 2) + 0.05 * (place - (len(marks) - 1) / 2)
                axes.plot(point["accuracy_ci95"], [y, y], color=colour, linewidth=1.3, alpha=0.45)
                axes.plot(
                    point["accuracy"], y, mark, color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.5
                )
    axes.set_yticks(range(len(names)), [_name(*name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(
        f"accuracy on {results['rows']} test rows, with 95 % intervals; dashed: always the same label",
        fontsize=11,
        color=TEXT,
    )
    axes.set_title(title, fontsize=12, color=TEXT, loc="left")
    axes.legend(frameon=False, fontsize=11, loc="upper right", labelcolor=TEXT)
    return figure


def _name(lever: str, value: str) -> str:
    return lever if lever == value else f"{lever}: {value}"


def _span(values: Sequence[float]) -> str:
    """Return a value as text, or the smallest and the largest of several."""
    return f"{min(values):.0%}" + (f" to {max(values):.0%}" if len(values) > 1 else "")
