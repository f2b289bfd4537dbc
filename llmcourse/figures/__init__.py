"""Figures: they draw what the floors below computed, and compute nothing themselves.

One message each; colours that colour-blind readers can tell apart (Okabe and Ito 2008), and never the colour alone.
"""

from llmcourse.figures.experiment import confusions, loss_curve, verdicts, waterfall, wrong_rows
from llmcourse.figures.language import ai_map, attention_heads, head_maps, networks, sizes, token_bars
from llmcourse.figures.prompting import ablation, order_effect, shots_and_draws
from llmcourse.figures.style import svg
from llmcourse.figures.tokens import loss_mask

__all__ = [
    "ablation",
    "ai_map",
    "attention_heads",
    "confusions",
    "head_maps",
    "loss_curve",
    "loss_mask",
    "networks",
    "order_effect",
    "shots_and_draws",
    "sizes",
    "svg",
    "token_bars",
    "verdicts",
    "waterfall",
    "wrong_rows",
]
