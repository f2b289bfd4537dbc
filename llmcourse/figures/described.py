"""The class of all figures. This module imports matplotlib, so it is imported when the first figure is drawn."""

import base64
from typing import Any

from matplotlib.figure import Figure

from llmcourse.figures.export import png


class DescribedFigure(Figure):
    """A matplotlib Figure with a text alternative, which a notebook shows as a PNG.

    It belongs to itself and not to pyplot, so nothing has to be closed.
    """

    alt: str = ""
    """What the figure shows, for readers who do not see it."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": base64.b64encode(png(self)).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}
