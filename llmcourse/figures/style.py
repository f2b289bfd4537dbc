"""What all figures share: colours, axes, and the way into SVG."""

COLOURS = {"baseline": "#7a7a7a", "prompted": "#0072B2", "finetuned": "#D55E00"}
MARKS = {"baseline": "s", "prompted": "o", "finetuned": "D"}
TEXT, FAINT = "#222222", "#bbbbbb"


def axes_of(width: float, height: float):
    """A figure of this size in inches and its axes, on a white ground."""
    from matplotlib.figure import Figure

    # a Figure of its own, not pyplot's: nothing to close, and a white ground that stays readable in dark pages
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=TEXT, labelsize=11)
    return figure, axes


def svg(figure) -> str:
    """A figure as an SVG element, the same bytes for the same figure (no date, no random ids, no metadata)."""
    import io
    import re

    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "llmcourse", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", out.getvalue(), flags=re.DOTALL)
    return text[text.index("<svg") :]
