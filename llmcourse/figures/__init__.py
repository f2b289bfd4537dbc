"""Figures: drawings of what other rooms computed. They compute nothing themselves.

Each figure has one message and a text alternative. Colour-blind readers can tell the colours apart (Okabe and Ito
2008), and nothing is shown by colour alone. Almost every function returns a `DescribedFigure`, a matplotlib Figure;
`loss_mask` returns HTML and `svg` text.
"""

from llmcourse.figures.comparison import (
    confusions,
    learning_curves,
    loss_curve,
    validation_curve,
    verdicts,
    waterfall,
    wrong_rows,
)
from llmcourse.figures.domain import answer_rates, forgetting, rag_picture
from llmcourse.figures.export import svg
from llmcourse.figures.language import ai_map, attention_heads, head_maps, sizes, token_bars, transformer
from llmcourse.figures.low_rank import (
    levels,
    lora_flow,
    lora_picture,
    memory,
    ranks,
    reduced_parameters,
    spectra,
    training_runs,
)
from llmcourse.figures.prompting import prompt_levers
from llmcourse.figures.speed import cost_of_shots, times_slower
from llmcourse.figures.tokens import loss_mask

__all__ = [
    "ai_map",
    "answer_rates",
    "attention_heads",
    "confusions",
    "cost_of_shots",
    "forgetting",
    "head_maps",
    "learning_curves",
    "levels",
    "lora_flow",
    "lora_picture",
    "loss_curve",
    "loss_mask",
    "memory",
    "prompt_levers",
    "rag_picture",
    "ranks",
    "reduced_parameters",
    "sizes",
    "spectra",
    "svg",
    "times_slower",
    "token_bars",
    "training_runs",
    "transformer",
    "validation_curve",
    "verdicts",
    "waterfall",
    "wrong_rows",
]
