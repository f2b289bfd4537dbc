"""TRL's SFTTrainer with a loss of our own: at the labelled positions only, in plain PyTorch, a row at a time.

TRL averages over the tokens of a step, so a label of four tokens would weigh more than one of three; and its fused loss is slow
on a CPU and a risk on a T4 (Triton). Here a row's loss is the mean over its labelled tokens, and a step's the mean over its rows.
Importing this module imports TRL, which takes seconds; `llmcourse.training.finetuning` does so when it trains.
"""

import contextlib
from collections.abc import Iterator

import torch
from trl import SFTTrainer

from llmcourse._base import processes
from llmcourse._base.errors import CourseError


class LabelTrainer(SFTTrainer):
    """SFTTrainer in which every row weighs the same, and frozen lower layers run once a row instead of once an epoch."""

    frozen: "FrozenLayers | None" = None

    def freeze_below(self, layers: int) -> None:
        """Nothing is trained in the first `layers` layers: keep what they say of each training row. Call before train()."""
        if layers:
            rows = self.train_dataset["input_ids"]
            self.frozen = FrozenLayers(self.model.get_base_model(), layers, rows, self.accelerator.device)

    def _get_num_items_in_batch(self, batch_samples, device):
        # what the Trainer divides a step's loss by: rows, not tokens
        rows = torch.tensor(sum(len(batch["labels"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(rows).sum() if self.args.world_size > 1 else rows

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over rows of `row_losses`; `num_items_in_batch` is the number of rows in the whole step."""
        ids, mask, labels = to_the_right(*(inputs[name] for name in ("input_ids", "attention_mask", "labels")))
        check_batch(mask, labels, self.processing_class.eos_token_id)
        if self.frozen is None:
            losses = row_losses(model, labels, mask, input_ids=ids)
        else:
            with self.frozen.skipped():
                losses = row_losses(model, labels, mask, inputs_embeds=self.frozen.states(ids, mask))
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            # DDP averages gradients over processes, while the rows are counted over all of them
            loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, None) if return_outputs else loss


def to_the_right(ids, mask, labels):
    """Tokens, mask and labels, (rows, length) each, with the padding on the left: all rows end, with their labels, at the same column."""
    length = mask.shape[1]
    places = (torch.arange(length, device=mask.device) + mask.sum(dim=1, keepdim=True)) % length
    return tuple(values.gather(1, places) for values in (ids, mask, labels))


def check_batch(mask, labels, end: int) -> None:
    """Refuse a batch, as `to_the_right` gives it, of which the collator lost something. Two ways are known, and neither raises an error:
    padding with the end-of-text token and leaving all of these out of the loss, and padding on the left.
    """
    if bool((mask.diff(dim=1) < 0).any()):
        raise CourseError("A training batch is padded on the left; the loss expects the padding on the right.")
    if bool((labels[:, -1] != end).any()):
        raise CourseError(
            "In a training batch the end-of-text token is not labelled; the model would never learn to stop. Is it taken for padding?"
        )


def row_losses(model, labels, mask, **inputs):
    """Mean cross-entropy over each row's labelled tokens, in nats: shape (rows,).

    `labels` is -100 where nothing is to be learned, else the token at that position, `mask` 0 for padding: both (rows, length).
    `inputs` are the tokens or their embeddings. Only the columns in which some row has a label are projected onto the
    vocabulary: a few, if all rows end at the same one.
    """
    targets = labels[:, 1:]
    labelled = targets != -100
    columns = labelled.any(dim=0).nonzero().squeeze(-1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    out = model(**inputs, attention_mask=mask, position_ids=positions, logits_to_keep=columns, use_cache=False)
    labelled, targets = labelled[:, columns], targets[:, columns]
    losses = torch.nn.functional.cross_entropy(out.logits[labelled].float(), targets[labelled], reduction="none")
    rows = labelled.nonzero()[:, 0]
    return torch.zeros(len(labels), device=losses.device).index_add(0, rows, losses) / labelled.sum(dim=1)


class FrozenLayers:
    """What the first layers of a decoder make of each training row, computed once and kept in RAM.

    A row of T tokens costs T x hidden_size numbers in the model's dtype (for the embedded model 2.3 kB a token).
    """

    def __init__(self, base, layers: int, rows: list[list[int]], device, tokens_at_once: int = 2048):
        self.decoder = base.model
        self.every = self.decoder.layers
        self.lower, self.upper = self.every[:layers], self.every[layers:]
        self.kept: dict[tuple[int, ...], torch.Tensor] = {}
        order, batches = sorted({tuple(row) for row in rows}, key=len), []
        while order:
            size = 1
            while size < len(order) and (size + 1) * len(order[size]) <= tokens_at_once:
                size += 1
            batches.append(order[:size])
            order = order[size:]
        for first in range(0, len(batches), processes.count()):
            # each process computes a batch, and tells the others
            mine = batches[first:][processes.rank() : processes.rank() + 1]
            for kept in processes.gather([self._computed(batch, device) for batch in mine]):
                for states in kept:
                    self.kept |= states

    @torch.no_grad()
    def _computed(self, batch: list[tuple[int, ...]], device) -> dict[tuple[int, ...], torch.Tensor]:
        longest = max(map(len, batch))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in batch], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch], device=device)
        norm = self.decoder.norm
        # the decoder normalises what leaves its last layer; here that layer is in the middle
        self.decoder.layers, self.decoder.norm = self.lower, torch.nn.Identity()
        try:
            states = self.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        finally:
            self.decoder.layers, self.decoder.norm = self.every, norm
        return {row: state[: len(row)].cpu().clone() for row, state in zip(batch, states, strict=True)}

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The kept states of a batch that is padded on the left: (rows, length, hidden_size), zero where it is padded."""
        kept = [self.kept[tuple(row[seen].tolist())] for row, seen in zip(ids, mask.bool(), strict=True)]
        out = kept[0].new_zeros(*ids.shape, kept[0].shape[-1])
        for place, state in enumerate(kept):
            out[place, -len(state) :] = state
        return out.to(ids.device)

    @contextlib.contextmanager
    def skipped(self) -> Iterator[None]:
        """Inside, the decoder runs its upper layers only: give it `states` as embeddings."""
        self.decoder.layers = self.upper
        try:
            yield
        finally:
            self.decoder.layers = self.every
