"""Figures of an experiment: accuracy of the arms, training and validation loss, confusions, verdicts on one text,
errors."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from llmcourse.figures.style import COLOURS, FAINT, MARKS, TEXT, axes_of, beside, entitle, figure_of, wrap

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure


def waterfall(arms: Sequence[Mapping[str, Any]], chance: float = 0.5, title: str = "") -> "DescribedFigure":
    """Draw the accuracy of each arm with its 95 % interval, in the order in which they were run.

    `arms` are the entries of results.json. A dashed line marks `chance`, the accuracy of guessing. Slides have titles
    of their own, so `title` may be empty.
    """
    summary = "; ".join(f"{arm['name']} {arm['accuracy']:.0%}" for arm in arms)
    alt = f"Accuracy of each method on {arms[0]['n']} test rows with its 95 % interval: {summary}."
    figure, axes = axes_of(9, 0.52 * len(arms) + 1.3, f"{title}. {alt}" if title else alt)
    entitle(figure, title)
    axes.axvline(chance, color=FAINT, linewidth=1.2, linestyle="--", zorder=0)
    for place, arm in enumerate(arms):
        low, high = arm["accuracy_ci95"]
        colour = COLOURS[arm["kind"]]
        axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
        axes.plot(arm["accuracy"], place, MARKS[arm["kind"]], color=colour, markersize=9)
        # with several seeds, there are more answers than rows
        of = f" of {arm['n_answers']:,}" if "n_answers" in arm else ""
        invalid = f"   {arm['invalid']}{of} invalid" if arm["invalid"] else ""
        beside(axes, f"{arm['accuracy']:.0%}{invalid}", (high, place))
    axes.set_yticks(range(len(arms)), [arm["name"] for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(
        f"accuracy on {arms[0]['n']} test rows, with 95 % interval (dashed: guessing)", fontsize=11, color=TEXT
    )
    return figure


def loss_curve(
    losses: Sequence[float], window: int = 10, title: str = "", guess: float | None = None
) -> "DescribedFigure":
    """Draw the training loss of each step, in nats, and its running mean over `window` steps.

    A dashed line marks `guess`, the loss of a model that knows the answer's format and tosses a coin for the label.
    """
    from matplotlib.ticker import LogLocator

    alt = (
        f"Training loss over {len(losses)} steps, from {losses[0]:.2f} to {losses[-1]:.2f}."
        if losses
        else "No loss yet."
    )
    if guess is not None:
        alt += f" A dashed line at {guess:.2f} marks guessing."
    figure, axes = axes_of(8, 3.6, f"{title}. {alt}" if title else alt)
    steps = range(1, len(losses) + 1)
    axes.plot(steps, losses, color=FAINT, linewidth=1, label="one step")
    means = [sum(losses[max(0, i - window) : i]) / len(losses[max(0, i - window) : i]) for i in steps]
    axes.plot(steps, means, color=COLOURS["finetuned"], linewidth=2.2, label=f"mean of the last {window}")
    if guess is not None:
        axes.axhline(guess, color=TEXT, linewidth=1.2, linestyle="--", label=f"guessing the label: {guess:.2f}")
    entitle(figure, title)
    axes.set_xlabel("optimiser step", fontsize=11, color=TEXT)
    log = max(losses, default=0) > 2  # TRL's loss starts so high that its first steps would flatten all others
    if log:
        axes.set_yscale("log", subs=[])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(f"loss (nats{', log scale' if log else ''})", fontsize=11, color=TEXT)
    axes.legend(frameon=False, fontsize=10)
    return figure


def validation_curve(
    losses: Sequence[float], validation: Sequence[Mapping[str, float]], title: str, guess: float
) -> "DescribedFigure":
    """Draw the loss on held-out rows after each epoch, and the mean training loss of the steps of that epoch, in nats.

    `losses` are those of each step, and `validation` the entries of a training's card. A dashed line marks `guess`, the
    loss of guessing the label, and a dotted one the epoch with the smallest loss on held-out rows.
    """
    epochs, held_out = zip(*((entry["epoch"], entry["loss"]) for entry in validation), strict=True)
    ends = [round(len(losses) * epoch / epochs[-1]) for epoch in (0, *epochs)]
    parts = [losses[start:end] for start, end in pairwise(ends)]
    trained = [sum(part) / len(part) for part in parts]
    best = min(validation, key=lambda entry: entry["loss"])["epoch"]
    alt = (
        f"{title}. Over {len(epochs)} epochs the training loss goes from {trained[0]:.2f} to {trained[-1]:.2f}, and the"
        f" loss on held-out rows from {held_out[0]:.2f} to {held_out[-1]:.2f}. It is smallest after epoch {best:g}."
    )
    figure, axes = axes_of(8, 3.6, alt)
    axes.plot(epochs, trained, "-", color=COLOURS["baseline"], marker="o", linewidth=2.2, label="training rows")
    axes.plot(epochs, held_out, "-", color=COLOURS["finetuned"], marker="D", linewidth=2.2, label="held-out rows")
    axes.axhline(guess, color=TEXT, linewidth=1.2, linestyle="--", label=f"guessing: {guess:.2f}")
    axes.axvline(best, color=COLOURS["finetuned"], linewidth=1.2, linestyle=":", label=f"best epoch: {best:g}")
    entitle(figure, title)
    axes.set_ylim(bottom=0)
    axes.set_xticks(epochs)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("epoch", fontsize=11, color=TEXT)
    axes.set_ylabel("loss (nats)", fontsize=11, color=TEXT)
    axes.legend(frameon=False, fontsize=10)
    return figure


CURVES = (("finetuned", "-"), ("prompted", "--"), ("baseline", ":"), ("baseline", "-."))
"""Colour, mark and line of each method of `learning_curves`, in their order."""


def learning_curves(
    curves: Mapping[str, Sequence[tuple[int, float, float, float]]], title: str, chance: float = 0.5
) -> "DescribedFigure":
    """Draw accuracy on the test rows against the number of training rows, with a line for each method.

    `curves` maps a method to (training rows, accuracy, low, high) for each size; the band is its 95 % interval. The
    first method is drawn as the finetuned one. Four methods at most.
    """
    summary = "; ".join(
        f"{name} from {points[0][1]:.0%} with {points[0][0]} rows to {points[-1][1]:.0%} with {points[-1][0]:,}"
        for name, points in curves.items()
    )
    figure, axes = axes_of(8, 4.2, f"{title}. {summary}.")
    axes.axhline(chance, color=FAINT, linewidth=1.2, linestyle="--", zorder=0)
    for (name, points), (kind, style) in zip(curves.items(), CURVES, strict=False):
        sizes, means, lows, highs = zip(*points, strict=True)
        axes.fill_between(sizes, lows, highs, color=COLOURS[kind], alpha=0.12, linewidth=0)
        axes.plot(sizes, means, style, color=COLOURS[kind], marker=MARKS[kind], linewidth=2, markersize=6, label=name)
    ticks = sorted({size for points in curves.values() for size, *_ in points})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("training rows (log scale)", fontsize=11, color=TEXT)
    axes.set_ylabel("accuracy on the test rows", fontsize=11, color=TEXT)
    entitle(figure, title)
    axes.legend(frameon=False, fontsize=10)
    return figure


def confusions(
    tables: Mapping[str, Sequence[Sequence[int]]], labels: Sequence[str], title: str = ""
) -> "DescribedFigure":
    """Draw gold against predicted labels, one table for each method, with invalid answers in the last column.

    `tables` maps a method's name to the counts that `metrics.confusion` returns: table[gold][predicted].
    """
    names = [*labels, "invalid"]
    summaries = [
        f"{name}: "
        + "; ".join(
            f"gold {g}: {', '.join(f'{n} {c}' for n, c in zip(names, row, strict=True))}"
            for g, row in zip(labels, table, strict=True)
        )
        for name, table in tables.items()
    ]
    alt = f"{title or 'Gold labels against answers'}. {' | '.join(summaries)}."
    figure = figure_of(3.4 * len(tables) + 0.8, 3.2, alt)
    for place, (name, table) in enumerate(tables.items()):
        axes = figure.add_subplot(1, len(tables), place + 1)
        largest = max(max(row) for row in table) or 1
        axes.pcolormesh(table, cmap="Blues", vmin=0, vmax=largest * 1.3, edgecolors="white", linewidth=2)
        axes.invert_yaxis()
        for y, row in enumerate(table):
            for x, count in enumerate(row):
                axes.text(
                    x + 0.5,
                    y + 0.5,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=12,
                    color="white" if count > 0.8 * largest else TEXT,
                )
        axes.set_xticks([x + 0.5 for x in range(len(names))], names, fontsize=11, rotation=20, ha="right")
        axes.set_yticks(
            [y + 0.5 for y in range(len(labels))], labels if place == 0 else [""] * len(labels), fontsize=11
        )
        axes.tick_params(length=0)
        axes.spines[["left", "bottom", "top", "right"]].set_visible(False)
        axes.set_title(name, fontsize=11, color=TEXT)
        axes.set_xlabel("predicted", fontsize=11, color=TEXT)
        if place == 0:
            axes.set_ylabel("gold", fontsize=11, color=TEXT)
    entitle(figure, title)
    return figure


def verdicts(answers: Mapping[str, Sequence[float]], labels: Sequence[str]) -> "DescribedFigure":
    """Draw how several methods judge one text: the probability of every label, as a bar with its number.

    `answers` maps a method's name to probabilities in the order of `labels`.
    """
    summary = "; ".join(
        f"{name}: " + ", ".join(f"{label} {p:.0%}" for label, p in zip(labels, values, strict=True))
        for name, values in answers.items()
    )
    figure, axes = axes_of(8, 0.75 * len(answers) + 0.9, f"How the text is judged. {summary}.")
    shades = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442")
    for place, values in enumerate(answers.values()):
        start = 0.0
        for number, (label, p) in enumerate(zip(labels, values, strict=True)):
            axes.barh(place, p, left=start, height=0.6, color=shades[number % len(shades)], edgecolor="white")
            if p > 0.12:
                axes.text(start + p / 2, place, f"{label}\n{p:.0%}", ha="center", va="center", fontsize=10, color=TEXT)
            start += p
    axes.set_yticks(range(len(answers)), list(answers))
    axes.set_ylim(len(answers) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_xlabel("probability", fontsize=11, color=TEXT)
    return figure


def wrong_rows(rows: Sequence[tuple[str, str, str]], title: str, left: int = 0) -> "DescribedFigure":
    """Draw rows that were answered wrong, as a table: the text, the right label, the answer.

    `rows` are (text, right, answered), and `left` is how many more there are.
    """
    wrapped = [wrap(text, 78) for text, _, _ in rows]
    wrapped = [lines[:3] + ["…"] * (len(lines) > 3) for lines in wrapped]
    summary = "; ".join(f"“{text}” is {right}, answered {answered}" for text, right, answered in rows)
    height = 0.27 * sum(len(lines) + 0.7 for lines in wrapped) + 1.1
    figure = figure_of(11, height, f"{title}. {summary or 'None'}.")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    y = 0.0
    plain: dict[str, Any] = {"va": "top", "fontsize": 11, "color": TEXT, "linespacing": 1.35, "parse_math": False}
    for x, name in ((0, "text"), (0.70, "right"), (0.86, "answered")):
        axes.text(x, y, name, **plain | {"color": "#666666"})
    y += 1.5
    for lines, (_, right, answered) in zip(wrapped, rows, strict=True):
        axes.axhline(y - 0.3, color=FAINT, linewidth=0.8)
        axes.text(0, y, "\n".join(lines), **plain)
        axes.text(0.70, y, right, **plain)
        axes.text(0.86, y, answered, **plain | {"fontweight": "bold", "color": COLOURS["finetuned"]})
        y += len(lines) + 0.7
    if left:
        axes.text(0, y, f"and {left} more", **plain | {"color": "#666666"})
        y += 1
    axes.set_ylim(y, 0)
    axes.set_title(title, fontsize=12, color=TEXT, loc="left", parse_math=False)
    return figure
