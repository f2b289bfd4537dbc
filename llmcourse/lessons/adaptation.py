"""Train a copy of a model, in full or by LoRA, on passages (continued pretraining) or on answers (finetuning).

The loop is plain PyTorch, because it is there to be read; notebook 05 uses TRL. The four runs of notebook 03 share it.
`labels` decide which tokens are learned, and `Settings.way` which weights change. The base model stays as it is, so the
two can be compared: `perplexity` measures how surprised a model is by texts, and `divergence` how far it has moved away
from another model on them.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from llmcourse._base import files
from llmcourse.data.handbook import Question
from llmcourse.models import LoadedModel
from llmcourse.predict.answers import prompt_of
from llmcourse.training.recipes import ALL_LINEAR

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is read but not learned, as PyTorch's cross-entropy expects it."""

TokenRow: TypeAlias = tuple[list[int], list[int]]
"""A training row: tokens, and as many labels."""


@dataclass(frozen=True)
class Settings:
    """How to train."""

    way: str
    """"full": every parameter; "lora": LoRA on the seven matrices of each layer (Hu et al. 2021, arXiv:2106.09685)."""
    learning_rate: float
    epochs: int
    rows: int = 4
    """Rows of a step."""
    r: int = 16
    alpha: int = 32
    seed: int = 0


@dataclass
class Trained:
    """What training gives."""

    loaded: LoadedModel
    """The trained copy, in evaluation mode."""
    trainable: int
    """Trained parameters."""
    losses: list[float] = field(default_factory=list)
    """Loss of each step, in nats per learned token."""
    seconds: float = 0.0
    """Wall time of the steps alone."""


def passage_rows(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[TokenRow]:
    """Turn texts into rows for continued pretraining: every token but the first is learned, as in pretraining."""
    rows = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    return [(ids, ids) for ids in rows]


def answer_rows(tokenizer: "PreTrainedTokenizerBase", questions: Sequence[Question], about: str) -> list[TokenRow]:
    """Turn questions into rows for finetuning: the prompt is only read, the answer and its end are learned.

    `about` names the company, as in `predict.answers.ask`.
    """
    rows = []
    for question in questions:
        prompt = tokenizer(prompt_of(tokenizer, question.question, about=about), add_special_tokens=False).input_ids
        answer = [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        rows.append((prompt + answer, [IGNORED] * len(prompt) + answer))
    return rows


def train(
    base: LoadedModel,
    rows: Sequence[TokenRow],
    settings: Settings,
    after_epoch: Callable[[Trained, int], None] | None = None,
) -> Trained:
    """Train a copy of `base`, which itself keeps its weights.

    AdamW with a constant learning rate. Each epoch shuffles the rows, from the seed; LoRA draws its matrices from it
    first, so "full" and "lora" see the rows in different orders. `after_epoch(trained, epoch)` is called with the copy
    in evaluation mode.
    """
    import torch

    torch.manual_seed(settings.seed)
    model = trainable_copy(base, settings)
    parameters = [p for p in model.parameters() if p.requires_grad]
    result = Trained(
        replace(base, model=model, name=f"{base.name}, {settings.way}"), sum(p.numel() for p in parameters)
    )
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    for epoch in range(1, settings.epochs + 1):
        model.train()
        start = time.perf_counter()
        for batch in torch.randperm(len(rows)).split(settings.rows):
            ids, mask, labels = pad([rows[place] for place in batch], base.model.device)
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss  # mean over the learned tokens
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            result.losses.append(loss.item())
        result.seconds += time.perf_counter() - start
        model.eval()
        if after_epoch:
            after_epoch(result, epoch)
    return result


_cache: dict[str, Trained] = {}
_CACHED = 4
"""Each entry holds a copy of the model."""


def train_once(base: LoadedModel, rows: Sequence[TokenRow], settings: Settings) -> Trained:
    """Train, or return what the same base, rows and settings gave before in this process: a cell may be run twice."""
    name = files.short_hash([base.base, rows, asdict(settings)])
    if name not in _cache:
        while len(_cache) >= _CACHED:
            del _cache[next(iter(_cache))]
        _cache[name] = train(base, rows, settings)
    return _cache[name]


def trainable_copy(base: LoadedModel, settings: Settings) -> "torch.nn.Module":
    """Copy the base model, with gradients for the weights that `settings.way` trains and for no others."""
    with base.without_adapter():
        model = copy.deepcopy(base.model).float()  # on a GPU the base is in 16 bits, in which AdamW loses small steps
    if settings.way == "full":
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=settings.r, lora_alpha=settings.alpha, target_modules=list(ALL_LINEAR), task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def pad(
    rows: Sequence[TokenRow], device: "torch.device | str" = "cpu"
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Pad rows on the right to the longest one. Return tokens, mask and labels, each (rows, longest)."""
    import torch

    longest = max(len(ids) for ids, _ in rows)

    def padded(lists: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([numbers + [filler] * (longest - len(numbers)) for numbers in lists], device=device)

    ids = padded([ids for ids, _ in rows], 0)
    mask = padded([[1] * len(ids) for ids, _ in rows], 0)
    return ids, mask, padded([labels for _, labels in rows], IGNORED)


def log_probabilities(loaded: LoadedModel, texts: Sequence[str]) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
    """Yield for each text its tokens from the second on, and the model's log-probabilities for their places.

    The shapes are (length - 1,) and (length - 1, vocabulary); natural logarithms, float32.
    """
    import torch

    for text in texts:
        ids = loaded.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids.to(loaded.model.device)
        with torch.inference_mode():  # left before yielding, because it is a state of the whole process
            logprobs = loaded.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        yield ids[0, 1:], logprobs


def perplexity(loaded: LoadedModel, texts: Sequence[str]) -> float:
    """Return exp of the mean negative log-probability of all tokens, except the first of each text."""
    total, tokens = 0.0, 0
    for ids, logprobs in log_probabilities(loaded, texts):
        total -= logprobs.gather(1, ids[:, None]).sum().item()
        tokens += len(ids)
    return math.exp(total / tokens)


def divergence(loaded: LoadedModel, base: LoadedModel, texts: Sequence[str]) -> float:
    """Return the mean Kullback-Leibler divergence KL(base || loaded) of the next token, in nats; 0 if nothing moved."""
    total, tokens = 0.0, 0
    for (ids, before), (_, after) in zip(log_probabilities(base, texts), log_probabilities(loaded, texts), strict=True):
        total += (before.exp() * (before - after)).sum().item()
        tokens += len(ids)
    return total / tokens
