"""Figures of notebook 01: the fields of AI, a transformer, the next token, attention heads, and how sizes grew."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from llmcourse.figures.style import TEXT, axes_of, entitle, figure_of

if TYPE_CHECKING:
    import torch

    from llmcourse.figures.described import DescribedFigure

BLUE, ORANGE, GREEN, SKY = "#0072B2", "#D55E00", "#009E73", "#56B4E9"

RULES = "machines that solve tasks; also by written rules (chess)"
BOXES = (  # title, description, x, y, width, height, colour
    ("Artificial intelligence", RULES, 0, 0, 100, 60, "#f4f4f4"),
    ("AGI", "any task, as a human would; an aim, so far empty", 57, 49.5, 41, 9, "white"),
    ("Machine learning", "learns from data (bag of words\n+ logistic regression)", 2, 2, 96, 46, "#e3eef6"),
    ("Neural networks", "layers of connected neurons", 4, 4, 92, 31, "#c6dff0"),
    ("Deep learning", "several hidden layers\n(recognises images)", 6, 6, 88, 20, "#9fcbe8"),
    ("Generative AI", "makes text, images, sound\n(Markov chains do, too)", 52, 8, 40, 37, "none"),
    ("Large language models", "predict the next token\n(SmolLM2, Mistral)", 54, 10, 36, 13, "#fbd9c0"),
)
"""The place of each field. Generative AI reaches beyond deep learning: Shannon let Markov chains write in 1948."""


def ai_map(described: bool = True, title: str = "") -> "DescribedFigure":
    """Draw the fields of AI as boxes in boxes, down to large language models.

    Without descriptions, as slides need it, the boxes have titles only.
    """
    from matplotlib.patches import FancyBboxPatch

    alt = (
        "Boxes in boxes: artificial intelligence contains machine learning, which contains neural networks, which"
        " contain deep learning. Generative AI overlaps the last two and reaches into machine learning. Large language"
        " models are where it overlaps deep learning. AGI is a dashed, empty box in artificial intelligence: an aim."
    )
    figure, axes = axes_of(10.5, 6.2, alt)
    entitle(figure, title)
    for name, description, x, y, width, height, colour in BOXES:
        border = ORANGE if name in ("Generative AI", "Large language models") else BLUE
        shape = FancyBboxPatch(
            (x, y), width, height, "round,pad=0,rounding_size=1.5", facecolor=colour, edgecolor=border, linewidth=1.8
        )
        shape.set_linestyle("--" if name == "AGI" else "-")
        axes.add_patch(shape)
        axes.text(x + 1.6, y + height - 1.5, name, fontsize=13, fontweight="bold", va="top", color=TEXT)
        if described:
            axes.text(x + 1.6, y + height - 4.8, description, fontsize=11, va="top", color=TEXT)
    axes.set_xlim(-0.5, 100.5)
    axes.set_ylim(-0.5, 60.5)
    axes.axis("off")
    return figure


def transformer(
    layers: int = 30, tokens: Sequence[str] = ("The", " capital", " of", " France", " is")
) -> "DescribedFigure":
    """Draw how a transformer with this many layers reads tokens and predicts the next one, from the bottom up."""
    from matplotlib.patches import FancyBboxPatch

    title = "A transformer is a stack of equal layers that ends in a probability for every token"
    words = ", ".join(token.strip() for token in tokens)
    alt = (
        f"{title}. From the bottom up: the tokens {words}; a table that turns each token into a vector; {layers}"
        " layers, of which one is drawn open; an output matrix that gives every token of the vocabulary a probability."
        " In a layer, self-attention lets each token read the tokens before it. Then a feed-forward network changes"
        " each token by itself. A line past each of the two shows that its result is added to its input."
    )
    figure, axes = axes_of(10, 6.4, alt)
    entitle(figure, title)
    text: dict[str, Any] = {"ha": "center", "va": "center", "color": TEXT}

    def box(x: float, y: float, width: float, height: float, words: str, colour: str, border: str = BLUE) -> None:
        shape = "round,pad=0,rounding_size=0.12"
        axes.add_patch(FancyBboxPatch((x, y), width, height, shape, facecolor=colour, edgecolor=border, linewidth=1.8))
        axes.text(x + width / 2, y + height / 2, words, fontsize=12, **text)

    def arrow(*points: tuple[float, float]) -> None:
        for start, end in pairwise(points[:-1]):
            axes.plot(*zip(start, end, strict=True), color=TEXT, linewidth=1.4)
        style = {"arrowstyle": "-|>", "linewidth": 1.4, "color": TEXT, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", points[-1], points[-2], arrowprops=style)

    spots = [1.1 + 4.8 * (place + 0.5) / len(tokens) for place in range(len(tokens))]
    for spot, token in zip(spots, tokens, strict=True):
        axes.text(spot, 0.3, repr(token), fontsize=12, family="monospace", **text)
        arrow((spot, 0.5), (spot, 0.85))
        arrow((spot, 1.5), (spot, 2.0))
    box(1, 0.87, 5, 0.62, "table: one vector for each token", "#e3eef6")
    for shift in (0.36, 0.18):  # the layers above the one that is drawn open
        box(1 + shift, 2.02 + shift, 5, 3.5, "", "#f4f4f4")
    box(1, 2.02, 5, 3.5, "", "#f4f4f4")
    for y, words in (
        (2.5, "self-attention:\neach token reads those before it"),
        (4.2, "feed-forward network:\neach token by itself"),
    ):
        box(1.7, y, 3.6, 0.8, words, "#9fcbe8" if y < 3 else "#fbd9c0", BLUE if y < 3 else ORANGE)
        arrow((3.5, y - 0.4 if y < 3 else y - 0.43), (3.5, y))
        arrow((3.5, y + 0.8), (3.5, y + 1.02))
        axes.text(3.5, y + 1.12, "+", fontsize=15, **text)
        arrow((3.5, y - 0.25), (1.35, y - 0.25), (1.35, y + 1.12), (3.35, y + 1.12))
    arrow((3.5, 5.47), (3.5, 6.28))
    axes.text(6.6, 3.8, f"{layers} layers,\none above\nthe other", fontsize=13, color=TEXT, va="center")
    box(1, 6.3, 5, 0.62, "output matrix and softmax", "#e3eef6")
    arrow((3.5, 6.92), (3.5, 7.3))
    axes.text(3.5, 7.5, "a probability for every token of the vocabulary", fontsize=12, **text)
    axes.set_xlim(0.6, 9)
    axes.set_ylim(0, 7.7)
    axes.axis("off")
    return figure


def token_bars(
    tokens: Sequence[str], panels: Mapping[str, Sequence[float]], context: str = "", title: str = ""
) -> "DescribedFigure":
    """Draw how probable each token is as the next one, with a panel for each setting.

    `panels` maps a title to as many probabilities as there are `tokens`. A token with probability 0 is "cut off".
    """
    summary = "; ".join(
        f"{title}: " + ", ".join(f"{t!r} {p:.1%}" for t, p in zip(tokens, values, strict=True))
        for title, values in panels.items()
    )
    start = f"Probability of the next token after {context!r}. " if context else "Probability of the next token. "
    figure = figure_of(3.3 + 2.5 * len(panels), 0.36 * len(tokens) + 1.5, start + summary)
    largest = max(max(values) for values in panels.values())
    for place, (title, values) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        axes.barh(range(len(tokens)), values, color=BLUE, height=0.7)
        for y, value in enumerate(values):
            text = f"{value:.1%}" if value > 0 else "cut off"
            axes.text(value + largest * 0.03, y, text, va="center", fontsize=11, color=TEXT if value > 0 else "#6b6b6b")
        names = [repr(token) for token in tokens] if place == 0 else [""] * len(tokens)
        axes.set_yticks(range(len(tokens)), names, fontsize=12)
        axes.set_xlim(0, largest * 1.4)
        axes.set_xticks([])
        axes.set_ylim(len(tokens) - 0.4, -0.6)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(length=0, colors=TEXT)
        axes.set_title(title, fontsize=12, color=TEXT)
    if context and title:
        figure.supxlabel(f"after: {context} …", fontsize=12, color=TEXT, x=0.01, ha="left")
    elif context:
        figure.suptitle(f"{context} …", fontsize=13, color=TEXT, x=0.01, ha="left")
    entitle(figure, title)
    return figure


def attention_heads(
    tokens: Sequence[str], panels: Mapping[str, Sequence[Sequence[float]]], title: str = ""
) -> "DescribedFigure":
    """Draw attention weights of some heads: from each token (row) to the tokens that it may see (columns).

    `panels` maps a title to weights (length, length).
    """
    summaries = []
    for name, weights in panels.items():
        row = [float(value) for value in weights[-1]]
        best = max(range(len(row)), key=row.__getitem__)
        summaries.append(f"{name}: the last token looks most at {tokens[best].strip()!r}, {row[best]:.0%}")
    figure = figure_of(
        3.9 * len(panels) + 1.2, 4.9, "Attention of heads, from each token to those before it. " + "; ".join(summaries)
    )
    entitle(figure, title)
    names = [token.strip() or repr(token) for token in tokens]
    for place, (name, weights) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=10)
        axes.set_yticks(range(len(names)), names if place == 0 else [""] * len(names), fontsize=10)
        axes.tick_params(length=0, colors=TEXT)
        axes.set_title(name, fontsize=11, color=TEXT)
        axes.set_xlabel("looks at", fontsize=11, color=TEXT)
        if place == 0:
            axes.set_ylabel("token", fontsize=11, color=TEXT)
    figure.colorbar(image, ax=figure.axes, shrink=0.7, label="attention weight")
    return figure


def head_maps(panels: "Mapping[str, torch.Tensor]", title: str = "") -> "DescribedFigure":
    """Draw one number for each head, to show where in the model a habit is found.

    `panels` maps a title to numbers (layers, heads) from 0 to 1.
    """
    summary = "; ".join(
        f"{name}: on average {float(v.mean()):.0%}, at most {float(v.max()):.0%}" for name, v in panels.items()
    )
    figure = figure_of(3.2 * len(panels) + 1, 5.2, f"Share of attention of every head, by layer. {summary}")
    entitle(figure, title)
    for place, (name, values) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_title(name, fontsize=11, color=TEXT)
        axes.set_xlabel("head", fontsize=11, color=TEXT)
        axes.set_ylabel("layer" if place == 0 else "", fontsize=11, color=TEXT)
        axes.tick_params(colors=TEXT)
    figure.colorbar(image, ax=figure.axes, shrink=0.7, label="share of attention")
    return figure


NAMED = {  # position of each label, in points from its mark
    "GPT-1": (8, -3),
    "GPT-2 XL": (8, -3),
    "Megatron-LM 8.3B": (8, -12),
    "GPT-3 (davinci)": (-8, 6),
    "Switch-C": (-8, 6),
    "PaLM": (8, 4),
    "Mistral 7B": (8, -12),
    "Llama 3.1 405B": (-8, 8),
    "SmolLM2-1.7B": (8, -3),
    "DeepSeek-V3": (-6, 9),
    "Kimi K2": (-8, 8),
    "DeepSeek-V4-Pro": (-8, 9),
    "Gemma 4 31B": (4, -19),
}


def sizes(
    models: Sequence[Mapping[str, Any]],
    band: tuple[float, float] = (7, 8),
    named: Mapping[str, tuple[float, float]] = NAMED,
    title: str = "",
) -> "DescribedFigure":
    """Draw the parameters of language models over time, on a log axis.

    Each of `models` has `name`, `year` (2020.5 is the middle of 2020), `billion` (None if it was not disclosed; the
    mark is then on the lower edge) and `sparse`. `band` is a range to point out, in billions. `named` are the models to
    label, with the position of the label in points from the mark.
    """
    known = [model for model in models if model["billion"] is not None]
    undisclosed = [model for model in models if model["billion"] is None]
    first, largest = min(known, key=lambda m: m["year"]), max(known, key=lambda m: m["billion"])
    alt = (
        f"{len(known)} models with disclosed sizes, from {first['name']} with {first['billion']:g} to {largest['name']}"
        f" with {largest['billion']:g} billion parameters; {len(undisclosed)} without a disclosed size as marks on the"
        f" lower edge. A band at {band[0]:g} to {band[1]:g} billion."
    )
    figure, axes = axes_of(10.5, 5.6, alt)
    entitle(figure, title)
    axes.axhspan(*band, color=GREEN, alpha=0.3, linewidth=0)
    axes.text(2017.9, band[1] * 1.08, f"{band[0]:g} to {band[1]:g} B", fontsize=11, color="#00634a", va="bottom")
    for sparse, mark, colour, label in (
        (False, "o", BLUE, "dense"),
        (True, "D", ORANGE, "sparse (mixture of experts)"),
    ):
        group = [model for model in known if bool(model["sparse"]) == sparse]
        face = colour if not sparse else "white"
        axes.plot(
            [m["year"] for m in group], [m["billion"] for m in group], mark, color=colour, markerfacecolor=face,
            markeredgewidth=1.8, markersize=7, label=label,
        )  # fmt: skip
    axes.plot(
        [m["year"] for m in undisclosed],
        [0.07] * len(undisclosed),
        "x",
        color=TEXT,
        markersize=7,
        label="size not disclosed",
    )
    for model in known:
        if model["name"] in named:
            offset = named[model["name"]]
            side = "left" if offset[0] > 0 else "right"
            axes.annotate(
                model["name"], (model["year"], model["billion"]), offset, textcoords="offset points", fontsize=10,
                ha=side, color=TEXT,
            )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(0.05, 4000)
    axes.set_xlim(2017.8, max(model["year"] for model in models) + 0.5)
    axes.set_yticks([0.1, 1, 10, 100, 1000], ["0.1 B", "1 B", "10 B", "100 B", "1,000 B"])
    axes.set_ylabel("parameters (log scale)", fontsize=11, color=TEXT)
    axes.set_xlabel("released", fontsize=11, color=TEXT)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=11, loc="lower right", bbox_to_anchor=(1, 0.06))
    return figure
