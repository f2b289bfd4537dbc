"""The silent errors of finetuning: each raises nothing by itself and leaves a useless adapter. Here each is refused."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.models.loading import LoadedModel
from llmcourse.predict import Prompt, label_tokens
from llmcourse.training.recipes import Recipe

if TYPE_CHECKING:
    import torch


def check_rows(dataset: Any, loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> None:
    """Raise CourseError for rows from which nothing, or the wrong thing, would be learned.

    `dataset` is what TRL made of the rows: `input_ids` and `labels` for each of them. A row must teach the very tokens
    that prediction takes for its label.
    """
    tokenizer, answers = loaded.tokenizer, label_tokens(loaded, prompt)
    if len(dataset) != len(rows):
        raise CourseError(f"Of {len(rows)} training rows TRL kept {len(dataset)}.")
    for number, (row, ids, labels) in enumerate(zip(rows, dataset["input_ids"], dataset["labels"], strict=True)):
        learned = [token for token in labels if token != -100]
        check_end(learned, tokenizer.eos_token_id, number)
        check_label(learned[:-1], answers[row["label"]], tokenizer, number)
        check_beginning(ids, tokenizer.bos_token_id, number)


def check_end(learned: Sequence[int], end: int, number: int) -> None:
    """Raise CourseError unless the last learned token is the end of the text."""
    if not learned or learned[-1] != end:
        raise CourseError(
            f"Training row {number} does not end with a labelled end-of-text token, so the model would never learn to"
            " stop."
        )


def check_label(taught: Sequence[int], label: Sequence[int], tokenizer: Any, number: int) -> None:
    """Raise CourseError unless the row teaches its own label, in the tokens that prediction reads."""
    if list(taught) != list(label):
        texts = [repr(tokenizer.decode(tokens).strip()) for tokens in (taught, label)]
        raise CourseError(
            f"Training row {number} would teach {texts[0]}, but its label is {texts[1]} (tokens {list(taught)} and"
            f" {list(label)})."
        )


def check_beginning(ids: Sequence[int], bos: int | None, number: int) -> None:
    """Raise CourseError for two beginning-of-text tokens."""
    if bos is not None and list(ids[:2]) == [bos, bos]:
        raise CourseError(f"Training row {number} begins with two beginning-of-text tokens. The model knows one.")


def check_steps(rows: int, recipe: Recipe) -> None:
    """Raise CourseError for a run whose every step is a first step of warm-up, with a learning rate of 0."""
    steps = math.ceil(math.ceil(rows / recipe.batch_rows) * recipe.epochs)
    if recipe.warmup and steps <= 1:
        raise CourseError(
            f"{rows} rows in steps of {recipe.batch_rows} make a single step, and warm-up starts with a learning rate"
            " of 0, so nothing would be learned. Use more rows or epochs, smaller steps (--set batch_rows=4), or no"
            " warm-up (--set warmup=0)."
        )


def check_plain(adapter: Any) -> None:
    """Raise CourseError for an adapter on experts, which PEFT keeps in another form than on matrices.

    `adapter` is PEFT's config after the adapter was built. It would be trained, and refused when it is loaded.
    """
    if adapter.target_parameters:
        names = ", ".join(sorted(name.rsplit(".", 1)[-1] for name in adapter.target_parameters))
        raise CourseError(
            f"The recipe's target_modules name the model's experts ({names}), which the course does not adapt. Adapt"
            " its attention: --set \"target_modules=('q_proj', 'k_proj', 'v_proj', 'o_proj')\"."
        )


def check_trainable(parameters: int) -> None:
    """Raise CourseError when no parameter takes gradients."""
    if not parameters:
        raise CourseError("Nothing would be trained: no part of the adapter takes gradients.")


def check_learned(weights: "Mapping[str, torch.Tensor]") -> None:
    """Raise CourseError if training changed nothing, or only a part.

    The adapter's B matrices start at zero, and none may still be zero after training.
    """
    second = {name: weight for name, weight in weights.items() if "lora_B" in name}
    zero = [name for name, weight in second.items() if not bool(weight.detach().abs().max() > 0)]
    if second and len(zero) == len(second):
        raise CourseError("The adapter is still zero after training, so it changes nothing. Is the learning rate 0?")
    if zero:
        raise CourseError(
            f"{len(zero)} of the adapter's {len(second)} matrices B are still zero after training, first {zero[0]}: no"
            " gradient reached them. Leave these target_modules out."
        )
