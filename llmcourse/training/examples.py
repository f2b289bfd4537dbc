"""Rows as TRL trains on them: a prompt, and the label as its completion."""

from collections.abc import Mapping, Sequence

from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.data.texts import MAX_CHARACTERS
from llmcourse.models.loading import LoadedModel
from llmcourse.predict import encode_text, render
from llmcourse.predict.prompts import Prompt
from llmcourse.training.configs import training_prompt
from llmcourse.training.recipes import Recipe


def training_rows(
    loaded: LoadedModel, task: Task, rows: Sequence[Mapping], recipe: Recipe
) -> tuple[list[dict[str, str]], int]:
    """Return prompt/completion rows for TRL, and how many were cut to the recipe's max_length.

    The completion starts with the space that separates it from the prompt, so that the two meet at a token boundary.
    TRL adds the end-of-text token. Raises CourseError when the prompt without any text is already too long.
    """
    prompt = training_prompt(task, recipe)
    longest_answer = max(len(loaded.tokenizer(prompt.answer(label)).input_ids) for label in range(len(task.labels))) + 2
    room = recipe.max_length - longest_answer
    examples, cut = [], 0
    for row in rows:
        text = render(loaded.tokenizer, prompt, row)
        if len(encode_text(loaded.tokenizer, prompt, [text])[0]) > room:
            text, cut = _shortened(loaded, prompt, row, room), cut + 1
        examples.append({"prompt": text, "completion": prompt.answer(row["label"])})
    return examples, cut


def _shortened(loaded: LoadedModel, prompt: Prompt, row: Mapping, room: int) -> str:
    """Return the prompt with each field cut to the largest common number of characters that fits `room` tokens."""
    low, high, best = 0, MAX_CHARACTERS, None
    while low <= high:
        middle = (low + high) // 2
        short = {column: str(row[column])[:middle] for column in prompt.task.fields}
        text = render(loaded.tokenizer, prompt, short)
        if len(encode_text(loaded.tokenizer, prompt, [text])[0]) <= room:
            best, low = text, middle + 1
        else:
            high = middle - 1
    if best is None:
        raise CourseError(
            f"The training prompt alone is longer than max_length, which leaves {room} tokens for it. Raise max_length."
        )
    return best


def token_lengths(loaded: LoadedModel, examples: Sequence[Mapping[str, str]]) -> list[int]:
    """Return each example's tokens, the end-of-text token included."""
    return [len(loaded.tokenizer(e["prompt"] + e["completion"]).input_ids) + 1 for e in examples]
