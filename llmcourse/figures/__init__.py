"""Figures: they draw what the floors below computed, and compute nothing themselves.

One message each; colours that colour-blind readers can tell apart (Okabe and Ito 2008), and never the colour alone.
"""

from llmcourse.figures.experiment import confusions, loss_curve, waterfall
from llmcourse.figures.style import svg

__all__ = ["confusions", "loss_curve", "svg", "waterfall"]
