"""The label words as a tree of tokens: where they differ, and how likely the model finds each branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class LabelChoice:
    """A point at which labels differ: the token with which each label continues, and the label that ends here."""

    next_token: list[int | None]
    """For each label the token it continues with. None for a label of another branch, and for one that ends here."""
    ends: int | None = None
    """The label that is complete here while a longer one continues."""

    def logprobs(self, logprobs: torch.Tensor) -> torch.Tensor:
        """Return what this choice adds to each label's log-probability.

        Takes the log-probabilities of the next token, (rows, vocabulary); returns (rows, labels) of the same type, on
        the same device. Gradients flow through it.
        """
        import torch

        tokens = sorted({token for token in self.next_token if token is not None})
        chosen = logprobs[:, tokens]
        result = logprobs.new_zeros(len(logprobs), len(self.next_token))
        if self.ends is None:
            chosen = chosen - chosen.logsumexp(dim=-1, keepdim=True)
        else:
            # the complete label gets the probability of every token that does not continue it into a longer label
            most = 1 - torch.finfo(logprobs.dtype).eps
            result[:, self.ends] = torch.log1p(-chosen.exp().sum(dim=-1).clamp(max=most))
        for label, token in enumerate(self.next_token):
            if token is not None:
                result[:, label] = chosen[:, tokens.index(token)]
        return result


def label_choices(label_tokens: Sequence[Sequence[int]]) -> dict[tuple[int, ...], LabelChoice]:
    """Return each point at which labels differ: the tokens of a label up to there -> the choice.

    Labels whose first tokens differ need one choice only, after no tokens: one forward pass scores them all.
    """
    words = [tuple(tokens) for tokens in label_tokens]
    choices = {}
    for path in sorted({word[:length] for word in words for length in range(len(word) + 1)}, key=len):
        next_token = [
            word[len(path)] if word[: len(path)] == path and len(word) > len(path) else None for word in words
        ]
        ends = next((label for label, word in enumerate(words) if word == path), None)
        if len({token for token in next_token if token is not None}) + (ends is not None) > 1:
            choices[path] = LabelChoice(next_token, ends)
    return choices
