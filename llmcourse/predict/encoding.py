"""Prompts and labels as tokens of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmcourse._base.errors import CourseError
from llmcourse.data.texts import MAX_CHARACTERS
from llmcourse.models import LoadedModel
from llmcourse.predict.prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER_ROOM = 16
"""Tokens of the context window that stay free for the answer."""


def render(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, row: Mapping) -> str:
    """Return a row's whole prompt, in the model's chat format if the prompt asks for it.

    Raises CourseError for a chat prompt if the model has no chat template (a base model such as Mistral-7B-v0.1).
    """
    text = prompt.text(row)
    if not prompt.chat:
        return text
    if not tokenizer.chat_template:
        raise CourseError("This model has no chat template, because it is a base model. Use Prompt(..., chat=False).")
    message = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))


def encode_text(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, texts: list[str]) -> list[list[int]]:
    """Return the token ids of rendered prompts. A chat template writes its own first token, so none is added."""
    return tokenizer(texts, add_special_tokens=not prompt.chat).input_ids


def fit(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, rows: Sequence[Mapping]) -> tuple[list[str], list[int]]:
    """Return each row's whole prompt, cut to the prompt's max_length, and the indices of the rows that were cut.

    Training and prediction both use this function, so an adapter reads a long row as it was trained on it. The answer
    is never cut. Raises CourseError for a row that does not fit the prompt, and names the row, and for a max_length
    that is too small for the prompt without any text.
    """
    texts = []
    for index, row in enumerate(rows):
        try:
            texts.append(render(tokenizer, prompt, row))
        except CourseError as error:
            raise CourseError(f"Row {row.get('row', index)}: {error}") from None
    if prompt.max_length is None or not texts:
        return texts, []
    answers = [prompt.answer(label) for label in range(len(prompt.task.labels))]
    room = prompt.max_length - max(len(tokenizer(answer).input_ids) for answer in answers) - 2
    long = [index for index, ids in enumerate(encode_text(tokenizer, prompt, texts)) if len(ids) > room]
    for index in long:
        texts[index] = _shortened(tokenizer, prompt, rows[index], room)
    return texts, long


def _shortened(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, row: Mapping, room: int) -> str:
    """Return the prompt with each field cut to the largest common number of characters that fits `room` tokens."""
    low, high, best = 0, MAX_CHARACTERS, None
    while low <= high:
        middle = (low + high) // 2
        short = {column: str(row[column])[:middle] for column in prompt.task.fields}
        text = render(tokenizer, prompt, short)
        if len(encode_text(tokenizer, prompt, [text])[0]) <= room:
            best, low = text, middle + 1
        else:
            high = middle - 1
    if best is None:
        raise CourseError(
            f"max_length={prompt.max_length} is too small: the prompt and its answer are longer even without a text."
            " Raise max_length in the recipe, and train again."
        )
    return best


def describe_cut(cut: int, rows: int, what: str, max_length: int) -> str:
    """Return in a sentence how many of some rows were cut to `max_length`."""
    were = "was" if cut == 1 else "were"
    return f"To fit max_length={max_length} tokens, {cut:,} of {rows:,} {what} {were} cut at the end."


def encode(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> list[list[int]]:
    """Return the token ids of each row's whole prompt, cut to the prompt's max_length.

    Raises CourseError for a row that does not fit the prompt or the model's context window; the message names the row.
    """
    return encode_and_cut(loaded, prompt, rows)[0]


def encode_and_cut(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> tuple[list[list[int]], list[int]]:
    """Return what `encode` returns, and the indices of the rows that were cut."""
    texts, cut = fit(loaded.tokenizer, prompt, rows)
    prompts = encode_text(loaded.tokenizer, prompt, texts) if texts else []
    bos = loaded.tokenizer.bos_token_id
    if bos is not None and any(tokens[:2] == [bos, bos] for tokens in prompts):
        raise CourseError(
            "A prompt begins with two beginning-of-text tokens, and the model was trained with one."
            " Remove the token from the chat template, or use Prompt(..., chat=False)."
        )
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    if limit and prompts:
        longest = max(range(len(prompts)), key=lambda index: len(prompts[index]))
        if len(prompts[longest]) + ANSWER_ROOM > limit:
            raise CourseError(
                f"The prompt of row {rows[longest].get('row', longest)} has {len(prompts[longest]):,} tokens;"
                f" the model takes {limit:,}. Use fewer examples (--shots)."
            )
    return prompts, cut


def label_tokens(loaded: LoadedModel, prompt: Prompt) -> list[list[int]]:
    """Return the tokens of each label as they follow the prompt.

    Raises CourseError if the tokenizer merges the end of the prompt with the beginning of a label.
    """
    text = render(loaded.tokenizer, prompt, dict.fromkeys(prompt.task.fields, "x"))
    texts = [text, *(text + prompt.answer(label) for label in range(len(prompt.task.labels)))]
    start, *answered = encode_text(loaded.tokenizer, prompt, texts)
    if any(tokens[: len(start)] != start for tokens in answered):
        raise CourseError(
            f"The tokenizer merges the end of the prompt with the beginning of a label of task {prompt.task.name!r}."
            " Begin its label words with a letter or a digit."
        )
    return [tokens[len(start) :] for tokens in answered]
