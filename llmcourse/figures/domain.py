"""Figures of notebook 03 and its appendix A2: how RAG works, what each kind of adaptation answers, what it forgets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.figures.style import COLOURS, FAINT, TEXT, axes_of

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure

WAYS = {"full": ("#D55E00", "s", "-"), "lora": ("#0072B2", "o", "--")}
"""Colour, mark and line of each way of training (Okabe and Ito 2008)."""

BOXES = (  # name, text, x, y, width, height, colour
    ("Question", "How deep is the\nwater in the tank?", 0, 23, 19, 12, "#f4f4f4"),
    ("Retriever", "compares the question\nwith every page", 26, 23, 21, 12, "#c6dff0"),
    ("Your pages", "turned into vectors\nonce, in advance", 26, 2, 21, 12, "#f4f4f4"),
    ("Prompt", "the best page,\nthen the question", 54, 23, 18, 12, "#e3eef6"),
    ("Language model", "reads the page\nand answers", 79, 23, 21, 12, "#fbd9c0"),
    ("Answer", "3.2 metres,\nwith the page to check", 79, 2, 21, 12, "#f4f4f4"),
)
ARROWS = (  # from, to
    ((19, 29), (26, 29)),
    ((36.5, 14), (36.5, 23)),
    ((47, 29), (54, 29)),
    ((72, 29), (79, 29)),
    ((89.5, 23), (89.5, 14)),
)


def rag_picture(title: str = "RAG finds a page first, and the model answers from it") -> "DescribedFigure":
    """Draw the parts of retrieval-augmented generation and what passes between them."""
    from matplotlib.patches import FancyBboxPatch

    alt = (
        f"{title}. Boxes joined by arrows: the question goes to the retriever, which compares it with your pages. The"
        " pages were turned into vectors in advance. The best page and the question form the prompt. The language"
        " model reads the prompt and answers, and the page can be shown beside the answer."
    )
    figure, axes = axes_of(10.5, 4.2, alt)
    for name, text, x, y, width, height, colour in BOXES:
        axes.add_patch(
            FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=1.5", facecolor=colour, edgecolor=TEXT)
        )
        axes.text(x + width / 2, y + height - 1.6, name, fontsize=12, fontweight="bold", ha="center", va="top")
        axes.text(x + width / 2, y + 1.4, text, fontsize=10.5, ha="center", va="bottom", color=TEXT)
    for start, end in ARROWS:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": TEXT, "linewidth": 1.6})
    axes.set_title(title, fontsize=13, color=TEXT, loc="left")
    axes.set_xlim(-0.5, 100.5)
    axes.set_ylim(0, 37)
    axes.axis("off")
    return figure


def answer_rates(rates: Sequence[Mapping[str, Any]], title: str = "") -> "DescribedFigure":
    """Draw the share of right answers of each method, with its 95 % interval and its count.

    Each of `rates` has `name`, `right`, `n` and `ci95` (low and high, as shares). `title` is the figure's message.
    """
    summary = "; ".join(f"{rate['name']} {rate['right']} of {rate['n']}" for rate in rates)
    height = 0.42 * len(rates) + (1.5 if title else 1.1)
    figure, axes = axes_of(9, height, f"{title or 'Right answers of each method'}. {summary}.")
    if title:
        figure.suptitle(title, fontsize=13, color=TEXT, x=0.01, ha="left")
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
    paths: Mapping[str, Sequence[tuple[float, float]]],
    gain: str = "perplexity on unseen passages",
    title: str = "Divergence on general passages, epoch by epoch",
) -> "DescribedFigure":
    """Draw how far a model has moved on general text against what it has gained, with a mark for each epoch.

    `paths` maps "full" and "lora" to pairs of gain (the x axis, named by `gain`) and divergence in nats per token. The
    first pair is the base model. `title` is the figure's message.
    """
    summary = "; ".join(
        f"{way}: " + ", then ".join(f"{gain} {x:.1f} and {y:.3f} nats" for x, y in pairs)
        for way, pairs in paths.items()
    )
    figure, axes = axes_of(8, 4.2, f"{title}. {summary}.")
    axes.set_title(title, fontsize=13, color=TEXT, loc="left")
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
