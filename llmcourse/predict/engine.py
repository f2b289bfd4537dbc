"""Prompts as tokens in, batches out of which each has only the rows' own tokens left to compute.

Prompts repeat each other: all begin with the same instruction, many with the same examples, replies to one post with that post. What
several prompts begin with goes through the model once. The prompts form a tree, of which each node holds the tokens that the rows below it share; nodes of
similar length are computed in one batch, on top of the keys and values of the nodes above them. Shorter nodes are padded on
the left, between their parent and themselves, and the padding is masked and takes no position: every row sees exactly the tokens and
the positions that it would see alone, and all rows of a batch end at the same column.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from llmcourse.models import LoadedModel

POSITIONS_AT_ONCE = 6144
"""Most positions of keys and values (columns times rows) that one batch holds; bounds memory, not results."""

TOKENS_AT_ONCE = 1024
"""Most tokens (rows times their padded length) that go through the model at once."""

WORTH_SHARING = 8
"""Fewest tokens that get a node of their own: a shorter one costs a pass through the model and saves nearly nothing."""

WORTH_COPYING = 1 / 32
"""Fewest tokens of a node for each token above it, whose keys and values are copied for the node's pass. Measured on a CPU: with 280
tokens above, sharing 25 of 46 tokens by two rows gains 7 %; with 920 above it loses 10 %."""

DEPTH = 3
"""Most nodes above a row (instruction, examples, context); each level keeps keys and values while the levels below it are computed."""


@dataclass
class Batch:
    """Rows whose keys and values are known but for their own last tokens."""

    rows: list[int]
    """Indices of the rows; of a node that they share, indices of nothing."""
    tokens: Any
    """Whole prompts with the padding between their parts: (rows, columns)."""
    mask: Any
    """1 for a token, 0 for padding: (rows, columns)."""
    cached: int
    """How many of the columns are in the cache; the others are the rows' own."""
    cache: Any
    """Keys and values of the cached columns. It grows with each forward pass, and belongs to this batch alone."""


@dataclass
class _Node:
    """Tokens that the rows below share; a leaf holds the rest of one row (at least one token)."""

    tokens: list[int]
    row: int | None = None
    children: list["_Node"] = field(default_factory=list)
    line: int = 0
    """Where its parent lies in the batch that computed it."""


def batches(loaded: LoadedModel, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> Iterator[Batch]:
    """These rows of `prompts` (token ids, each at least one) in batches of similar length, what they share computed once.

    Call inside `torch.inference_mode()`, with the model in evaluation mode.
    """
    from transformers import DynamicCache

    top = Batch([], _tensor(loaded, [[]]), _tensor(loaded, [[]]), 0, DynamicCache(config=loaded.model.config))
    yield from _below(loaded, tree(prompts, rows), top, _counts_columns(loaded, prompts))


def tree(prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> list[_Node]:
    """The rows as trees: each node is a beginning, of at least `WORTH_SHARING` tokens, that all rows below it have in common."""
    roots: list[_Node] = []
    # rows that share their first `at` tokens, of which those from `start` on have no node yet
    pending = [(roots, sorted(rows, key=prompts.__getitem__), 0, 0, DEPTH)]
    while pending:
        siblings, rows, start, at, depth = pending.pop()
        for _, group in groupby(rows, key=lambda row: prompts[row][at]):
            group = list(group)
            shortest = min(len(prompts[row]) for row in group)
            end = min(_common(prompts[group[0]], prompts[group[-1]]), shortest - 1)
            if len(group) == 1 or end <= at:
                siblings += [_Node(list(prompts[row][start:]), row) for row in group]
            elif depth and end - start >= max(WORTH_SHARING, WORTH_COPYING * start):
                node = _Node(list(prompts[group[0]][start:end]))
                siblings.append(node)
                pending.append((node.children, group, end, end, depth - 1))
            else:
                pending.append((siblings, group, start, end, depth))
    return roots


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two prompts have in common at their beginning."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _below(loaded: LoadedModel, nodes: list[_Node], above: Batch, exact: bool) -> Iterator[Batch]:
    """The batches of all rows below `nodes`, whose parents are computed in `above`."""
    for bundle in _bundles(nodes, above.tokens.shape[1], exact):
        batch = _laid_out(loaded, bundle, above)
        if bundle[0].row is not None:
            yield batch
            continue
        next_logits(loaded, batch)
        for line, node in enumerate(bundle):
            for child in node.children:
                child.line = line
        yield from _below(loaded, [child for node in bundle for child in node.children], batch, exact)


def _bundles(nodes: list[_Node], columns: int, exact: bool) -> Iterator[list[_Node]]:
    """Nodes that go through the model together: leaves or others, of similar length (`exact`: of the same), shortest first."""
    order = sorted(nodes, key=lambda node: (node.row is not None, len(node.tokens)))
    while order:
        size, shortest, leaf = 0, len(order[0].tokens), order[0].row is not None
        for node in order:
            length, rows = len(node.tokens), size + 1
            if size and (
                (node.row is not None) != leaf
                or rows * length > TOKENS_AT_ONCE
                or rows * (columns + length) > POSITIONS_AT_ONCE
                or length > (shortest if exact else 1.25 * shortest + 4)
            ):
                break
            size = rows
        yield order[:size]
        order = order[size:]


def _laid_out(loaded: LoadedModel, nodes: list[_Node], above: Batch) -> Batch:
    """Nodes as a batch, each behind its parent's tokens, keys and values."""
    import torch

    pad = pad_token(loaded)
    longest = max(len(node.tokens) for node in nodes)
    own = _tensor(loaded, [[pad] * (longest - len(node.tokens)) + node.tokens for node in nodes])
    lengths = _tensor(loaded, [len(node.tokens) for node in nodes])
    seen = (torch.arange(longest, device=own.device) >= longest - lengths[:, None]).long()
    lines = _tensor(loaded, [node.line for node in nodes])
    return Batch(
        [node.row for node in nodes if node.row is not None],
        torch.cat([above.tokens[lines], own], dim=1),
        torch.cat([above.mask[lines], seen], dim=1),
        above.tokens.shape[1],
        grown(above.cache, lines),
    )


def next_logits(loaded: LoadedModel, batch: Batch):
    """Logits of what follows each row, (rows, vocabulary), in float32. The batch's cache grows by the rows' own tokens."""
    positions = (batch.mask.cumsum(dim=1) - 1).clamp(min=0)[:, batch.cached :]
    out = loaded.model(
        batch.tokens[:, batch.cached :],
        attention_mask=batch.mask,
        position_ids=positions,
        past_key_values=batch.cache,
        use_cache=True,
        logits_to_keep=1,
    )
    batch.cached = batch.tokens.shape[1]
    return out.logits[:, -1].float()


def followed_by(loaded: LoadedModel, batch: Batch, tokens: Sequence[int]) -> Batch:
    """A computed batch with the same tokens behind every row; the batch itself stays as it is."""
    more = _tensor(loaded, [list(tokens)]).expand(len(batch.rows), -1)
    return Batch(batch.rows, *_joined(batch, slice(None), more), batch.cached, grown(batch.cache))


def write(loaded: LoadedModel, batch: Batch, new_tokens: int, likely: Sequence[Sequence[int]] = ()) -> list[str]:
    """What the model writes behind each row: greedy, at most so many tokens, and no further than the first line with text.

    `likely` are answers (as tokens) that many rows are expected to give. A row that begins like one of them has the whole
    answer checked in one pass, instead of writing it token by token (Leviathan et al. 2023, arXiv:2211.17192, with the
    labels in the place of a draft model); the text is the same.
    """
    first = next_logits(loaded, batch).argmax(dim=-1)
    texts = [_ended(loaded, [token]) for token in first.tolist()]
    drafts = {tokens[0]: list(tokens) for tokens in reversed(likely) if len(tokens) < new_tokens}
    drafted = [line for line, token in enumerate(first.tolist()) if texts[line] is None and token in drafts]
    if drafted:
        answers = [drafts[int(first[line])] for line in drafted]
        for line, text in zip(drafted, _checked(loaded, batch, drafted, answers), strict=True):
            texts[line] = text
    missing = [line for line, text in enumerate(texts) if text is None]
    if missing:
        lines = _tensor(loaded, missing)
        ids, mask = _joined(batch, lines, first[lines, None])
        out = loaded.model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=grown(batch.cache, lines),
            max_new_tokens=new_tokens - 1,
            do_sample=False,
            stopping_criteria=[_LineEnd(loaded.tokenizer, batch.cached)],
            pad_token_id=pad_token(loaded),
        )
        written = loaded.tokenizer.batch_decode(out[:, batch.cached :], skip_special_tokens=True)
        for line, text in zip(missing, written, strict=True):
            texts[line] = text
    return texts


def _checked(loaded: LoadedModel, batch: Batch, lines: list[int], answers: list[list[int]]) -> list[str | None]:
    """For each of these lines the answer's text if the model would write just that, and then end the line; else None."""
    pad, longest = pad_token(loaded), max(map(len, answers))
    places = _tensor(loaded, lines)
    more = _tensor(loaded, [tokens + [pad] * (longest - len(tokens)) for tokens in answers])
    mask = _joined(batch, places, more)[1]
    out = loaded.model(
        more,
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1)[:, batch.cached :],
        past_key_values=grown(batch.cache, places),
        use_cache=True,
        logits_to_keep=longest,
    )
    return [
        _ended(loaded, [*tokens, following[len(tokens) - 1]]) if following[: len(tokens) - 1] == tokens[1:] else None
        for tokens, following in zip(answers, out.logits.argmax(dim=-1).tolist(), strict=True)
    ]


def _ended(loaded: LoadedModel, tokens: list[int]) -> str | None:
    """The text of these written tokens if the last of them ends it (with the end of text, or of a line), else None."""
    ends = loaded.model.generation_config.eos_token_id
    text = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
    return text if tokens[-1] in (ends if isinstance(ends, list) else [ends]) or _line_ended(text) else None


def _joined(batch: Batch, lines, more):
    """Tokens and mask of some lines of a computed batch with `more` (lines, columns) behind them."""
    import torch

    ids = torch.cat([batch.tokens[lines], more], dim=1)
    return ids, torch.cat([batch.mask[lines], torch.ones_like(more)], dim=1)


class _LineEnd:
    """Stops a row of a generation after its first line that is not empty: what follows is not read."""

    def __init__(self, tokenizer, prompt_length: int):
        self.tokenizer, self.prompt_length = tokenizer, prompt_length

    def __call__(self, input_ids, scores, **kwargs):
        import torch

        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt_length :])
        return torch.tensor([_line_ended(text) for text in texts], device=input_ids.device)


def first_line(text: str) -> str:
    """What is read of a written text: its first line that is not empty."""
    return text.strip().partition("\n")[0].strip()


def _line_ended(text: str) -> bool:
    return "\n" in text.lstrip()


def grown(cache, lines=None):
    """A cache that begins as `cache` and may grow on its own; `lines` (a tensor) chooses and repeats its rows.

    Growing a dynamic cache makes new tensors, so the original keeps its length. Nothing is copied where a single row is repeated, or
    all are taken as they are.
    """
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    filled = [layer for layer in twin.layers if getattr(layer, "keys", None) is not None and layer.keys.numel()]
    if lines is None or not filled:
        return twin
    rows = len(filled[0].keys)
    if rows > 1 and lines.tolist() == list(range(rows)):
        return twin
    for layer in filled:
        for name in ("keys", "values"):
            kept = getattr(layer, name)
            setattr(layer, name, kept.expand(len(lines), -1, -1, -1) if rows == 1 else kept[lines])
    return twin


def pad_token(loaded: LoadedModel) -> int:
    """The token that fills up a batch; it is masked, so any will do."""
    tokenizer = loaded.tokenizer
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def _counts_columns(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> bool:
    """Whether padding would push tokens out of a sliding window, which counts columns, not tokens."""
    window = getattr(loaded.model.config, "sliding_window", None)
    # the longest answer is far shorter than 64 tokens
    return bool(window) and max(map(len, prompts), default=0) * 1.25 + 64 > window


def _tensor(loaded: LoadedModel, ids):
    import torch

    return torch.tensor(ids, dtype=torch.long, device=loaded.model.device)
