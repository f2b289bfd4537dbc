"""Prompts as tokens -> batches in which everything that the prompts share is already computed.

Prompts repeat each other. All begin with the same instruction and examples, and replies to one post also repeat the
post. Such a shared beginning goes through the model once. The prompts form a tree whose nodes hold the tokens that the
rows below them share. Nodes of similar length are computed in one batch, on top of the keys and values of their
parents.

Shorter nodes are padded on the left, between parent and node. Padding is masked and takes no position. Each row
therefore sees exactly the tokens and positions that it would see alone, and all rows of a batch end at the same column.

A model whose rows cannot share (`models.sharing`) gets batches of one row without a cache, and every pass computes the
whole row.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.models import LoadedModel, sharing

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedTokenizerBase

POSITIONS_AT_ONCE = 6144
"""Most positions of keys and values (rows times columns) that one batch holds. Bounds memory, not results."""

TOKENS_AT_ONCE = 1024
"""Most tokens (rows times padded length) that go through the model at once."""

WORTH_SHARING = 8
"""Fewest tokens that get a node of their own. A shorter node costs a forward pass and saves almost nothing."""

WORTH_COPYING = 1 / 32
"""Fewest tokens of a node for each token above it, whose keys and values are copied for the node's pass. Measured on a
CPU: with 280 tokens above, sharing 25 of 46 tokens between two rows gains 7 %; with 920 above it loses 10 %."""

DEPTH = 2
"""Most nodes above a row: instruction with examples, then a post with several replies. Tokens through the model for the
200 bundled sarcasm rows with 4 examples: 64,562 without sharing, 9,439 with one level, 7,047 with two and also with
three. A third level saved nothing on the bundled tasks with 0, 4, 8 or 16 examples, raw or in the chat format."""

PADDED, PADDING = 1.25, 4
"""A node of n tokens is padded to at most PADDED x n + PADDING columns."""


@dataclass
class Batch:
    """Rows whose keys and values are computed, except for those of their own last tokens."""

    rows: list[int]
    """Indices of the rows. Empty for shared nodes."""
    tokens: torch.Tensor
    """Whole prompts with the padding between their parts: (rows, columns), int64."""
    mask: torch.Tensor
    """1 for a token, 0 for padding: (rows, columns), int64."""
    cached: int
    """How many of the columns are in the cache; the others are the rows' own."""
    cache: DynamicCache | None
    """Keys and values of the cached columns. Each forward pass extends it, and it belongs to this batch alone. None if
    the model's rows cannot share."""


@dataclass
class _Node:
    """Tokens that the rows below share; a leaf holds the rest of one row (at least one token)."""

    tokens: list[int]
    row: int | None = None
    children: list[_Node] = field(default_factory=list)
    parent: int = 0
    """Index of the parent in the batch that computed it."""


# -- the tree --------------------------------------------------------------------------------------------------------


def tree(prompts: Sequence[list[int]], rows: Sequence[int]) -> list[_Node]:
    """Return the rows as trees: each inner node is a beginning that all rows below it share.

    It has at least `WORTH_SHARING` tokens, and there are at most `DEPTH` of them above a row.
    """
    roots: list[_Node] = []
    # rows that share their first `end` tokens, of which those from `start` on belong to no node yet
    pending = [(roots, sorted(rows, key=lambda row: prompts[row]), 0, 0, DEPTH)]
    while pending:
        siblings, sharing, start, end, levels = pending.pop()
        for _, run in groupby(sharing, key=lambda row: prompts[row][end]):
            group = list(run)
            shortest = min(len(prompts[row]) for row in group)
            shared = min(_common_length(prompts[group[0]], prompts[group[-1]]), shortest - 1)
            if len(group) == 1 or shared <= end:
                siblings += [_Node(prompts[row][start:], row) for row in group]
            elif levels and shared - start >= max(WORTH_SHARING, WORTH_COPYING * start):
                node = _Node(prompts[group[0]][start:shared])
                siblings.append(node)
                pending.append((node.children, group, shared, shared, levels - 1))
            else:
                pending.append((siblings, group, start, shared, levels))
    return roots


def _common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two prompts share at their beginning."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


# -- batches ---------------------------------------------------------------------------------------------------------


def batches(loaded: LoadedModel, prompts: Sequence[list[int]], rows: Sequence[int], new_tokens: int) -> Iterator[Batch]:
    """Yield these rows of `prompts` (token ids, at least one each) in batches of similar length.

    What rows share is computed once, if the model's rows can share. `new_tokens` is the most that will follow a row,
    generated or added by `extend_batch`. Call this inside `torch.inference_mode()`, with the model in evaluation mode.
    """
    import torch
    from transformers import DynamicCache

    if not loaded.shares:
        for row in rows:
            tokens = _token_tensor(loaded, [prompts[row]])
            yield Batch([row], tokens, torch.ones_like(tokens), 0, None)
        return
    empty = _token_tensor(loaded, [[]])
    top = Batch([], empty, empty, 0, DynamicCache(config=loaded.model.config))
    longest = max((len(prompts[row]) for row in rows), default=0) + new_tokens
    yield from _batches_below(loaded, tree(prompts, rows), top, _padding_fills_window(loaded, longest))


def _batches_below(loaded: LoadedModel, nodes: list[_Node], parents: Batch, same_length: bool) -> Iterator[Batch]:
    """Yield the batches of all rows below `nodes`, whose parents are computed in the batch `parents`."""
    for group in _group_by_length(nodes, parents.tokens.shape[1], same_length):
        batch = _lay_out(loaded, group, parents)
        if group[0].row is not None:
            yield batch
            continue
        next_logits(loaded, batch)
        for index, node in enumerate(group):
            for child in node.children:
                child.parent = index
        yield from _batches_below(loaded, [child for node in group for child in node.children], batch, same_length)


def _group_by_length(nodes: list[_Node], columns: int, same_length: bool) -> Iterator[list[_Node]]:
    """Yield the nodes that go through the model together, shortest first: either leaves or shared nodes.

    Their lengths are similar, or equal if `same_length`. `columns` is the length of what stands before them.
    """
    order = sorted(nodes, key=lambda node: (node.row is not None, len(node.tokens)))
    while order:
        size, shortest, leaf = 0, len(order[0].tokens), order[0].row is not None
        for node in order:
            length, rows = len(node.tokens), size + 1
            if size and (
                (node.row is not None) != leaf
                or rows * length > TOKENS_AT_ONCE
                or rows * (columns + length) > POSITIONS_AT_ONCE
                or length > (shortest if same_length else PADDED * shortest + PADDING)
            ):
                break
            size = rows
        yield order[:size]
        order = order[size:]


def _lay_out(loaded: LoadedModel, nodes: list[_Node], parents: Batch) -> Batch:
    """Return nodes as a batch, each behind its parent's tokens, keys and values."""
    import torch

    pad = pad_token(loaded)
    longest = max(len(node.tokens) for node in nodes)
    own = _token_tensor(loaded, [[pad] * (longest - len(node.tokens)) + node.tokens for node in nodes])
    lengths = _token_tensor(loaded, [len(node.tokens) for node in nodes])
    own_mask = (torch.arange(longest, device=own.device) >= longest - lengths[:, None]).long()
    indices = _token_tensor(loaded, [node.parent for node in nodes])
    return Batch(
        [node.row for node in nodes if node.row is not None],
        torch.cat([parents.tokens[indices], own], dim=1),
        torch.cat([parents.mask[indices], own_mask], dim=1),
        parents.tokens.shape[1],
        fork_cache(parents.cache, indices),
    )


def _padding_fills_window(loaded: LoadedModel, longest: int) -> bool:
    """Return whether padding could push tokens out of a layer's window, which counts columns instead of tokens.

    `longest` is the length of the longest row with all that follows it, in tokens.
    """
    window = sharing.window(loaded.model.config)
    return window is not None and PADDED * longest + (DEPTH + 1) * PADDING > window


# -- forward passes --------------------------------------------------------------------------------------------------


def next_logits(loaded: LoadedModel, batch: Batch) -> torch.Tensor:
    """Return the logits of the token after each row, (rows, vocabulary) in float32.

    The batch's cache, if it has one, is extended by the rows' own tokens. Raises CourseError if numbers overflow.
    """
    return refuse_overflow(_last_logits(loaded, batch, 1)[:, -1].float())


def _last_logits(loaded: LoadedModel, batch: Batch, columns: int) -> torch.Tensor:
    """Compute what is not cached, and return the logits at the last `columns`: (rows, columns, vocabulary)."""
    if batch.cache is None:
        out = loaded.model(batch.tokens, use_cache=False, logits_to_keep=columns)
        return out.logits[:, -columns:]  # some models return the logits of all columns
    out = loaded.model(
        batch.tokens[:, batch.cached :],
        attention_mask=batch.mask,
        position_ids=(batch.mask.cumsum(dim=1) - 1).clamp(min=0)[:, batch.cached :],
        past_key_values=batch.cache,
        use_cache=True,
        logits_to_keep=columns,
    )
    batch.cached = batch.tokens.shape[1]
    return out.logits


def refuse_overflow(logits: torch.Tensor) -> torch.Tensor:
    """Return logits (..., vocabulary) unchanged. Raises CourseError if any position has NaN or infinity as its largest.

    Nothing else would notice: the most likely token of NaN logits is an ordinary one, the first of the vocabulary.
    """
    if not bool(logits.amax(dim=-1).isfinite().all()):  # the largest of numbers with a NaN among them is NaN
        raise CourseError(
            "The model's numbers overflow, so it gives no probabilities. Either the adapter's weights are too large, or"
            " float16 is too narrow. Train the adapter again with a smaller learning rate, or use a machine that"
            " computes in bfloat16."
        )
    return logits


def extend_batch(loaded: LoadedModel, batch: Batch, tokens: Sequence[int]) -> Batch:
    """Return a computed batch with the same tokens after every row. The batch itself stays as it is."""
    more = _token_tensor(loaded, [list(tokens)]).expand(len(batch.rows), -1)
    return _append(loaded, batch, range(len(batch.rows)), more)


def write(loaded: LoadedModel, batch: Batch, new_tokens: int, likely: Sequence[Sequence[int]] = ()) -> list[str]:
    """Return what the model generates after each row: greedy, up to `new_tokens` tokens or the end of the first line.

    `likely` are answers (as tokens) that many rows are expected to give. If a row begins like one of them, the whole
    answer is verified in one forward pass instead of being generated token by token. This is speculative decoding
    (Leviathan et al. 2023, arXiv:2211.17192) with the labels in place of a draft model; the text is the same.

    Raises CourseError if numbers overflow at any token.
    """
    # 1. The first token of each row, which may already end its text
    logits = next_logits(loaded, batch)
    first = logits.argmax(dim=-1)
    texts: dict[int, str] = {}
    drafts: dict[int, list[int]] = {}
    by_first_token = {tokens[0]: list(tokens) for tokens in reversed(likely) if len(tokens) < new_tokens}
    for index, token in enumerate(first.tolist()):
        text = _finished_text(loaded, [token])
        if text is not None:
            texts[index] = text
        elif token in by_first_token:
            drafts[index] = by_first_token[token]
    # 2. Expected answers, verified in one pass
    if drafts:
        texts |= _verify_drafts(loaded, batch, drafts)
    # 3. The other rows, token by token
    missing = [index for index in range(len(first)) if index not in texts]
    if missing:
        prompt_length = batch.tokens.shape[1]
        begun = _append(loaded, batch, missing, first[missing, None])
        out = loaded.model.generate(
            input_ids=begun.tokens,
            attention_mask=begun.mask,
            past_key_values=begun.cache,
            max_new_tokens=new_tokens - 1,
            do_sample=False,
            stopping_criteria=[_LineEnd(loaded.tokenizer, prompt_length)],
            logits_processor=[lambda _, logits: refuse_overflow(logits)],
            pad_token_id=pad_token(loaded),
            eos_token_id=end_tokens(loaded) or None,
        )
        written = loaded.tokenizer.batch_decode(out[:, prompt_length:], skip_special_tokens=True)
        texts |= dict(zip(missing, written, strict=True))
    return [texts[index] for index in range(len(first))]


def _verify_drafts(loaded: LoadedModel, batch: Batch, drafts: Mapping[int, list[int]]) -> dict[int, str]:
    """Return the texts of those rows (by index in the batch) that the model would answer exactly with their draft."""
    pad, longest = pad_token(loaded), max(map(len, drafts.values()))
    more = _token_tensor(loaded, [draft + [pad] * (longest - len(draft)) for draft in drafts.values()])
    drafted = _append(loaded, batch, list(drafts), more)
    texts = {}
    likeliest = refuse_overflow(_last_logits(loaded, drafted, longest)).argmax(dim=-1).tolist()
    for (index, draft), following in zip(drafts.items(), likeliest, strict=True):
        last = len(draft) - 1
        if following[:last] == draft[1:]:
            text = _finished_text(loaded, [*draft, following[last]])
            if text is not None:
                texts[index] = text
    return texts


# -- where a generated text ends -------------------------------------------------------------------------------------


def _finished_text(loaded: LoadedModel, tokens: list[int]) -> str | None:
    """Return the text of generated tokens if the last one ends the text or its first line, else None."""
    text = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
    return text if tokens[-1] in end_tokens(loaded) or _has_whole_line(text) else None


def end_tokens(loaded: LoadedModel) -> list[int]:
    """Return the tokens that end a text: those of the model's settings, and the tokenizer's, with which we train."""
    ends = loaded.model.generation_config.eos_token_id
    known = [*(ends if isinstance(ends, list) else [ends]), loaded.tokenizer.eos_token_id]
    return sorted({token for token in known if token is not None})


class _LineEnd:
    """A stopping criterion: ends a row after its first line that is not empty, because nothing else is read."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_length: int):
        self.tokenizer, self.prompt_length = tokenizer, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        import torch

        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt_length :])
        return torch.tensor([_has_whole_line(text) for text in texts], device=input_ids.device)


def first_line(text: str) -> str:
    """Return the first line of a generated text that is not empty: all that is read of it."""
    return text.strip().partition("\n")[0].strip()


def _has_whole_line(text: str) -> bool:
    return "\n" in text.lstrip()


# -- tokens, masks and caches ----------------------------------------------------------------------------------------


def _append(loaded: LoadedModel, batch: Batch, places: Sequence[int], more: torch.Tensor) -> Batch:
    """Return the rows at these places of a computed batch, with `more` (rows, columns) after them.

    The batch itself stays as it is.
    """
    import torch

    indices = _token_tensor(loaded, places)
    return Batch(
        [batch.rows[place] for place in places],
        torch.cat([batch.tokens[indices], more], dim=1),
        torch.cat([batch.mask[indices], torch.ones_like(more)], dim=1),
        batch.cached,
        fork_cache(batch.cache, indices),
    )


def fork_cache(cache: DynamicCache | None, indices: torch.Tensor) -> DynamicCache | None:
    """Return a cache of the rows at `indices` that can be extended without changing `cache`; None for None.

    Rows can be repeated. Extending a dynamic cache makes new tensors, so the original keeps its length. Nothing is
    copied if all rows are taken as they are, or a single row is repeated.
    """
    if cache is None:
        return None
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    layers: list[Any] = fork.layers
    filled = [layer for layer in layers if layer.keys is not None and layer.keys.numel()]
    rows = len(filled[0].keys) if filled else 0
    if not rows or (rows > 1 and indices.tolist() == list(range(rows))):
        return fork
    for layer in filled:
        for name in ("keys", "values"):
            states = getattr(layer, name)
            setattr(layer, name, states.expand(len(indices), -1, -1, -1) if rows == 1 else states[indices])
    return fork


def pad_token(loaded: LoadedModel) -> int:
    """Return the token that fills up a batch. It is masked, so any token will do that decoding leaves out.

    A tokenizer may have a padding token for which the model has no embedding. That one is not taken.
    """
    known = (loaded.tokenizer.pad_token_id, *end_tokens(loaded), 0)
    embeddings = loaded.model.get_input_embeddings().weight.shape[0]
    return next(token for token in known if token is not None and token < embeddings)


def _token_tensor(loaded: LoadedModel, ids: Sequence[int] | Sequence[Sequence[int]]) -> torch.Tensor:
    import torch

    return torch.tensor(ids, dtype=torch.long, device=loaded.model.device)
