"""Prompts and labels as tokens of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from llmcourse._base.errors import CourseError
from llmcourse.data.texts import MAX_CHARACTERS, identity
from llmcourse.models import LoadedModel
from llmcourse.predict.prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPARE_TOKENS = 4
"""How many tokens a generated answer may have beyond those of the longest label."""

TODAY = date(2024, 7, 26)
"""The date for chat templates that write today's date into the prompt. The true one would change the answers every day.
It is the one that Llama 3's template names without a clock."""

_CLOCK = re.compile(r"""strftime_now\((["'])(.+?)\1\)""")


def render(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, row: Mapping) -> str:
    """Return a row's whole prompt, in the model's chat format if the prompt asks for it.

    Raises CourseError for a chat prompt if the model has no chat template (a base model such as Mistral-7B-v0.1).
    """
    return chat_text(tokenizer, prompt.messages(row)) if prompt.chat else prompt.text(row)


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    """Return messages in the model's chat format, up to where the model's answer begins.

    The model answers without thinking first: where its template can switch thinking off, it is off, and where the
    template opens a thought, we close it. Raises CourseError if there is no template, or if it refuses the messages.
    """
    text = _apply_template(tokenizer, messages, add_generation_prompt=True)
    return text.rstrip() + "\n</think>\n\n" if text.rstrip().endswith("<think>") else text


def _apply_template(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options: Any) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise CourseError("This model has no chat template, because it is a base model. Use Prompt(..., chat=False).")
    try:
        template = _CLOCK.sub(lambda call: repr(TODAY.strftime(call[2])), tokenizer.get_chat_template())
        # a template that knows no thinking ignores the setting
        options |= {"tokenize": False, "enable_thinking": False}
        return str(tokenizer.apply_chat_template(messages, chat_template=template, **options))
    except (TemplateError, TypeError, ValueError) as error:
        raise CourseError(f"The model's chat template fails: {error}. Use Prompt(..., chat=False).") from error


def answer_texts(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[str]:
    """Return what a perfect model writes after the rendered prompt, for each label.

    Some chat templates write a space between the header and the answer. It belongs to the answer, as in the turns that
    the model was trained on.
    """
    texts = [prompt.answer(label) for label in range(len(prompt.task.labels))]
    if not prompt.chat:
        return texts
    asked = prompt.messages(dict.fromkeys(prompt.task.fields, "x"))
    answered = _apply_template(tokenizer, [*asked, {"role": "assistant", "content": texts[0]}])
    gap, label, _ = answered.removeprefix(chat_text(tokenizer, asked)).partition(texts[0])
    return [gap + text for text in texts] if label and not gap.strip() else texts


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
    longest = max(len(tokenizer(answer).input_ids) for answer in answer_texts(tokenizer, prompt))
    room = prompt.max_length - longest - 2
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
        room = max(map(len, label_tokens(loaded, prompt))) + SPARE_TOKENS
        if len(prompts[longest]) + room > limit:
            raise CourseError(
                f"The prompt of row {rows[longest].get('row', longest)} has {len(prompts[longest]):,} tokens, and its"
                f" answer up to {room}; the model takes {limit:,}. Use fewer examples (--shots)."
            )
    return prompts, cut


def label_tokens(loaded: LoadedModel, prompt: Prompt) -> list[list[int]]:
    """Return the tokens of each label as they follow the prompt, in prediction and in training.

    Raises CourseError for a label that the tokenizer cannot write, and if it merges the end of the prompt with the
    beginning of a label.
    """
    tokenizer = loaded.tokenizer
    text = render(tokenizer, prompt, dict.fromkeys(prompt.task.fields, "x"))
    texts = [text, *(text + answer for answer in answer_texts(tokenizer, prompt))]
    start, *answered = encode_text(tokenizer, prompt, texts)
    if any(tokens[: len(start)] != start for tokens in answered):
        if all(tokens[-1:] == [tokenizer.eos_token_id] for tokens in (start, *answered)):
            raise CourseError(
                "The tokenizer ends every text with an end-of-text token, so no answer can follow a prompt. Set"
                " add_eos_token to false in tokenizer_config.json, in the model's folder."
            )
        raise CourseError(
            f"The tokenizer merges the end of the prompt with the beginning of a label of task {prompt.task.name!r}."
            " Begin its label words with a letter or a digit."
        )
    words = [tokens[len(start) :] for tokens in answered]
    for label, tokens in zip(prompt.task.labels, words, strict=True):
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        if identity(text) != identity(label):
            raise CourseError(
                f"The model's tokenizer cannot write the label {label!r} of task {prompt.task.name!r}, and"
                f" turns it into {text.strip()!r}. Use a label word in characters that the model knows."
            )
    return words
