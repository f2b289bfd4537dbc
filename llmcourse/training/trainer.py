"""TRL's trainer with a loss of its own: the cross-entropy of the choice among the labels, and a share of TRL's loss.

A row's loss is the mean over its labelled tokens, a step's the mean over its rows.

Importing this module imports TRL, which takes seconds; only `finetuning` does so, when it trains.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from peft import PeftModel
from trl import SFTTrainer

from llmcourse._base import hardware
from llmcourse._base.errors import CourseError
from llmcourse.models.shapes import decoder_layers
from llmcourse.predict import label_choices
from llmcourse.training.batches import MOST_TOKENS, micro_batches, pass_tokens


class LabelTrainer(SFTTrainer):
    """SFTTrainer in which every row weighs the same, a step's rows go through the model in micro-batches of similar
    length, and frozen lower layers run once for each row instead of once an epoch."""

    frozen: "FrozenLayers | None" = None
    label_tokens: Sequence[Sequence[int]] = ()
    """The tokens of each label as they follow the prompt."""
    lm_weight: float = 1.0
    """The share of the ordinary loss, as in `Recipe.lm_weight`."""
    validate: Callable[[], dict[str, float]] | None = None
    """Measures the model on held-out rows, as `evaluate` returns it."""
    most_tokens: int = MOST_TOKENS
    """Most padded tokens of a micro-batch."""
    micro_rows: int = 0
    """Rows of the micro-batch with the most rows so far."""
    micro_tokens: int = 0
    """Padded tokens of the micro-batch with the most tokens so far."""

    @property
    def adapted(self) -> PeftModel:
        """The model with its adapter."""
        return cast(PeftModel, self.model)

    def freeze_below(self, layers: int) -> None:
        """Compute the output of the first `layers` layers once, since nothing is trained there. Call before train()."""
        if layers:
            rows = cast(Any, self.train_dataset)["input_ids"]
            self.frozen = FrozenLayers(self.adapted.get_base_model(), layers, rows, self.accelerator.device)

    def _get_num_items_in_batch(self, batch_samples: Sequence[dict], device: torch.device) -> torch.Tensor:
        # what the Trainer divides a step's loss by: rows, not tokens
        rows = torch.tensor(sum(len(batch["labels"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(rows).sum() if self.args.world_size > 1 else rows

    def training_step(
        self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Run a step's rows forwards and backwards in micro-batches, and return the sum of their losses."""
        lengths, losses = inputs["attention_mask"].sum(dim=1).tolist(), []
        parts = micro_batches(lengths, self.most_tokens, pass_tokens(hardware.detect()))
        for number, rows in enumerate(parts, start=1):
            longest = max(lengths[row] for row in rows)
            part = {name: inputs[name][rows, :longest] for name in ("input_ids", "attention_mask", "labels")}
            self.micro_rows = max(self.micro_rows, len(rows))
            self.micro_tokens = max(self.micro_tokens, len(rows) * longest)
            # processes exchange their gradients once a step, with the last micro-batch
            last = number == len(parts)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the model on the held-out rows as on test rows, instead of TRL's loss on them; report and return
        it."""
        assert self.validate
        self.adapted.eval()
        metrics = self.validate()
        self.adapted.train()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the mean of the rows' losses; `num_items_in_batch` is the number of rows in the whole step."""
        ids, mask, labels = pad_left(*(inputs[name] for name in ("input_ids", "attention_mask", "labels")))
        check_batch(mask, labels, cast(Any, self.processing_class).eos_token_id)
        with self.frozen.skipped(ids, mask) if self.frozen else contextlib.nullcontext():
            logits, targets = answer_logits(model, labels, mask, input_ids=ids)
        losses = lm_losses(logits, targets)
        if self.lm_weight < 1:
            choice = choice_losses(logits, targets, self.label_tokens)
            losses = self.lm_weight * losses + (1 - self.lm_weight) * choice.to(losses.dtype)
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            # DDP averages gradients over processes, while the rows are counted over all of them
            loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, None) if return_outputs else loss


def pad_left(
    ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Move the padding of a right-padded batch to the left, so that all rows end, with their labels, at the same
    column.

    All shapes are (rows, length). Padding becomes token 0, because a tokenizer may have a padding token for which the
    model has no embedding.
    """
    length = mask.shape[1]
    places = (torch.arange(length, device=mask.device) + mask.sum(dim=1, keepdim=True)) % length
    return (ids * mask).gather(1, places), mask.gather(1, places), labels.gather(1, places)


def check_batch(mask: torch.Tensor, labels: torch.Tensor, end: int) -> None:
    """Raise CourseError for a batch, as `pad_left` returns it, of which the collator lost something.

    Two ways are known, and neither raises an error by itself: padding with the end-of-text token and leaving all of
    these out of the loss, and padding on the left.
    """
    if bool((mask.diff(dim=1) < 0).any()):
        raise CourseError("A training batch is padded on the left; the loss expects the padding on the right.")
    if bool((labels[:, -1] != end).any()):
        raise CourseError(
            "In a training batch the end-of-text token is not labelled, so the model would never learn to stop. Is it"
            " taken for padding?"
        )


def answer_logits(
    model: Any, labels: torch.Tensor, mask: torch.Tensor, **inputs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (rows, columns, vocabulary) and the target tokens (rows, columns) where rows have labels.

    `labels` is -100 where nothing is learned, else the token at that position. `mask` is 0 for padding. Both are (rows,
    length). `inputs` are the tokens or their embeddings. Only the columns in which some row has a label are projected
    onto the vocabulary: a few, if all rows end at the same column.
    """
    targets = labels[:, 1:]
    columns = (targets != -100).any(dim=0).nonzero().squeeze(-1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    out = model(**inputs, attention_mask=mask, position_ids=positions, logits_to_keep=columns, use_cache=False)
    return out.logits, targets[:, columns]


def lm_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy over each row's labelled tokens, in nats: shape (rows,), float32."""
    labelled = targets != -100
    losses = torch.nn.functional.cross_entropy(logits[labelled].float(), targets[labelled], reduction="none")
    rows = labelled.nonzero()[:, 0]
    return torch.zeros(len(targets), device=losses.device).index_add(0, rows, losses) / labelled.sum(dim=1)


def choice_losses(logits: torch.Tensor, targets: torch.Tensor, label_tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the cross-entropy of the choice among the labels, in nats: shape (rows,), float64.

    It is the negative log-probability that `predict.score` gives to the row's own label. A row ends with its label's
    tokens and the end-of-text token. The model chooses only where labels differ, and all these places lie within the
    row's own label, so no other label has to be computed. Schick and Schütze 2021 (arXiv:2001.07676, section 3.1) call
    it the cross-entropy over the verbalizers, for labels of one token.
    """
    words = [tuple(tokens) for tokens in label_tokens]
    answers = [tuple(row[row != -100][:-1].tolist()) for row in targets]
    starts = [targets.shape[1] - len(answer) - 1 for answer in answers]  # all rows end at the last column
    total = logits.new_zeros(len(targets), dtype=torch.float64)
    for path, choice in label_choices(words).items():
        rows = [row for row, answer in enumerate(answers) if answer[: len(path)] == path]
        if rows:
            columns = [starts[row] + len(path) for row in rows]
            logprobs = choice.logprobs(logits[rows, columns].double().log_softmax(dim=-1))
            own = logprobs[range(len(rows)), [words.index(answers[row]) for row in rows]]
            total = total.index_add(0, torch.tensor(rows, device=total.device), own)
    return -total


class FrozenLayers:
    """The output of a decoder's first layers for each training row, computed once and kept in RAM.

    A row of T tokens costs T x hidden_size numbers in the model's dtype (for the embedded model 2.3 kB a token). It
    works for any decoder that is a list of layers: while the rest is trained, the first layers are replaced by layers
    that pass on what they are given, and the last of them returns the kept output.
    """

    def __init__(
        self, base: Any, layers: int, rows: Sequence[list[int]], device: torch.device, tokens_at_once: int = 2048
    ):
        self.layers = decoder_layers(base)
        self.replays = [_Replay(layer) for layer in self.layers[:layers]]
        self.outputs: dict[tuple[int, ...], torch.Tensor] = {}
        order = sorted({tuple(row) for row in rows}, key=len)
        while order:
            size = 1
            while size < len(order) and (size + 1) * len(order[size]) <= tokens_at_once:
                size += 1
            self._compute(base, order[:size], device)
            order = order[size:]

    @torch.no_grad()
    def _compute(self, base: Any, batch: list[tuple[int, ...]], device: torch.device) -> None:
        longest = max(map(len, batch))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in batch], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch], device=device)
        states: list[torch.Tensor] = []

        def stop(module: Any, inputs: Any, output: Any) -> None:
            self.replays[-1].returns_tuple = isinstance(output, tuple)
            states.append(output[0] if isinstance(output, tuple) else output)
            raise _Computed

        hook = self.layers[len(self.replays) - 1].register_forward_hook(stop)
        training = base.training
        base.eval()  # a base model's own dropout would be drawn once, and then repeated in every epoch
        try:
            with contextlib.suppress(_Computed):
                base(input_ids=ids, attention_mask=mask, use_cache=False)
        finally:
            hook.remove()
            base.train(training)
        for row, state in zip(batch, states[0], strict=True):
            self.outputs[row] = state[: len(row)].cpu().clone()

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the outputs for a left-padded batch: (rows, length, hidden_size), zero where it is padded."""
        rows = [self.outputs[tuple(row[real].tolist())] for row, real in zip(ids, mask.bool(), strict=True)]
        out = rows[0].new_zeros(*ids.shape, rows[0].shape[-1])
        for place, state in enumerate(rows):
            out[place, -len(state) :] = state
        return out.to(ids.device)

    @contextlib.contextmanager
    def skipped(self, ids: torch.Tensor, mask: torch.Tensor) -> Iterator[None]:
        """Inside the block the model computes only its upper layers for this left-padded batch, (rows, length)."""
        frozen = list(self.layers[: len(self.replays)])
        self.replays[-1].output = self.states(ids, mask)
        for place, replay in enumerate(self.replays):
            self.layers[place] = replay
        try:
            yield
        finally:
            self.replays[-1].output = None
            for place, layer in enumerate(frozen):
                self.layers[place] = layer


class _Computed(Exception):
    """Ends a forward pass after the last layer that is needed."""


class _Replay(torch.nn.Module):
    """Takes the place of a frozen layer: returns the kept output if there is one, else its input."""

    def __init__(self, layer: torch.nn.Module):
        super().__init__()
        self.__dict__["layer"] = layer  # not as a submodule, so that its parameters are not found twice
        self.output: torch.Tensor | None = None
        self.returns_tuple = False

    def __getattr__(self, name: str) -> Any:
        # decoders ask a layer for its kind of attention
        return getattr(self.__dict__["layer"], name)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        output = hidden_states if self.output is None else self.output
        return (output,) if self.returns_tuple else output
