"""Rows -> numbers: what a text looks like inside a frozen model, for a classifier on top.

The model reads a row as it does in training, without an instruction, and gives a vector for each token in each layer.
A logistic regression on the mean of these vectors shows what pretraining has learned, whether or not a prompt can ask
for it (probing: Alain and Bengio 2016, arXiv:1610.01644).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmcourse.data.tasks import Task
from llmcourse.models import LoadedModel
from llmcourse.models.shapes import decoder_layers
from llmcourse.predict.encoding import encode_text, fit
from llmcourse.predict.prompts import Prompt
from llmcourse.predict.retrieval import Embeddings

if TYPE_CHECKING:
    import numpy as np
    import torch

LAYERS = (0.45, 0.75)
"""From which share of the depth to which layers are averaged: layers 14 to 22 of the embedded model's 30. The first
layers know words, and the last ones prepare the next token."""

TOKENS_AT_ONCE = 2048
"""Most padded tokens that go through the model at once."""


def hidden_states(loaded: LoadedModel, task: Task, rows: Sequence[Mapping], max_length: int = 512) -> np.ndarray:
    """Return for each row the mean of the frozen model's vectors over layers and over the tokens of its last text
    column: (rows, hidden_size), float32.

    The other columns stand before it, so the vectors know them. A row is cut to `max_length` tokens, as in training.
    """
    import numpy as np
    import torch

    prompt = Prompt(task, instruction=False, max_length=max_length)
    texts, _ = fit(loaded.tokenizer, prompt, rows)
    tokens = encode_text(loaded.tokenizer, prompt, texts)
    spans = [_last_text(loaded, text, task) for text in texts]
    count = len(decoder_layers(loaded.model))
    first, last = (min(round(share * count), count - 1) for share in LAYERS)
    means: list[np.ndarray] = [np.empty(0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda row: len(tokens[row]))
    with loaded.without_adapter(), torch.inference_mode():
        while order:
            size = 1
            while size < len(order) and (size + 1) * len(tokens[order[size]]) <= TOKENS_AT_ONCE:
                size += 1
            batch, order = order[:size], order[size:]
            states = _mean_of_layers(loaded, [tokens[row] for row in batch], first, last)
            for place, row in enumerate(batch):
                start, end = spans[row]
                means[row] = states[place, start:end].mean(dim=0).float().cpu().numpy()
    return np.stack(means)


def embeddings(task: Task, rows: Sequence[Mapping]) -> np.ndarray:
    """Return sentence embeddings of each text column, side by side: (rows, 384 x columns). See `retrieval`."""
    import numpy as np

    encoder = Embeddings([])
    columns = []
    for column in task.columns:
        texts = [str(row[column]) for row in rows]
        parts = [encoder.embed(texts[start : start + 64]).numpy() for start in range(0, len(texts), 64)]
        columns.append(np.concatenate(parts))
    return np.concatenate(columns, axis=1)


def _last_text(loaded: LoadedModel, text: str, task: Task) -> tuple[int, int]:
    """Return at which token the last text column's text begins in a rendered prompt, and after which it ends."""
    # each text is one line, after its name, and the last line asks for the answer
    *_, line, question = text.split("\n")
    at = len(text) - len(question) - 1
    begin = at - len(line) + len(f"{task.fields[task.columns[-1]]}:")
    offsets = loaded.tokenizer(text, return_offsets_mapping=True).offset_mapping
    inside = [place for place, (start, end) in enumerate(offsets) if end > begin and start < at and end > start]
    return (inside[0], inside[-1] + 1) if inside else (0, len(offsets))


def _mean_of_layers(loaded: LoadedModel, rows: list[list[int]], first: int, last: int) -> torch.Tensor:
    """Return the mean output of the layers from `first` to `last`: (rows, longest row, hidden_size), float32."""
    import torch

    longest, device = max(map(len, rows)), loaded.model.device
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    layers = decoder_layers(loaded.model)
    total: list[torch.Tensor] = []

    def add(module: object, inputs: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        state = (output[0] if isinstance(output, tuple) else output).float()
        total[:] = [total[0] + state] if total else [state]

    hooks = [layers[number].register_forward_hook(add) for number in range(first, last + 1)]
    try:
        loaded.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return total[0] / (last + 1 - first)
