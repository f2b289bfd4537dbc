"""The class of all figures. This module imports matplotlib, so it is imported when the first figure is drawn."""

import base64
from typing import Any

from matplotlib.figure import Figure

from llmcourse.figures.export import image


class DescribedFigure(Figure):
    """A matplotlib Figure with a text alternative, which a notebook shows as a PNG or an SVG.

    It belongs to itself and not to pyplot, so nothing has to be closed.
    """

    alt: str = ""
    """What the figure shows, for readers who do not see it."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        kind, content = image(self)
        shown = base64.b64encode(content).decode() if kind == "png" else content.decode()
        return {f"image/{kind}": shown, "text/plain": self.alt}, {f"image/{kind}": {"alt": self.alt}}
