"""Rows + prompt + model -> predictions: free generation, or the log-probability of each label.

Few-shot prompts repeat the same few hundred tokens for every row. Here the tokens that all prompts begin with go
through the model once; their keys and values are shared by all rows. What is left of each row is run in batches of
similar length. A shorter row is padded on the left, between prefix and row, and the padding is masked and takes no
position: every row sees exactly the tokens and the positions that it would see alone, and all end at the same column.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse import CourseError
from llmcourse.journal import Journal
from llmcourse.models import LoadedModel, put_adapter
from llmcourse.prompts import Prompt, parse_answer
from llmcourse.tasks import Task

POSITIONS_AT_ONCE = 6144
"""Most positions of keys and values (prefix and row, times rows) that one batch holds; bounds memory, not results."""

TOKENS_AT_ONCE = 1024
"""Most tokens (rows times their padded length) that go through the model at once."""

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""


@dataclass
class Predictions:
    """One answer a row, in the order of the rows."""

    labels: list[int | None]
    """Predicted labels; None is an invalid answer."""
    seconds: float
    """Wall time for all rows, the shared prefix included."""
    texts: list[str] | None = None
    """What was generated (generation only)."""
    logprobs: list[list[float]] | None = None
    """Log-probability of each label, rows x labels (scoring only). A row's probabilities add up to 1."""
    bias: list[float] | None = None
    """What calibration took off: the label log-probabilities of the content-free prompt."""


def generate(
    loaded: LoadedModel,
    prompt: Prompt,
    rows: Sequence[Mapping],
    progress: Progress | None = None,
    journal: Journal | None = None,
) -> Predictions:
    """Let the model write freely (greedy, a few tokens more than the longest label) and read its answer.

    Rows that the journal already answers are not asked again; new answers go into it batch by batch.
    Raises CourseError for a row whose text does not fit the prompt; the message names the row.
    """
    import torch

    engine = _Engine(loaded, prompt)
    longest = max(len(tokens) for tokens in engine.label_tokens())

    def write(batch: _Batch, prefix: list[int], cache) -> list[str]:
        ids = torch.cat([engine.tensor([prefix]).expand(len(batch.ids), -1), batch.ids], dim=1)
        out = loaded.model.generate(
            input_ids=ids,
            attention_mask=batch.mask,
            past_key_values=_shared(cache, len(ids)),
            max_new_tokens=longest + 4,
            do_sample=False,
            stopping_criteria=[_LineEnd(engine.tokenizer, ids.shape[1])],
            pad_token_id=engine.pad,
        )
        return engine.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)

    texts, seconds = _ask_all(engine, rows, write, progress, journal)
    return Predictions([parse_answer(text, prompt.task) for text in texts], seconds, texts=texts)


def score(
    loaded: LoadedModel,
    prompt: Prompt,
    rows: Sequence[Mapping],
    calibrate: bool = False,
    progress: Progress | None = None,
    journal: Journal | None = None,
) -> Predictions:
    """Ask for the log-probability of each label and take the largest: every answer is valid.

    The probability is that of a model which may say nothing but a label. Wherever the labels part ways, the choice is between the
    tokens that go on to some label; a token that only one label can continue with costs nothing. So " Not Sarcasm" (4
    tokens in SmolLM2) is not punished for being longer than " Sarcasm" (3), as it would be by a sum of log-probabilities,
    nor favoured, as by their mean.

    `calibrate` takes off the label log-probabilities of a content-free prompt, averaged over `CONTENT_FREE`: contextual
    calibration (Zhao et al. 2021, arXiv:2102.09690, section 5, with a diagonal matrix and no bias). The journal keeps what the
    model said before that, as in `generate`.
    """
    every = [*prompt.content_free_rows(), *rows] if calibrate else list(rows)
    logprobs, seconds = _label_logprobs(_Engine(loaded, prompt), every, progress, journal)
    bias = None
    if calibrate:
        import math

        free = logprobs[: len(every) - len(rows)]
        mean = [sum(math.exp(row[label]) for row in free) / len(free) for label in range(len(prompt.task.labels))]
        bias = [math.log(value) for value in mean]
        logprobs = [_normalised([a - b for a, b in zip(row, bias, strict=True)]) for row in logprobs[len(free) :]]
    labels = [max(range(len(row)), key=row.__getitem__) for row in logprobs]
    return Predictions(labels, seconds, logprobs=logprobs, bias=bias)


def before_and_after(
    loaded: LoadedModel, task: Task, adapter: str | Path, rows: Sequence[Mapping]
) -> tuple[Predictions, Predictions]:
    """Rows scored by the base model (zero-shot) and with a saved adapter on it (the prompt that it was trained on)."""
    card = put_adapter(loaded, adapter)
    try:
        after = score(loaded, Prompt(task, **card["prompt"]), rows)
        with loaded.without_adapter():
            before = score(loaded, Prompt(task), rows)
    finally:
        loaded.drop_adapter()
    return before, after


def _label_logprobs(engine: "_Engine", rows, progress, journal) -> tuple[list[list[float]], float]:
    import torch

    nodes = label_choices(engine.label_tokens())

    def weigh(batch: _Batch, prefix: list[int], cache) -> list[list[float]]:
        grown = _shared(cache, len(batch.rows))
        first = engine.forward(batch.ids, batch.mask, grown)
        total = torch.zeros(len(batch.rows), len(engine.task.labels), dtype=torch.float64)
        for path, choices in nodes.items():
            logits = first
            if path:
                # every path goes on from the rows' own keys and values, which stay as they are
                more = engine.tensor([path]).expand(len(batch.rows), -1)
                mask = torch.cat([batch.mask, torch.ones_like(more)], dim=1)
                logits = engine.forward(more, mask, _shared(grown))
            total += choices.logprobs(logits.double().log_softmax(-1).cpu())
        return total.tolist()

    return _ask_all(engine, rows, weigh, progress, journal)


def _ask_all(engine: "_Engine", rows, answer, progress: Progress | None, journal: Journal | None) -> tuple[list, float]:
    """Each row's answer, and the seconds: `answer(batch, prefix, cache)` for the rows that the journal does not know."""
    import torch

    journal = journal or Journal()
    clock = time.perf_counter()
    prefix, tails = engine.encode(rows)
    unknown = [index for index in range(len(rows)) if index not in journal.answers]
    if progress and len(unknown) < len(rows):
        progress(len(rows) - len(unknown), len(rows))
    with torch.inference_mode():
        cache = engine.prefill(prefix) if unknown else None
        for batch in engine.batches(prefix, tails, unknown):
            answers = dict(zip(batch.rows, answer(batch, prefix, cache), strict=True))
            clock, before = time.perf_counter(), clock
            journal.add(answers, clock - before)
            if progress:
                progress(len(journal.answers), len(rows))
    return [journal.answers[index] for index in range(len(rows))], journal.seconds


@dataclass
class LabelChoice:
    """A point at which labels part ways: which label goes on with which token, and which label ends here."""

    next_token: list[int | None]
    """For each label the token it goes on with; None for labels that do not pass here, and for one that ends here."""
    ends: int | None = None
    """The label that is complete here while a longer one goes on."""

    def logprobs(self, logprobs):
        """What this choice adds to each label's log-probability. Shapes: (rows, vocabulary) -> (rows, labels), float64."""
        import torch

        tokens = sorted({token for token in self.next_token if token is not None})
        chosen = logprobs[:, tokens]
        out = torch.zeros(len(logprobs), len(self.next_token), dtype=torch.float64)
        if self.ends is None:
            chosen = chosen - chosen.logsumexp(dim=-1, keepdim=True)
        else:
            # the label that is complete gets whatever does not continue it into a longer one
            out[:, self.ends] = torch.log1p(-chosen.exp().sum(dim=-1).clamp(max=1 - 1e-12))
        for label, token in enumerate(self.next_token):
            if token is not None:
                out[:, label] = chosen[:, tokens.index(token)]
        return out


def label_choices(label_tokens: Sequence[Sequence[int]]) -> dict[tuple[int, ...], LabelChoice]:
    """The label words as a tree of tokens: each path at which there is something to choose, with the choice.

    Labels whose first tokens differ need one choice only, at the empty path: one forward pass scores them all.
    """
    words = [tuple(tokens) for tokens in label_tokens]
    choices = {}
    for path in sorted({word[:length] for word in words for length in range(len(word) + 1)}, key=len):
        inside = [word[: len(path)] == path for word in words]
        following = [
            word[len(path)] if here and len(word) > len(path) else None
            for word, here in zip(words, inside, strict=True)
        ]
        ends = next((label for label, word in enumerate(words) if word == path), None)
        if len({token for token in following if token is not None}) + (ends is not None) > 1:
            choices[path] = LabelChoice(following, ends)
    return choices


def _normalised(logs: Sequence[float]) -> list[float]:
    import math

    top = max(logs)
    total = top + math.log(sum(math.exp(value - top) for value in logs))
    return [value - total for value in logs]


class _Engine:
    """Tokens in, logits out, for one model and one prompt."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt):
        self.loaded, self.prompt, self.task = loaded, prompt, prompt.task
        self.tokenizer = loaded.tokenizer
        self.pad = (
            self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        )

    def tensor(self, ids):
        import torch

        return torch.tensor(ids, dtype=torch.long, device=self.loaded.model.device)

    def text(self, row: Mapping) -> str:
        return render(self.tokenizer, self.prompt, row)

    def encode(self, rows: Sequence[Mapping]) -> tuple[list[int], list[list[int]]]:
        """Token ids of the common prefix, and of each row's rest (at least one token)."""
        texts = []
        for number, row in enumerate(rows):
            try:
                texts.append(self.text(row))
            except CourseError as error:
                raise CourseError(f"Row {row.get('row', number)}: {error}") from None
        if not texts:
            return [], []
        ids = encode_text(self.tokenizer, self.prompt, texts)
        low, high = min(ids), max(ids)
        common = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
        common = min(common, min(map(len, ids)) - 1)
        limit = getattr(self.loaded.model.config, "max_position_embeddings", None)
        longest = max(range(len(ids)), key=lambda i: len(ids[i]))
        if limit and len(ids[longest]) + 16 > limit:
            raise CourseError(
                f"The prompt of row {rows[longest].get('row', longest)} has {len(ids[longest]):,} tokens; the model takes {limit:,}. Use fewer shots."
            )
        return ids[0][:common], [tokens[common:] for tokens in ids]

    def label_tokens(self) -> list[list[int]]:
        """Each label's tokens as they follow the prompt."""
        blank = dict.fromkeys(self.task.fields, "x")
        text = self.text(blank)
        texts = [text, *(text + self.prompt.answer(label) for label in range(len(self.task.labels)))]
        start, *whole = encode_text(self.tokenizer, self.prompt, texts)
        if any(tokens[: len(start)] != start for tokens in whole):
            raise CourseError(
                "The tokenizer joins the end of the prompt with the beginning of a label. End the task's answer_name with a letter."
            )
        return [tokens[len(start) :] for tokens in whole]

    def prefill(self, prefix: list[int]):
        """Keys and values of the common prefix, for one row."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.loaded.model.config)
        if prefix:
            self.loaded.model(self.tensor([prefix]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    def forward(self, ids, mask, cache):
        """Logits of the last position, (rows, vocabulary), in float32; `cache` grows by these tokens."""
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.loaded.model(
            ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()

    def batches(self, prefix: list[int], tails: list[list[int]], rows: Sequence[int]) -> Iterator["_Batch"]:
        """These rows in batches of similar length, shortest first."""
        import torch

        order = sorted(rows, key=lambda index: len(tails[index]))
        while order:
            size, shortest = 0, len(tails[order[0]])
            for index in order:
                length = len(tails[index])
                rows = size + 1
                if size and (
                    rows * length > TOKENS_AT_ONCE
                    or rows * (len(prefix) + length) > POSITIONS_AT_ONCE
                    or length > 1.25 * shortest + 4
                ):
                    break
                size = rows
            part, order = order[:size], order[size:]
            longest = max(len(tails[index]) for index in part)
            ids = self.tensor([[self.pad] * (longest - len(tails[index])) + tails[index] for index in part])
            lengths = self.tensor([len(tails[index]) for index in part])
            seen = torch.arange(longest, device=ids.device) >= longest - lengths[:, None]
            mask = torch.cat([torch.ones(len(part), len(prefix), dtype=torch.bool, device=ids.device), seen], dim=1)
            yield _Batch(part, ids, mask.long())


@dataclass
class _Batch:
    rows: list[int]
    """Indices of the rows."""
    ids: Any
    """Their own tokens, padded on the left: (rows, length)."""
    mask: Any
    """1 for prefix and row, 0 for padding: (rows, prefix + length)."""


def render(tokenizer, prompt: Prompt, row: Mapping) -> str:
    """A row's whole prompt, in the model's chat format if the prompt asks for it.

    Raises CourseError for a chat prompt on a model that has no chat template (a base model such as Mistral-7B-v0.1).
    """
    text = prompt.text(row)
    if not prompt.chat:
        return text
    if not tokenizer.chat_template:
        raise CourseError("This model has no chat template: it is a base model. Use a prompt with chat=False.")
    message = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)


def encode_text(tokenizer, prompt: Prompt, texts: list[str]) -> list[list[int]]:
    """Token ids of rendered prompts. A chat template writes its own first token, so none is added to it (no two BOS)."""
    return tokenizer(texts, add_special_tokens=not prompt.chat).input_ids


def _shared(cache, rows: int | None = None):
    """A cache that begins as `cache` and may grow on its own; `rows` repeats its single row without copying it.

    Growing a dynamic cache makes new tensors, so the original keeps its length.
    """
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    if rows is not None:
        for layer in twin.layers:
            if getattr(layer, "keys", None) is not None and layer.keys.numel():
                layer.keys = layer.keys.expand(rows, -1, -1, -1)
                layer.values = layer.values.expand(rows, -1, -1, -1)
    return twin


class _LineEnd:
    """Stops a row of a generation after its first line that is not empty: what follows is not read."""

    def __init__(self, tokenizer, prompt_length: int):
        self.tokenizer, self.prompt_length = tokenizer, prompt_length

    def __call__(self, input_ids, scores, **kwargs):
        import torch

        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt_length :])
        return torch.tensor(["\n" in text.lstrip() for text in texts], device=input_ids.device)
