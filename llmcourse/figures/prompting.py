"""Figures of notebook 02: how the number, choice and order of examples, and the parts of a prompt, change accuracy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmcourse.figures.style import COLOURS, FAINT, MARKS, TEXT, axes_of, beside, figure_of, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from llmcourse.figures.described import DescribedFigure

WAYS = {"scored": ("#0072B2", "o"), "calibrated": ("#E69F00", "^")}
"""Colour and mark of each way of reading label probabilities (Okabe and Ito 2008)."""


def shots_and_draws(results: Mapping[str, Any], chance: float = 0.5) -> "DescribedFigure":
    """Draw accuracy against the number of examples: a mark for each draw with its 95 % interval, a bar at the median.

    `results` is what benchmarks/prompting.py wrote.
    """
    summary = "; ".join(
        f"{part['k']} examples, {part['way']}: median {part['median']:.0%}, {part['min']:.0%} to {part['max']:.0%}"
        for part in results["summary"]
    )
    figure, axes = axes_of(9, 4.2, f"Accuracy on {results['rows']} rows against the number of examples. {summary}.")
    axes.axhline(chance, color=FAINT, linewidth=1.2, linestyle="--", zorder=0)
    shots = sorted({point["k"] for point in results["points"]})
    draws = max(point["draw"] for point in results["points"])
    for side, (way, (colour, mark)) in zip((-1, 1), WAYS.items(), strict=True):
        middle = {k: shots.index(k) + side * 0.19 for k in shots}
        for point in (point for point in results["points"] if point["way"] == way):
            # draws of the same number are shifted, so that equal ones are all visible
            shift = 0.055 * (point["draw"] - draws / 2) if point["k"] else 0
            _mark(axes, middle[point["k"]] + shift, point, colour, mark)
        for part in (part for part in results["summary"] if part["way"] == way and part["draws"] > 1):
            ends = middle[part["k"]] - 0.17, middle[part["k"]] + 0.17
            axes.plot(ends, [part["median"]] * 2, color=colour, linewidth=2.5, solid_capstyle="butt")
    axes.set_xticks(range(len(shots)), [str(k) for k in shots])
    axes.set_xlabel(
        "examples in the prompt; a mark is one draw of them with its 95 % interval, a bar their median",
        fontsize=11,
        color=TEXT,
    )
    _accuracy(axes, results["rows"])
    _legend(axes)
    return figure


def order_effect(results: Mapping[str, Any], chance: float = 0.5) -> "DescribedFigure":
    """Draw the same examples in several orders, sorted by how many calibrated answers are the last label.

    The upper panel shows the share of rows that get this label, the lower one the accuracy with its 95 % interval.
    `results` is what benchmarks/prompting.py wrote.
    """
    word = list(results["orders"][0]["answers"])[-1]
    by_way = {way: [point for point in results["orders"] if point["way"] == way] for way in WAYS}
    places = sorted(range(len(by_way["scored"])), key=lambda place: -by_way["calibrated"][place]["answers"][word])
    names = ["".join(label[0] for label in by_way["scored"][place]["labels"]) for place in places]
    summary = "; ".join(
        f"{name}: {by_way['calibrated'][place]['answers'][word]} calibrated answers {word}"
        f" ({by_way['scored'][place]['answers'][word]} scored), accuracy {by_way['calibrated'][place]['accuracy']:.0%}"
        for name, place in zip(names, places, strict=True)
    )
    figure = figure_of(9, 5.2, f"The same examples in {len(names)} orders, on {results['rows']} rows. {summary}.")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for side, (way, (colour, mark)) in zip((-1, 1), WAYS.items(), strict=True):
        for x, place in enumerate(places):
            point = by_way[way][place]
            share = point["answers"][word] / results["rows"]
            hatch = "//" if way == "calibrated" else None  # to tell them apart without colour
            upper.bar(x + side * 0.2, share, 0.36, color=colour, hatch=hatch, edgecolor="white", label="" if x else way)
            _mark(lower, x + side * 0.16, point, colour, mark)
    for axes in (upper, lower):
        axes.axhline(chance, color=FAINT, linewidth=1.2, linestyle="--", zorder=0)
        tidy(axes)
    upper.set_ylim(0, 1)
    upper.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    upper.set_ylabel(f"answered\n{word}", fontsize=11, color=TEXT)
    upper.legend(frameon=False, fontsize=11, ncols=2, loc="upper right", labelcolor=TEXT)
    lower.set_xticks(range(len(places)), names)
    initials = ", ".join(f"{label[0]}: {label}" for label in results["orders"][0]["answers"])
    lower.set_xlabel(f"order of the same four examples ({initials})", fontsize=11, color=TEXT)
    _accuracy(lower, results["rows"])
    return figure


def ablation(prompts: Mapping[str, Mapping[str, Any]], label: str, chance: float = 0.5) -> "DescribedFigure":
    """Draw a prompt, whole and without its parts: mean probability of a label, and accuracy with its 95 % interval.

    Each of `prompts` has `n`, `probability` (of the label, mean over the rows), `accuracy` and `accuracy_ci95`.
    """
    summary = "; ".join(
        f"{name}: probability of {label} {result['probability']:.0%}, accuracy {result['accuracy']:.0%}"
        for name, result in prompts.items()
    )
    figure = figure_of(9, 0.5 * len(prompts) + 1.4, f"A prompt, whole and without its parts. {summary}.")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, result in enumerate(prompts.values()):
        colour = COLOURS["prompted"] if place else COLOURS["baseline"]
        left.barh(place, result["probability"], 0.55, color=colour)
        beside(left, f"{result['probability']:.0%}", (result["probability"], place), 5)
        low, high = result["accuracy_ci95"]
        right.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
        right.plot(result["accuracy"], place, MARKS["prompted"], color=colour, markersize=9)
    for axes in (left, right):
        axes.axvline(chance, color=FAINT, linewidth=1.2, linestyle="--", zorder=0)
        tidy(axes)
        axes.set_ylim(len(prompts) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    left.set_yticks(range(len(prompts)), list(prompts))
    rows = next(iter(prompts.values()))["n"]
    left.set_xlabel(f"mean probability of {label}", fontsize=11, color=TEXT)
    right.set_xlabel(f"accuracy on {rows} rows, with 95 % interval", fontsize=11, color=TEXT)
    return figure


def _mark(axes: "Axes", x: float, point: Mapping[str, Any], colour: str, mark: str) -> None:
    low, high = point["accuracy_ci95"]
    axes.plot([x, x], [low, high], color=colour, linewidth=1.3, alpha=0.5)
    axes.plot(x, point["accuracy"], mark, color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.5)


def _accuracy(axes: "Axes", rows: int) -> None:
    axes.set_ylim(0.25, 0.75)
    axes.set_yticks([0.3, 0.4, 0.5, 0.6, 0.7], ["30 %", "40 %", "50 %", "60 %", "70 %"])
    axes.set_ylabel(f"accuracy on {rows} rows", fontsize=11, color=TEXT)


def _legend(axes: "Axes") -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=colour, marker=mark, markersize=7, linewidth=1.3, label=way)
        for way, (colour, mark) in WAYS.items()
    ]
    axes.legend(handles=marks, frameon=False, fontsize=11, ncols=2, loc="upper right", labelcolor=TEXT)
