"""From the model's scores to the next token: temperature, top-p and a random draw, one token after the other.

`transformers` does the same in `model.generate`. Tests compare every function here with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmcourse._base.errors import CourseError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llmcourse.models import LoadedModel


def probabilities(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return softmax(logits / temperature): (..., vocabulary) -> (..., vocabulary); the last axis adds up to 1.

    A temperature below 1 widens the gaps between the scores, so that the likeliest tokens get more; above 1 it narrows
    them (Hinton et al. 2015, arXiv:1503.02531, section 2). Equal to TemperatureLogitsWarper of transformers and a
    softmax.

    Raises CourseError for a temperature that is not above 0.
    """
    if not temperature > 0:
        raise CourseError(
            f"The temperature is {temperature}, and has to be above 0. Near 0 only the likeliest token is left."
        )
    scaled = logits.float() / temperature
    # exp(1000) would be infinite; subtracting the largest score first does not change the result
    powers = (scaled - scaled.max(-1, keepdim=True).values).exp()
    return powers / powers.sum(-1, keepdim=True)


def top_p(probs: torch.Tensor, p: float) -> torch.Tensor:
    """Keep the likeliest tokens until they add up to `p`, drop the others, and rescale to 1. Same shape as `probs`.

    The token that reaches `p` is kept, so there is always one. Nucleus sampling (Holtzman et al. 2020,
    arXiv:1904.09751, section 3.1). Equal to TopPLogitsWarper of transformers.

    Raises CourseError for a share that is not above 0 and at most 1.
    """
    if not 0 < p <= 1:
        raise CourseError(f"top_p keeps a share of the probability, and {p} is none. Give a number above 0, at most 1.")
    if p == 1:
        return probs  # a sum of 50,000 rounded numbers may reach 1 too early
    ordered, tokens = probs.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered  # the probability of all likelier tokens
    nucleus = (ordered * (before < p)).gather(-1, tokens.argsort(-1))
    return nucleus / nucleus.sum(-1, keepdim=True)


def token_texts(tokenizer: "PreTrainedTokenizerBase", ids: Iterable[int] | torch.Tensor) -> list[str]:
    """Return how each token looks in a text, with the space before a word. Part of a character shows as �."""
    ids = [int(token) for token in ids]
    # tokenizers of the SentencePiece kind (Mistral) lose the space when they decode one token alone
    return [
        piece.replace("▁", " ") if piece.startswith("▁") else str(tokenizer.decode([token]))
        for piece, token in zip(tokenizer.convert_ids_to_tokens(ids), ids, strict=True)
    ]


def next_logits(loaded: "LoadedModel", text: str) -> torch.Tensor:
    """Return the model's score of every token as the next one after `text`: (vocabulary,), float32, on the CPU."""
    ids = torch.tensor([loaded.tokenizer(text).input_ids], device=loaded.model.device)
    with torch.no_grad():
        return loaded.model(input_ids=ids).logits[0, -1].float().cpu()


@dataclass(frozen=True)
class Step:
    """One token that was written."""

    token: int
    text: str
    probability: float
    """The model's own, before temperature and top-p."""


@dataclass(frozen=True)
class Continuation:
    """What was written after a text, and how."""

    text: str
    steps: tuple[Step, ...]


def write_on(
    loaded: "LoadedModel", text: str, tokens: int = 20, temperature: float = 0.0, p: float = 1.0, seed: int = 0
) -> Continuation:
    """Continue `text` by at most `tokens` tokens, or until the model ends the text itself.

    Temperature 0 is greedy: always the likeliest token. Any other temperature draws, and the same seed draws what
    `model.generate(do_sample=True, top_k=0)` writes after `torch.manual_seed(seed)`. Keys and values of the tokens so
    far are cached, so that only the newest token goes through the model.
    """
    tokenizer, model = loaded.tokenizer, loaded.model
    generator = torch.Generator().manual_seed(seed)
    ids = list(tokenizer(text).input_ids)
    start = tokenizer.decode(ids, skip_special_tokens=True)
    stops = model.generation_config.eos_token_id
    stops = {stops} if isinstance(stops, int) else set(stops or ())
    steps: list[Step] = []
    new_ids, cache, written = ids, None, ""
    while len(steps) < tokens:
        with torch.no_grad():
            out = model(input_ids=torch.tensor([new_ids], device=model.device), past_key_values=cache, use_cache=True)
        logits, cache = out.logits[0, -1].float().cpu(), out.past_key_values
        if temperature == 0:
            token = int(logits.argmax())
        else:
            probs = top_p(probabilities(logits, temperature), p)
            token = int(torch.multinomial(probs, 1, generator=generator))
        shown = token_texts(tokenizer, [token])[0]
        steps.append(Step(token, shown, float(probabilities(logits)[token])))
        new_ids = [token]
        if token in stops:
            break
        ids.append(token)
        # decode all tokens together, because one token alone may be half a character
        written = tokenizer.decode(ids, skip_special_tokens=True)[len(start) :]
    return Continuation(written, tuple(steps))
