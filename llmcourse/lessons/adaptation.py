"""A copy of a model, trained: on passages (continued pretraining) or on questions with answers (finetuning), whole or by LoRA.

The loop is plain PyTorch because it is there to be read; notebook 05 uses TRL. The four arms of notebook 03 share it: what is learned
is a matter of `labels`, and what is changed of `Settings.way`. The base model stays as it is, so that the two can be compared:
`perplexity` says how surprised a model is by texts, `divergence` how far it has moved from another one on them.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from llmcourse._base import files
from llmcourse.data.handbook import Question
from llmcourse.models import LoadedModel
from llmcourse.predict.answers import prompt_of
from llmcourse.training.recipes import ALL_LINEAR

IGNORED = -100
"""The label of a token that is read and not learned, as PyTorch's cross-entropy has it."""


@dataclass(frozen=True)
class Settings:
    """How to train."""

    way: str
    """"full": every parameter; "lora": low-rank updates of the seven matrices of each layer (Hu et al. 2021, arXiv:2106.09685)."""
    learning_rate: float
    epochs: int
    rows: int = 4
    """Rows of a step."""
    r: int = 16
    alpha: int = 32
    seed: int = 0


@dataclass
class Trained:
    """What training leaves."""

    loaded: LoadedModel
    """The trained copy, in evaluation mode."""
    trainable: int
    """Trained parameters."""
    losses: list[float] = field(default_factory=list)
    """Loss of each step, in nats a learned token."""
    seconds: float = 0.0
    """Wall time of the steps alone."""


def passage_rows(tokenizer, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Texts -> (tokens, labels) for continued pretraining: every token but the first is learned, as in pretraining."""
    rows = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    return [(ids, ids) for ids in rows]


def answer_rows(tokenizer, questions: Sequence[Question], about: str) -> list[tuple[list[int], list[int]]]:
    """Questions -> (tokens, labels) for finetuning: the question as it will be asked is read, the answer and its end are learned."""
    rows = []
    for question in questions:
        asked = tokenizer(prompt_of(tokenizer, question.question, about=about), add_special_tokens=False).input_ids
        answer = [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        rows.append((asked + answer, [IGNORED] * len(asked) + answer))
    return rows


def train(
    base: LoadedModel,
    rows: Sequence[tuple[list[int], list[int]]],
    settings: Settings,
    after_epoch: Callable[[Trained, int], None] | None = None,
) -> Trained:
    """Train a copy of `base` on rows of (tokens, labels); `base` itself keeps its weights.

    AdamW at a constant learning rate; batches are drawn anew each epoch, from the seed (LoRA draws its matrices from it first, so the
    two ways see the rows in different orders). `after_epoch(trained, epoch)` is called
    with the copy in evaluation mode.
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
            ids, mask, labels = padded([rows[place] for place in batch], model.device)
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


_kept: dict[str, Trained] = {}


def once(base: LoadedModel, rows: Sequence[tuple[list[int], list[int]]], settings: Settings) -> Trained:
    """`train`, or what it gave for the same base, rows and settings before in this process: a cell may be run twice.

    The last four are kept; each holds a copy of the model.
    """
    name = files.short_hash([base.base, rows, asdict(settings)])
    if name not in _kept:
        while len(_kept) >= 4:
            del _kept[next(iter(_kept))]
        _kept[name] = train(base, rows, settings)
    return _kept[name]


def trainable_copy(base: LoadedModel, settings: Settings):
    """A copy of the base model with gradients where `settings.way` wants them, and nowhere else."""
    with base.without_adapter():
        model = copy.deepcopy(base.model).float()  # on a GPU the base is in 16 bits, in which AdamW loses small steps
    if settings.way == "full":
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=settings.r, lora_alpha=settings.alpha, target_modules=list(ALL_LINEAR), task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def padded(rows: Sequence[tuple[list[int], list[int]]], device: Any = "cpu"):
    """Rows of different lengths -> tokens, mask and labels, each rows x longest, padded on the right."""
    import torch

    longest = max(len(ids) for ids, _ in rows)

    def filled(parts: list[list[int]], filler: int):
        return torch.tensor([part + [filler] * (longest - len(part)) for part in parts], device=device)

    ids = filled([ids for ids, _ in rows], 0)
    mask = filled([[1] * len(ids) for ids, _ in rows], 0)
    return ids, mask, filled([labels for _, labels in rows], IGNORED)


def log_probabilities(loaded: LoadedModel, texts: Sequence[str]):
    """For each text, one after the other: its tokens from the second on, and what the model said before each of them.

    Yields pairs of shapes (length - 1,) and (length - 1, vocabulary); natural logarithms, float32.
    """
    import torch

    for text in texts:
        ids = loaded.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids.to(loaded.model.device)
        with torch.inference_mode():  # and out of it before yielding: it is a state of the whole process
            logprobs = loaded.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        yield ids[0, 1:], logprobs


def perplexity(loaded: LoadedModel, texts: Sequence[str]) -> float:
    """exp of the mean negative log-probability of a token, over all tokens of all texts but each text's first."""
    total, tokens = 0.0, 0
    for ids, logprobs in log_probabilities(loaded, texts):
        total -= logprobs.gather(1, ids[:, None]).sum().item()
        tokens += len(ids)
    return math.exp(total / tokens)


def divergence(loaded: LoadedModel, base: LoadedModel, texts: Sequence[str]) -> float:
    """Mean Kullback-Leibler divergence KL(base || loaded) of the next token over the texts, in nats a token; 0 if nothing moved."""
    total, tokens = 0.0, 0
    for (ids, before), (_, after) in zip(log_probabilities(base, texts), log_probabilities(loaded, texts), strict=True):
        total += (before.exp() * (before - after)).sum().item()
        tokens += len(ids)
    return total / tokens
