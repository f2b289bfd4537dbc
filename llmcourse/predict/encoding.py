"""Prompts and labels as tokens of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmcourse._base.errors import CourseError
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


def encode(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> list[list[int]]:
    """Return the token ids of each row's whole prompt.

    Raises CourseError for a row that does not fit the prompt or the model's context window; the message names the row.
    """
    texts = []
    for index, row in enumerate(rows):
        try:
            texts.append(render(loaded.tokenizer, prompt, row))
        except CourseError as error:
            raise CourseError(f"Row {row.get('row', index)}: {error}") from None
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
    return prompts


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
