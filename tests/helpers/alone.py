"""What one row gives alone, computed by plain transformers: no shared beginnings, no batches."""

import torch

from llmcourse.models import LoadedModel


def next_logits(loaded: LoadedModel, tokens: list[int]) -> torch.Tensor:
    """Return plain transformers' logits of the token after one row: (vocabulary,)."""
    with torch.inference_mode():
        return loaded.model(torch.tensor([tokens])).logits[0, -1].float()


def logprobs(loaded: LoadedModel, tokens: list[int]) -> torch.Tensor:
    """Return plain transformers' log-probabilities at each place of one row: (tokens, vocabulary)."""
    with torch.inference_mode():
        return loaded.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)


def label_logprobs(loaded: LoadedModel, start: list[int], labels: list[list[int]]) -> list[float]:
    """Return the log-probability of each label: the product over its tokens, each computed for this label alone.

    A token competes with those of the labels that begin alike. Where a label ends and a longer one goes on, it has
    what the others leave.
    """
    result = []
    for label in labels:
        at, total = logprobs(loaded, start + label), 0.0
        for place in range(len(label) + 1):
            alike = [other for other in labels if other[:place] == label[:place]]
            rivals = sorted({other[place] for other in alike if len(other) > place})
            here = at[len(start) + place - 1]
            if place == len(label):
                total += float(torch.log1p(-here[rivals].exp().sum())) if rivals else 0.0
            elif any(len(other) == place for other in alike):
                total += float(here[label[place]])
            else:
                total += float(here[label[place]] - here[rivals].logsumexp(0))
        result.append(total)
    return result


def first_line(loaded: LoadedModel, tokens: list[int], new_tokens: int) -> str:
    """Return the first line that `generate` writes after one prompt."""
    ids = torch.tensor([tokens])
    out = loaded.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False
    )
    text = loaded.tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True)
    return text.strip().partition("\n")[0].strip()
