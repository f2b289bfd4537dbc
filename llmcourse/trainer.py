"""TRL's SFTTrainer with a loss of our own: at the labelled positions only, in plain PyTorch, a row at a time.

TRL averages over the tokens of a step, so a label of four tokens would weigh more than one of three; and its fused loss is slow
on a CPU and a risk on a T4 (Triton). Here a row's loss is the mean over its labelled tokens, and a step's the mean over its rows.
Importing this module imports TRL, which takes seconds; `llmcourse.finetune` does so when it trains.
"""

import torch
from trl import SFTTrainer


class LabelTrainer(SFTTrainer):
    """SFTTrainer in which every row weighs the same."""

    def _get_num_items_in_batch(self, batch_samples, device):
        # what the Trainer divides a step's loss by: rows, not tokens
        rows = torch.tensor(sum(len(batch["labels"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(rows).sum() if self.args.world_size > 1 else rows

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over rows of `row_losses`; `num_items_in_batch` is the number of rows in the whole step."""
        losses = row_losses(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            # DDP averages gradients over processes, while the rows are counted over all of them
            loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, None) if return_outputs else loss


def row_losses(model, input_ids, attention_mask, labels):
    """Mean cross-entropy over each row's labelled tokens, in nats: shape (rows,).

    `labels` is -100 where nothing is to be learned, else the token at that position; all of shape (rows, length). Only the
    columns in which some row has a label are projected onto the vocabulary.
    """
    targets = labels[:, 1:]
    labelled = targets != -100
    columns = labelled.any(dim=0).nonzero().squeeze(-1)
    logits = model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=columns, use_cache=False).logits
    labelled, targets = labelled[:, columns], targets[:, columns]
    losses = torch.nn.functional.cross_entropy(logits[labelled].float(), targets[labelled], reduction="none")
    rows = labelled.nonzero()[:, 0]
    return torch.zeros(len(labels), device=losses.device).index_add(0, rows, losses) / labelled.sum(dim=1)
