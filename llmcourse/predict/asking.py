"""Rows + prompt + model -> predictions: the model generates a text, or scores the labels.

What the prompts have in common is computed once: see `engine`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.models import LoadedModel, put_adapter
from llmcourse.models.adapters import Folder
from llmcourse.predict import engine
from llmcourse.predict.encoding import SPARE_TOKENS, encode, encode_and_cut, label_tokens
from llmcourse.predict.engine import Batch
from llmcourse.predict.journal import Journal
from llmcourse.predict.labels import label_choices
from llmcourse.predict.predictions import Generated, Scored
from llmcourse.predict.prompts import CONTENT_FREE, Prompt, parse_answer

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]
"""Called with the number of rows done and of all rows."""

Way = Literal["generated", "scored", "calibrated"]
"""How an answer is taken: generated freely, chosen by the labels' probabilities, or chosen and calibrated."""

CHECKED_ROWS = 4
"""How many rows `check_adapter` looks at."""


def generate(
    loaded: LoadedModel,
    prompt: Prompt,
    rows: Sequence[Mapping],
    progress: Progress | None = None,
    journal: Journal | None = None,
) -> Generated:
    """Let the model write freely (greedy, a few tokens more than the longest label) and read its answer.

    Rows that the journal already answers are not asked again; new answers are added to it batch by batch.
    Raises CourseError for a row whose text does not fit the prompt, naming the row, and if numbers overflow.
    """
    journal = journal or Journal()
    cut = fill_journal(loaded, prompt, rows, "generated", journal, progress=progress)
    texts = [journal.answers[index] for index in range(len(rows))]
    return Generated([parse_answer(text, prompt.task) for text in texts], journal.seconds, texts, cut_rows=cut)


def score(
    loaded: LoadedModel,
    prompt: Prompt,
    rows: Sequence[Mapping],
    calibrate: bool = False,
    progress: Progress | None = None,
    journal: Journal | None = None,
) -> Scored:
    """Compute the log-probability of each label and choose the largest, so every answer is valid.

    The probabilities are those of a model that may answer with a label only. Where labels differ, the model chooses
    between the tokens that continue some label; a token that only one label can continue with costs nothing. A sum of
    log-probabilities would punish " Not Sarcasm" (4 tokens in SmolLM2) for being longer than " Sarcasm" (3), and their
    mean would favour it.

    `calibrate` subtracts the label log-probabilities of a content-free prompt, averaged over `CONTENT_FREE`: contextual
    calibration (Zhao et al. 2021, arXiv:2102.09690, section 5, with a diagonal matrix and no bias). The journal keeps
    the log-probabilities before calibration. Raises CourseError as `generate` does.
    """
    way: Way = "calibrated" if calibrate else "scored"
    journal = journal or Journal()
    cut = fill_journal(loaded, prompt, rows, way, journal, progress=progress)
    logprobs = [journal.answers[index] for index in range(len(rows_to_ask(prompt, rows, way)))]
    bias = None
    if calibrate:
        content_free, logprobs = logprobs[: len(CONTENT_FREE)], logprobs[len(CONTENT_FREE) :]
        bias = [
            math.log(sum(math.exp(row[label]) for row in content_free) / len(content_free))
            for label in range(len(prompt.task.labels))
        ]
        logprobs = [_normalise([a - b for a, b in zip(row, bias, strict=True)]) for row in logprobs]
    labels = [max(range(len(row)), key=row.__getitem__) for row in logprobs]
    return Scored(labels, journal.seconds, logprobs, bias, cut_rows=cut)


def rows_to_ask(prompt: Prompt, rows: Sequence[Mapping], way: Way) -> list[Mapping]:
    """Return the rows as a journal numbers them. Calibration asks the content-free rows too, before the others."""
    return [*(prompt.content_free_rows() if way == "calibrated" else ()), *rows]


def fill_journal(
    loaded: LoadedModel,
    prompt: Prompt,
    rows: Sequence[Mapping],
    way: Way,
    journal: Journal,
    indices: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> int:
    """Ask the rows whose answers the journal does not have, and add their answers to it batch by batch.

    `indices` limits this to some of `rows_to_ask(prompt, rows, way)`. An answer is a text if the way is "generated",
    otherwise the label log-probabilities before calibration. `progress` counts the journal's answers and all rows.
    Returns how many of all `rows` are cut to the prompt's max_length. Raises CourseError for a row that does not fit
    the prompt; the message names the row.
    """
    import torch

    content_free = len(rows_to_ask(prompt, (), way))
    rows = rows_to_ask(prompt, rows, way)
    labels = label_tokens(loaded, prompt)
    new_tokens = max(map(len, labels)) + SPARE_TOKENS
    answer = _text_writer(loaded, labels, new_tokens) if way == "generated" else _label_scorer(loaded, labels)
    clock = time.perf_counter()
    prompts, cut = encode_and_cut(loaded, prompt, rows)
    indices = range(len(rows)) if indices is None else indices
    missing = [index for index in indices if index not in journal.answers]
    if progress and journal.answers:
        progress(len(journal.answers), len(rows))
    with torch.inference_mode():
        for batch in engine.batches(loaded, prompts, missing, new_tokens):
            answers = dict(zip(batch.rows, answer(batch), strict=True))
            clock, before = time.perf_counter(), clock
            journal.add(answers, clock - before)
            if progress:
                progress(len(journal.answers), len(rows))
    return sum(index >= content_free for index in cut)


def _text_writer(loaded: LoadedModel, labels: list[list[int]], new_tokens: int) -> Callable[[Batch], Sequence]:
    """Return a function that generates one text for each row of a batch. `labels` are the labels' tokens."""
    return lambda batch: engine.write(loaded, batch, new_tokens, likely=labels)


def _label_scorer(loaded: LoadedModel, labels: list[list[int]]) -> Callable[[Batch], Sequence]:
    """Return a function that computes the label log-probabilities of a batch, (rows, labels)."""
    import torch

    choices = label_choices(labels)

    def score_labels(batch: Batch) -> list[list[float]]:
        first = engine.next_logits(loaded, batch)
        total = torch.zeros(len(batch.rows), len(labels), dtype=torch.float64)
        for path, choice in choices.items():
            # each path continues from the rows' own keys and values, which stay as they are
            logits = engine.next_logits(loaded, engine.extend_batch(loaded, batch, path)) if path else first
            total += choice.logprobs(logits.double().log_softmax(-1).cpu())
        return total.tolist()

    return score_labels


def before_and_after(
    loaded: LoadedModel, task: Task, adapter: Folder, rows: Sequence[Mapping], check: bool = True
) -> tuple[Scored, Scored]:
    """Score rows with the base model (zero-shot) and with a saved adapter (the prompt that it was trained on).

    The adapter's prompt is cut where training would have cut it. The base model reads the whole row.
    Raises CourseError if the adapter does not fit the model, or, with `check`, changes nothing.
    """
    card = put_adapter(loaded, adapter)
    trained = Prompt.from_card(card, task)
    try:
        if check:
            check_adapter(loaded, trained, rows)
        after = score(loaded, trained, rows)
        with loaded.without_adapter():
            before = score(loaded, Prompt(task), rows)
    finally:
        loaded.drop_adapter()
    return before, after


def check_adapter(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> None:
    """Raise CourseError unless the adapter on the model changes its logits for these rows, and gives numbers.

    An adapter that is switched off, merged away or zero would silently leave the base model's answers. Numbers can
    overflow for a long row and not for a short one, so up to `CHECKED_ROWS` rows of different lengths are looked at,
    from the shortest to the longest.
    """
    import torch

    if not rows:
        return
    prompts = encode(loaded, prompt, _of_different_lengths(prompt, rows))

    def logits() -> list[torch.Tensor]:
        rows = range(len(prompts))
        return [engine.next_logits(loaded, batch) for batch in engine.batches(loaded, prompts, rows, new_tokens=0)]

    with torch.inference_mode():
        after = logits()
        with loaded.without_adapter():
            before = logits()
    if any(not torch.equal(*pair) for pair in zip(after, before, strict=True)):
        return
    raise CourseError(
        "The adapter changes nothing, because it is switched off, merged or zero. Its answers would be the base"
        " model's. Load it again with models.put_adapter, or train it again."
    )


def _of_different_lengths(prompt: Prompt, rows: Sequence[Mapping]) -> list[Mapping]:
    """Return the shortest row, the longest, and some between them: up to `CHECKED_ROWS`."""
    order = sorted(rows, key=lambda row: len(prompt.row(row)))
    last, gaps = len(order) - 1, CHECKED_ROWS - 1
    return [order[place] for place in sorted({last * part // gaps for part in range(CHECKED_ROWS)})]


def _normalise(logs: Sequence[float]) -> list[float]:
    """Return log-probabilities shifted so that the probabilities add up to 1."""
    top = max(logs)
    total = top + math.log(sum(math.exp(value - top) for value in logs))
    return [value - total for value in logs]
