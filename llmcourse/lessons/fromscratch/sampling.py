"""From the model's scores to the next token: temperature, top-p, a draw; and a text that grows by one token after the other.

`transformers` does the same inside `model.generate`; tests/unit/lessons/test_fromscratch.py holds every function here against it.
"""

from dataclasses import dataclass
from typing import Any

from llmcourse._base.errors import CourseError


def probabilities(logits, temperature: float = 1.0):
    """Softmax of `logits / temperature`: (..., vocabulary) -> (..., vocabulary), each last axis adding up to 1.

    Below 1 a temperature widens the gaps between the scores, so that the likeliest tokens get more; above 1 it narrows them
    (Hinton et al. 2015, arXiv:1503.02531, section 2). Equal to transformers' TemperatureLogitsWarper and a softmax.

    Raises CourseError for a temperature that is not above 0.
    """
    if not temperature > 0:
        raise CourseError(
            f"A temperature has to be above 0, and {temperature} is not. Near 0 only the likeliest token is left."
        )
    scaled = logits.float() / temperature
    # the largest score is taken off first: exp(1000) would be infinite, and the ratio of two exponentials is the same
    powers = (scaled - scaled.max(-1, keepdim=True).values).exp()
    return powers / powers.sum(-1, keepdim=True)


def top_p(probs, p: float):
    """Keep the likeliest tokens until they hold a share `p`, drop the others, and bring what is left to 1. Same shape as `probs`.

    The token that reaches `p` is kept, so there is always one. Nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751,
    section 3.1). Equal to transformers' TopPLogitsWarper.

    Raises CourseError for a share that is not above 0 and at most 1.
    """
    if not 0 < p <= 1:
        raise CourseError(f"top_p keeps a share of the probability, above 0 and at most 1; {p} is none.")
    if p == 1:
        return probs  # a sum of 50,000 rounded numbers may reach 1 too early
    ordered, places = probs.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered  # what the tokens ahead of each one hold already
    kept = (ordered * (before < p)).gather(-1, places.argsort(-1))
    return kept / kept.sum(-1, keepdim=True)


def token_texts(tokenizer, ids) -> list[str]:
    """How each token looks in a text, the space before a word included. Part of a character shows as �."""
    pieces = tokenizer.convert_ids_to_tokens([int(token) for token in ids])
    # tokenizers of the SentencePiece kind (Mistral) lose the space when they decode one token alone
    return [
        piece.replace("▁", " ") if piece.startswith("▁") else tokenizer.decode([int(token)])
        for piece, token in zip(pieces, ids, strict=True)
    ]


def next_logits(loaded, text: str):
    """The model's score of every token as the next one after `text`: (vocabulary,), float32, on the CPU."""
    import torch

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
    candidates: int
    """Tokens that could have been drawn."""


@dataclass(frozen=True)
class Grown:
    """What was written after a text, and how."""

    text: str
    steps: tuple[Step, ...]


def grow(
    loaded: Any, text: str, tokens: int = 20, temperature: float = 0.0, p: float = 1.0, seed: int = 0, end: str = ""
) -> Grown:
    """Let a model go on with `text` for at most `tokens` tokens, or until it ends the text itself, or writes `end`.

    Temperature 0 is greedy: always the likeliest token. Anything else draws, and the same seed draws the same: what
    `model.generate(do_sample=True, top_k=0)` writes after `torch.manual_seed(seed)`. Keys and values of the tokens so far are kept, so
    that only the newest token goes through the model.

    `loaded` is a LoadedModel, or anything else with `model` and `tokenizer`.
    """
    import torch

    tokenizer, model = loaded.tokenizer, loaded.model
    luck = torch.Generator().manual_seed(seed)
    ids = list(tokenizer(text).input_ids)
    start = tokenizer.decode(ids, skip_special_tokens=True)
    stops = model.generation_config.eos_token_id
    stops = {stops} if isinstance(stops, int) else set(stops or ())
    fresh, cache, steps, written = ids, None, [], ""
    while len(steps) < tokens and not (end and end in written):
        with torch.no_grad():
            out = model(input_ids=torch.tensor([fresh], device=model.device), past_key_values=cache, use_cache=True)
        logits, cache = out.logits[0, -1].float().cpu(), out.past_key_values
        if temperature == 0:
            token, candidates = int(logits.argmax()), 1
        else:
            probs = top_p(probabilities(logits, temperature), p)
            token, candidates = int(torch.multinomial(probs, 1, generator=luck)), int((probs > 0).sum())
        shown = token_texts(tokenizer, [token])[0]
        steps.append(Step(token, shown, float(probabilities(logits)[token]), candidates))
        fresh = [token]
        if token in stops:
            break
        ids.append(token)
        # decoded together: one token alone may be half a character
        written = tokenizer.decode(ids, skip_special_tokens=True)[len(start) :]
    return Grown(written, tuple(steps))
