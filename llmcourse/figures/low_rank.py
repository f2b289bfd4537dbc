"""Figures of notebook 04: LoRA's matrices, the rank of a change, the levels of 4 bits, and what fits a GPU."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llmcourse.figures.style import FAINT, TEXT, axes_of, beside, entitle, figure_of

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure

FROZEN, LEARNS, SCALES = "#7a7a7a", "#D55E00", "#0072B2"
THINNEST = 0.004
"""The least thickness of a matrix in a picture, as a share of the longest side."""


def lora_flow() -> "DescribedFigure":
    """Draw how an input goes through a frozen matrix and through LoRA's two matrices, and how the results are added."""
    from matplotlib.patches import FancyBboxPatch

    title = "LoRA adds a narrow path that learns beside a matrix that is frozen"
    alt = (
        f"{title}. The input x goes two ways. Above it goes through the large matrix W, which is frozen. Below it goes"
        " through A, which makes r numbers of it, then through B, and is scaled by alpha / r. Both results are added to"
        " give the output y."
    )
    figure, axes = axes_of(9.5, 3.5, alt)
    entitle(figure, title)
    boxes = (  # text, x, y, width, height, colour, border
        ("W\nfrozen", 3.2, 1.9, 3.6, 1.9, "#e6e6e6", FROZEN),
        ("A\nlearns", 2.4, 0.15, 1.5, 1.0, "#fbd9c0", LEARNS),
        ("B\nlearns", 5.6, 0.15, 1.5, 1.0, "#fbd9c0", LEARNS),
    )
    for text, x, y, width, height, colour, border in boxes:
        shape = "round,pad=0,rounding_size=0.12"
        axes.add_patch(FancyBboxPatch((x, y), width, height, shape, facecolor=colour, edgecolor=border, linewidth=1.8))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=13, color=TEXT)
    arrows = (  # from, to, line width
        ((0.75, 1.75), (3.15, 2.85), 5), ((6.85, 2.85), (8.6, 2.0), 5), ((0.75, 1.55), (2.35, 0.65), 5),
        ((3.95, 0.65), (5.55, 0.65), 1.2), ((7.15, 0.65), (8.6, 1.55), 5), ((9.15, 1.77), (9.9, 1.77), 5),
    )  # fmt: skip
    for start, end, width in arrows:
        style = {"arrowstyle": "-|>", "linewidth": width, "color": FROZEN, "mutation_scale": 14 + 2 * width}
        axes.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
    for text, x, y, size in (("x", 0.5, 1.65, 17), ("+", 8.87, 1.77, 22), ("y", 10.15, 1.77, 17)):
        axes.text(x, y, text, ha="center", va="center", fontsize=size, color=TEXT)
    axes.text(4.75, 0.78, "only r numbers", ha="center", va="bottom", fontsize=11, color=TEXT)
    axes.text(8.0, 0.62, "times α / r", ha="left", va="center", fontsize=12, color=TEXT)
    axes.set_xlim(0.2, 10.4)
    axes.set_ylim(0, 3.9)
    axes.axis("off")
    return figure


def training_runs(runs: Mapping[str, Sequence[float]], title: str = "") -> "DescribedFigure":
    """Draw the losses of several short runs, step by step. `runs` maps a name to its losses in nats per token."""
    summary = "; ".join(f"{name}: from {losses[0]:.2f} to {losses[-1]:.2f}" for name, losses in runs.items())
    steps = max(map(len, runs.values()))
    figure, axes = axes_of(8, 3.4, f"{title}. Loss over {steps} steps. {summary}.".removeprefix(". "))
    entitle(figure, title)
    looks = (("s", FROZEN, "-"), ("o", LEARNS, "-"), ("x", SCALES, ":"))
    for (name, losses), (mark, colour, line) in zip(runs.items(), looks, strict=False):
        size = 12 if mark == "x" else 7  # a cross shows on top of another mark
        steps_of = range(1, len(losses) + 1)
        axes.plot(
            steps_of,
            losses,
            line,
            marker=mark,
            color=colour,
            markersize=size,
            markeredgewidth=1.8,
            label=name,
            alpha=0.9,
        )
    axes.set_ylim(0)
    axes.set_xlabel("step", fontsize=11, color=TEXT)
    axes.set_ylabel("loss, nats per token", fontsize=11, color=TEXT)
    axes.legend(frameon=False, fontsize=11)
    return figure


def lora_picture(shape: tuple[int, int], r: int, name: str = "W", title: str = "") -> "DescribedFigure":
    """Draw a frozen matrix of `shape` (out, in) and the two that learn beside it, to scale where that is visible."""
    from matplotlib.patches import Rectangle

    rows, columns = shape
    full, lora = rows * columns, r * (rows + columns)
    unit = 1 / max(rows, columns)
    scale = (
        "Drawn to scale" if r * unit >= THINNEST else "Drawn to scale, except B and A, which would be too thin to see"
    )
    alt = (
        f"{scale}: the frozen matrix {name}, {rows} times {columns}, {full:,} numbers; beside it B, {rows} times {r},"
        f" and A, {r} times {columns}, together {lora:,} numbers that learn, {lora / full:.2%} of {name}."
    )
    figure, axes = axes_of(10, 4.6, alt)
    entitle(figure, title)
    height, width, thin = rows * unit, columns * unit, max(r * unit, THINNEST)
    axes.add_patch(
        Rectangle((0, -height), width, height, facecolor="#e6e6e6", edgecolor=FROZEN, hatch="//", linewidth=1.5)
    )
    left = width + 0.35
    axes.add_patch(Rectangle((left, -height), thin, height, facecolor=LEARNS, linewidth=0))
    right = left + thin + 0.22
    axes.add_patch(Rectangle((right, -thin), width, thin, facecolor=SCALES, linewidth=0))
    text: dict[str, Any] = {"ha": "center", "va": "center", "color": TEXT}
    axes.text(
        width / 2,
        -height / 2,
        f"{name}\n{rows:,} × {columns:,}\nfrozen",
        fontsize=13,
        **text,
        bbox={"facecolor": "white", "edgecolor": "none"},
    )
    axes.text(width + 0.17, -height / 2, "+  α/r ·", fontsize=15, **text)
    axes.text(left + thin / 2, 0.07, f"B  {rows:,} × {r}", fontsize=12, **text)
    axes.text(left + thin + 0.11, -height / 2, "·", fontsize=20, **text)
    axes.text(right + width / 2, 0.07, f"A  {r} × {columns:,}", fontsize=12, **text)
    axes.text(
        right + width / 2, -height / 2, f"{full:,} numbers stay\n{lora:,} learn: {lora / full:.2%}", fontsize=13, **text
    )
    axes.set_xlim(-0.02, right + width + 0.05)
    axes.set_ylim(-height - 0.04, 0.14)
    axes.set_aspect("equal")
    axes.axis("off")
    return figure


def reduced_parameters(counts: Mapping[str, tuple[int, Mapping[str, int]]], title: str = "") -> "DescribedFigure":
    """Draw the parameters of full finetuning against those that LoRA trains, on a log axis, as the talk's figure does.

    `counts` maps a model's name to its parameters, and to how many of them each method trains.
    """
    bars = [
        bar
        for model, (total, ways) in counts.items()
        for bar in ((f"{model}, in full", total, total), *((f"{model}, {way}", n, total) for way, n in ways.items()))
    ]
    summary = "; ".join(f"{name}: {n:,}" for name, n, _ in bars)
    figure, axes = axes_of(9.5, 0.42 * len(bars) + 1.2, f"Parameters that are trained. {summary}.")
    entitle(figure, title)
    for place, (_, n, total) in enumerate(bars):
        in_full = n == total
        # marks instead of bars, because the length of a bar means nothing on a log axis
        axes.plot(n, place, "s" if in_full else "D", color=FROZEN if in_full else LEARNS, markersize=10)
        share = "" if in_full else f"  ({n / total:.2%})"
        beside(axes, f"{n:,}{share}", (n, place), 12)
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(min(n for _, n, _ in bars) / 20, max(n for _, n, _ in bars) * 60)
    axes.xaxis.set_major_formatter(lambda n, _: f"{n / 1e9:,.0f} billion" if n >= 1e9 else f"{n / 1e6:,.0f} million")
    axes.minorticks_off()
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.set_xlabel("trained parameters (logarithmic)", fontsize=11, color=TEXT)
    return figure


def spectra(full: Mapping[str, Any], share: float = 0.9, title: str = "") -> "DescribedFigure":
    """Draw the singular values of what full finetuning changed, and of noise of the same size: one panel per matrix.

    `full` is the entry of that name in what benchmarks/ranks.py wrote. A mark shows how many of the largest values add
    up to `share` of the sum of squares.
    """
    entries = {entry["matrix"]: entry for entry in full["matrices"] if entry["layer"] == full["layer"]}
    key = f"rank{share * 100:.0f}"
    summary = "; ".join(
        f"{name}: {entries[name][key]} of {min(entries[name]['shape'])} singular values hold {share:.0%} of the change,"
        f" {entries[name]['noise_' + key]} of the noise"
        for name in full["spectra"]
    )
    figure = figure_of(11, 4.1, f"Singular values in layer {full['layer']}. {summary}.")
    entitle(figure, title)
    panels = figure.subplots(1, len(full["spectra"]), sharey=True)
    for axes, (name, values) in zip(panels, full["spectra"].items(), strict=True):
        for kind, colour, line in (("change", LEARNS, "-"), ("noise", FROZEN, "--")):
            label = {"change": "what training changed", "noise": "noise of the same size"}[kind]
            axes.plot(
                range(1, len(values[kind]) + 1), values[kind], color=colour, linestyle=line, linewidth=2, label=label
            )
            rank = entries[name][key if kind == "change" else f"noise_{key}"]
            axes.plot(rank, values[kind][rank - 1], "o" if kind == "change" else "s", color=colour, markersize=8)
            axes.annotate(
                f"{rank}",
                (rank, values[kind][rank - 1]),
                xytext=(-8, -14) if kind == "change" else (5, 6),
                textcoords="offset points",
                ha="right" if kind == "change" else "left",
                fontsize=11,
                color=TEXT,
            )
        rows, columns = values["shape"]
        axes.set_title(f"{name}  {rows} × {columns}", fontsize=12, color=TEXT)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yscale("log")
        axes.set_ylim(0.01, 1.5)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("singular value number", fontsize=11, color=TEXT)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("size, largest = 1", fontsize=11, color=TEXT)
    panels[0].legend(frameon=False, fontsize=10, loc="lower left", title=f"mark: {share:.0%} of the sum of squares")
    return figure


def ranks(results: Mapping[str, Any], labels: int = 4, title: str = "") -> "DescribedFigure":
    """Draw how well LoRA does on validation rows, against its rank (with alpha = 2r) and against alpha / r.

    `results` is what benchmarks/ranks.py wrote. The y axis is the mean log-probability of the right label, and the
    accuracy is written beside each mark. `labels` is how many labels the task has.
    """
    from math import log

    plain = [run for run in results["runs"] if run["weights"] == "float32"]
    by_rank = sorted((run for run in plain if run["alpha"] == 2 * run["r"]), key=lambda run: run["r"])
    r = next(run["r"] for run in plain if run["alpha"] != 2 * run["r"])
    by_alpha = sorted((run for run in plain if run["r"] == r), key=lambda run: run["alpha"])
    summary = "; ".join(f"r={run['r']}: {run['log_probability']:.2f}, {run['accuracy']:.0%}" for run in by_rank)
    summary += ". " + "; ".join(
        f"alpha/r={run['alpha'] / run['r']:g}: {run['log_probability']:.2f}, {run['accuracy']:.0%}" for run in by_alpha
    )
    figure = figure_of(
        11,
        4.2,
        f"Mean log-probability of the right label on {results['validation']} validation rows, and accuracy. {summary}.",
    )
    entitle(figure, title)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, runs, place in (
        (left, by_rank, lambda run: run["r"]),
        (right, by_alpha, lambda run: run["alpha"] / run["r"]),
    ):
        axes.axhline(-log(labels), color=FROZEN, linestyle="--", linewidth=1.2)
        axes.plot([place(run) for run in runs], [run["log_probability"] for run in runs], "-", color=FAINT)
        axes.axhline(results["full"]["log_probability"], color=FROZEN, linestyle=":", linewidth=1.8)
        for run in runs:
            axes.plot(place(run), run["log_probability"], "D", color=LEARNS, markersize=8)
            axes.annotate(
                f"{run['accuracy']:.0%}",
                (place(run), run["log_probability"]),
                xytext=(0, -20),
                textcoords="offset points",
                ha="center",
                fontsize=11,
                color=TEXT,
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks([place(run) for run in runs], [f"{place(run):g}" for run in runs])
        axes.spines[["top", "right"]].set_visible(False)
    left.set_xlabel("rank r, with α = 2r", fontsize=11, color=TEXT)
    right.set_xlabel(f"α / r, with r = {r}", fontsize=11, color=TEXT)
    left.set_ylabel("log-probability of the right label", fontsize=11, color=TEXT)
    left.margins(y=0.25)
    for height, label in ((-log(labels), "guessing"), (results["full"]["log_probability"], "full finetuning")):
        start = left.get_xlim()[0] * 1.1
        left.annotate(label, (start, height), xytext=(0, 4), textcoords="offset points", fontsize=10, color=TEXT)
    return figure


def levels(
    scaled: Sequence[float], tables: Mapping[str, Sequence[float]], errors: Mapping[str, float], title: str = ""
) -> "DescribedFigure":
    """Draw weights divided by the largest of their block, with the levels of several 4-bit types: one panel per type.

    `errors` gives each type's root mean square error, as a share of the weights' standard deviation.
    """
    summary = "; ".join(f"{name}: {len(values)} levels, error {errors[name]:.1%}" for name, values in tables.items())
    figure = figure_of(
        9.5,
        2.2 * len(tables) + 0.4,
        f"Weights of all blocks, each divided by its block's largest, and the levels. {summary}.",
    )
    entitle(figure, title)
    panels = figure.subplots(len(tables), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, tables.items(), strict=True):
        axes.hist(scaled, bins=161, range=(-1, 1), density=True, color="#bcd7ea")
        top = axes.get_ylim()[1]
        axes.vlines(values, 0, top, color=LEARNS, linewidth=1.6)
        axes.set_title(
            f"{name}: {len(values)} levels, error {errors[name]:.1%} of the weights' spread",
            fontsize=12,
            color=TEXT,
            loc="left",
        )
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[-1].set_xlabel("weight / largest absolute weight of its block", fontsize=11, color=TEXT)
    return figure


PARTS = {
    "weights": ("#7a7a7a", "//"),
    "gradients": ("#D55E00", "xx"),
    "optimiser": ("#E69F00", "\\\\"),
    "adapter": ("#009E73", "++"),
    "activations": ("#56B4E9", ".."),
    "rest": ("#CC79A7", "||"),
}
"""Colour and hatching of the parts of a plan."""


class Plan(Protocol):
    """What this figure needs of a `training.planner.Plan`, which it may not import."""

    @property
    def parts(self) -> Mapping[str, int | float]: ...

    @property
    def gib(self) -> float: ...

    def fits(self, gpu_gib: float, /) -> bool: ...


def memory(plans: Mapping[str, Plan], gpu_gib: float, gpu: str = "T4", title: str = "") -> "DescribedFigure":
    """Draw what several methods of finetuning need, part by part, against a GPU's memory.

    `plans` maps a method's name to its plan, and `gpu_gib` is the GPU's memory.
    """
    from matplotlib.patches import Patch

    gib = 2**30
    summary = "; ".join(
        f"{name}: {plan.gib:.1f} GiB, {'fits' if plan.fits(gpu_gib) else 'does not fit'}"
        for name, plan in plans.items()
    )
    figure, axes = axes_of(
        10, 0.75 * len(plans) + 1.9, f"Memory of a training step against {gpu_gib:g} GiB of a {gpu}. {summary}."
    )
    entitle(figure, title)
    largest = max(plan.gib for plan in plans.values())
    for place, plan in enumerate(plans.values()):
        sizes = dict.fromkeys(PARTS, 0.0)
        for name, size in plan.parts.items():
            kind = "gradients" if name.startswith("gradients") else name if name in PARTS else "rest"
            sizes[kind] += size / gib
        start = 0.0
        for kind, size in sizes.items():
            colour, hatch = PARTS[kind]
            axes.barh(place, size, left=start, color=colour, hatch=hatch, edgecolor="white", height=0.62)
            start += size
        verdict = "fits" if plan.fits(gpu_gib) else "does not fit"
        axes.annotate(
            f"{plan.gib:.1f} GiB, {verdict}",
            (start, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
            color=TEXT,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.axvline(gpu_gib, color=TEXT, linewidth=1.5, linestyle="--", zorder=0.5)
    axes.annotate(
        f"{gpu}: {gpu_gib:g} GiB", (gpu_gib, -0.62), xytext=(4, 2), textcoords="offset points", fontsize=11, color=TEXT
    )
    axes.set_yticks(range(len(plans)), list(plans))
    axes.set_ylim(len(plans) - 0.4, -0.9)
    axes.set_xlim(0, max(largest, gpu_gib) * 1.4)
    axes.set_xlabel("GiB", fontsize=11, color=TEXT)
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=kind) for kind, (colour, hatch) in PARTS.items()
    ]
    axes.legend(
        handles=handles,
        ncols=6,
        frameon=False,
        fontsize=10,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.2),
    )
    return figure
