"""Figures of notebook 03: what each kind of adaptation answers, and what it forgets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.figures.style import COLOURS, FAINT, TEXT, axes_of

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure

WAYS = {"full": ("#D55E00", "s", "-"), "lora": ("#0072B2", "o", "--")}
"""Colour, mark and line of each way of training (Okabe and Ito 2008)."""


def answer_rates(rates: Sequence[Mapping[str, Any]]) -> "DescribedFigure":
    """Draw the share of right answers of each method, with its 95 % interval and its count.

    Each of `rates` has `name`, `right`, `n` and `ci95` (low and high, as shares).
    """
    summary = "; ".join(f"{rate['name']} {rate['right']} of {rate['n']}" for rate in rates)
    figure, axes = axes_of(9, 0.42 * len(rates) + 1.1, f"Right answers of each arm. {summary}.")
    for place, rate in enumerate(rates):
        share = rate["right"] / rate["n"]
        axes.barh(place, share, height=0.62, color=COLOURS["prompted"], alpha=0.75)
        axes.plot(rate["ci95"], [place, place], color=TEXT, linewidth=2, solid_capstyle="butt")
        axes.text(
            max(share, rate["ci95"][1]) + 0.015, place, f"{rate['right']} of {rate['n']}", va="center", fontsize=11
        )
    axes.set_yticks(range(len(rates)), [rate["name"] for rate in rates])
    axes.set_ylim(len(rates) - 0.4, -0.6)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("right answers, with 95 % interval", fontsize=11, color=TEXT)
    return figure


def forgetting(
    paths: Mapping[str, Sequence[tuple[float, float]]], gain: str = "perplexity on unseen passages"
) -> "DescribedFigure":
    """Draw how far a model has moved on general text against what it has gained, with a mark for each epoch.

    `paths` maps "full" and "lora" to pairs of gain (the x axis, named by `gain`) and divergence in nats per token. The
    first pair is the base model.
    """
    summary = "; ".join(
        f"{way}: " + ", then ".join(f"{gain} {x:.1f} and {y:.3f} nats" for x, y in pairs)
        for way, pairs in paths.items()
    )
    figure, axes = axes_of(8, 4.2, f"Divergence on general passages against {gain}, epoch by epoch. {summary}.")
    for way, pairs in paths.items():
        colour, mark, line = WAYS[way]
        x, y = zip(*pairs, strict=True)
        name = {"full": "full finetuning", "lora": "LoRA"}[way]
        axes.plot(x, y, color=colour, marker=mark, markersize=8, linestyle=line, linewidth=2, label=name)
        for epoch, pair in enumerate(pairs[1:], start=1):
            axes.annotate(f"{epoch}", pair, xytext=(7, -3), textcoords="offset points", fontsize=10, color=TEXT)
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.invert_xaxis()
    axes.set_xlabel(f"{gain} (better to the right)", fontsize=11, color=TEXT)
    axes.set_ylabel("KL to the base model on\ngeneral passages, nats a token", fontsize=11, color=TEXT)
    axes.legend(frameon=False, fontsize=11)
    return figure
