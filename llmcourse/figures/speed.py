"""Figures of the benchmarks: how much slower other programs are, and what a row costs as its prompt grows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmcourse.figures.style import COLOURS, FAINT, MARKS, TEXT, axes_of, beside, figure_of, tidy

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure


def times_slower(panels: Mapping[str, Mapping[str, Mapping[str, float]]]) -> "DescribedFigure":
    """Draw for each kind of work how many times slower the other programs are.

    `panels` maps a title to the programs, and each of them to its time divided by ours: min, median and max over what
    was measured in turn.
    """
    summary = "; ".join(
        f"{title}: " + ", ".join(f"{name} {ratio['median']:.1f}" for name, ratio in sides.items())
        for title, sides in panels.items()
    )
    rows = [len(sides) for sides in panels.values()]
    figure = figure_of(9, 0.42 * sum(rows) + 0.75 * len(rows) + 0.5, f"Times slower than this course. {summary}.")
    panel_axes = figure.subplots(len(rows), 1, height_ratios=rows, sharex=True, squeeze=False)[:, 0]
    for axes, (title, sides) in zip(panel_axes, panels.items(), strict=True):
        tidy(axes)
        axes.axvline(1, color=COLOURS["finetuned"], linewidth=2)
        for place, ratio in enumerate(sides.values()):
            colour = COLOURS["prompted"]
            axes.plot([ratio["min"], ratio["max"]], [place, place], color=colour, linewidth=3, alpha=0.45)
            axes.plot(ratio["median"], place, MARKS["prompted"], color=colour, markersize=8)
            beside(axes, f"{ratio['median']:.1f}x", (ratio["max"], place))
        axes.set_yticks(range(len(sides)), list(sides))
        axes.set_ylim(len(sides) - 0.4, -0.6)
        axes.set_title(title, loc="left", fontsize=11, color=TEXT)
        axes.set_xscale("log")
    largest = max(ratio["max"] for sides in panels.values() for ratio in sides.values())
    panel_axes[-1].set_xlim(0.8, largest * 1.6)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if tick <= largest * 1.3]
    panel_axes[-1].set_xticks(ticks, [f"{tick}x" for tick in ticks])
    panel_axes[-1].minorticks_off()
    panel_axes[-1].set_xlabel(
        "times the time that this course takes (line: this course; log scale)", fontsize=11, color=TEXT
    )
    return figure


def cost_of_shots(shots: Sequence[int], lines: Mapping[str, Sequence[float]]) -> "DescribedFigure":
    """Draw milliseconds per row against the number of examples in the prompt, with a line for each method."""
    summary = "; ".join(f"{name} from {values[0]:.0f} to {values[-1]:.0f} ms" for name, values in lines.items())
    figure, axes = axes_of(8, 3.8, f"Cost of a row with {shots[0]} to {shots[-1]} examples in the prompt: {summary}.")
    kinds = (("finetuned", "-"), ("prompted", "--"), ("baseline", ":"))
    for (name, values), (kind, style) in zip(lines.items(), kinds, strict=False):
        axes.plot(shots, values, style, color=COLOURS[kind], marker=MARKS[kind], linewidth=2, label=name)
    axes.set_yscale("log")
    ticks = (20, 50, 100, 200, 500, 1000, 2000)
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_xticks(list(shots))
    axes.set_xlabel("examples in the prompt", fontsize=11, color=TEXT)
    axes.set_ylabel("milliseconds per row (log scale)", fontsize=11, color=TEXT)
    axes.legend(frameon=False, fontsize=10)
    return figure
