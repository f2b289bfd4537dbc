"""A training row as the model learns it: coloured text for a notebook."""

from collections.abc import Sequence
from html import escape


def loss_mask(tokens: Sequence[str], labels: Sequence[int], ignored: int = -100) -> "Html":
    """Show tokens that are only read in grey, and tokens that are learned in boxes and bold.

    `tokens` are the texts of the tokens, and `labels` what is learned at each of them: `ignored` if nothing is.
    """
    parts = []
    for token, label in zip(tokens, labels, strict=True):
        # a line break is marked with a sign, and breaks the line
        shown = escape(token).replace("\n", "&#9166;<br>") or "&nbsp;"
        style = (
            "color:#767676"
            if label == ignored
            else "color:#8a3a00;font-weight:bold;border:2px solid #D55E00;border-radius:3px;padding:0 2px"
        )
        parts.append(f'<span style="{style}">{shown}</span>')
    learned = sum(label != ignored for label in labels)
    caption = f"{len(tokens)} tokens; the {learned} in boxes count in the loss, the grey ones are only read"
    return Html(
        '<div style="background:white;padding:10px;font-family:monospace;line-height:1.9;white-space:pre-wrap">'
        f'{"".join(parts)}<div style="color:#222;font-family:sans-serif;margin-top:8px">{caption}</div></div>',
        caption,
    )


class Html:
    """HTML for a notebook, with a text for where HTML is not shown."""

    def __init__(self, html: str, text: str):
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text
