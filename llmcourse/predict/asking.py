"""Rows + prompt + model -> predictions: free generation, or the log-probability of each label.

What the prompts have in common is computed once: see `engine`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.models import LoadedModel, put_adapter
from llmcourse.predict import engine
from llmcourse.predict.engine import Batch
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import CONTENT_FREE, Prompt, parse_answer

SPARE_TOKENS = 4
"""How many tokens more than the longest label a generated answer may have."""

Progress = Callable[[int, int], None]
"""Called with the number of rows done and of all rows."""

Way = Literal["generated", "scored", "calibrated"]
"""How an answer is taken: written freely, chosen among the labels, or chosen and calibrated."""


@dataclass
class Predictions:
    """One answer for each row, in the order of the rows."""

    labels: Sequence[int | None]
    """Predicted labels. None is an invalid answer."""
    seconds: float
    """Wall time for all rows, the shared prefix included."""


@dataclass
class Generated(Predictions):
    """Answers that the model wrote freely."""

    texts: list[str]
    """What was written, one text for each row."""


@dataclass
class Scored(Predictions):
    """Answers that the model chose among the labels. All of them are valid."""

    labels: Sequence[int]
    logprobs: list[list[float]]
    """Log-probability of each label, shape (rows, labels). A row's probabilities add up to 1."""
    bias: list[float] | None = None
    """What calibration subtracted: the label log-probabilities of the content-free prompt. None without calibration."""

    def probability(self, row: int) -> float:
        """Return the probability of the label that was chosen for a row."""
        return math.exp(self.logprobs[row][self.labels[row]])


def generate(
    loaded: LoadedModel,
    prompt: Prompt,
    rows: Sequence[Mapping],
    progress: Progress | None = None,
    journal: Journal | None = None,
) -> Generated:
    """Let the model write freely (greedy, a few tokens more than the longest label) and read its answer.

    Rows that the journal already answers are not asked again; new answers go into it batch by batch.
    Raises CourseError for a row whose text does not fit the prompt; the message names the row.
    """
    journal = journal or Journal()
    fill_journal(loaded, prompt, rows, "generated", journal, progress=progress)
    texts = [journal.answers[index] for index in range(len(rows))]
    return Generated([parse_answer(text, prompt.task) for text in texts], journal.seconds, texts)


def score(
    loaded: LoadedModel,
    prompt: Prompt,
    rows: Sequence[Mapping],
    calibrate: bool = False,
    progress: Progress | None = None,
    journal: Journal | None = None,
) -> Scored:
    """Ask for the log-probability of each label and take the largest: every answer is valid.

    The probability is that of a model which may say nothing but a label. Wherever the labels part ways, the choice is between the
    tokens that go on to some label; a token that only one label can continue with costs nothing. So " Not Sarcasm" (4
    tokens in SmolLM2) is not punished for being longer than " Sarcasm" (3), as it would be by a sum of log-probabilities,
    nor favoured, as by their mean.

    `calibrate` takes off the label log-probabilities of a content-free prompt, averaged over `CONTENT_FREE`: contextual
    calibration (Zhao et al. 2021, arXiv:2102.09690, section 5, with a diagonal matrix and no bias). The journal keeps what the
    model said before that, as in `generate`.
    """
    way: Way = "calibrated" if calibrate else "scored"
    journal = journal or Journal()
    fill_journal(loaded, prompt, rows, way, journal, progress=progress)
    logprobs = [journal.answers[index] for index in range(len(rows_to_ask(prompt, rows, way)))]
    bias = None
    if calibrate:
        content_free, logprobs = logprobs[: len(CONTENT_FREE)], logprobs[len(CONTENT_FREE) :]
        bias = [
            math.log(sum(math.exp(row[label]) for row in content_free) / len(content_free))
            for label in range(len(prompt.task.labels))
        ]
        logprobs = [_normalised([a - b for a, b in zip(row, bias, strict=True)]) for row in logprobs]
    labels = [max(range(len(row)), key=row.__getitem__) for row in logprobs]
    return Scored(labels, journal.seconds, logprobs, bias)


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
) -> None:
    """Ask the rows whose answers the journal does not have, and add their answers to it batch by batch.

    `indices` limits this to some of `rows_to_ask(prompt, rows, way)`. An answer is a text when the way is "generated",
    otherwise the label log-probabilities before calibration. `progress` counts answers of the journal and all rows.
    Raises CourseError for a row that does not fit the prompt; the message names the row.
    """
    import torch

    rows = rows_to_ask(prompt, rows, way)
    answer = _text_writer(loaded, prompt) if way == "generated" else _label_scorer(loaded, prompt)
    clock = time.perf_counter()
    prompts = encode(loaded, prompt, rows)
    indices = range(len(rows)) if indices is None else indices
    missing = [index for index in indices if index not in journal.answers]
    if progress and journal.answers:
        progress(len(journal.answers), len(rows))
    with torch.inference_mode():
        for batch in engine.batches(loaded, prompts, missing):
            answers = dict(zip(batch.rows, answer(batch), strict=True))
            clock, before = time.perf_counter(), clock
            journal.add(answers, clock - before)
            if progress:
                progress(len(journal.answers), len(rows))


def _text_writer(loaded: LoadedModel, prompt: Prompt) -> Callable[[Batch], list[str]]:
    """Return the function that writes one text for each row of a batch."""
    labels = label_tokens(loaded, prompt)
    new_tokens = max(map(len, labels)) + SPARE_TOKENS
    return lambda batch: engine.write(loaded, batch, new_tokens, likely=labels)


def _label_scorer(loaded: LoadedModel, prompt: Prompt) -> Callable[[Batch], list[list[float]]]:
    """Return the function that computes the label log-probabilities of a batch: (rows, labels)."""
    import torch

    choices_of_path = label_choices(label_tokens(loaded, prompt))

    def score_labels(batch: Batch) -> list[list[float]]:
        first = engine.next_logits(loaded, batch)
        total = torch.zeros(len(batch.rows), len(prompt.task.labels), dtype=torch.float64)
        for path, choices in choices_of_path.items():
            # each path continues from the rows' own keys and values, which stay as they are
            logits = engine.next_logits(loaded, engine.followed_by(loaded, batch, path)) if path else first
            total += choices.logprobs(logits.double().log_softmax(-1).cpu())
        if bool(total.isnan().any()):
            raise CourseError(_OVERFLOW)
        return total.tolist()

    return score_labels


def before_and_after(
    loaded: LoadedModel, task: Task, adapter: str | Path, rows: Sequence[Mapping]
) -> tuple[Scored, Scored]:
    """Rows scored by the base model (zero-shot) and with a saved adapter on it (the prompt that it was trained on)."""
    card = put_adapter(loaded, adapter)
    try:
        check_adapter(loaded, Prompt(task, **card["prompt"]), rows[:1])
        after = score(loaded, Prompt(task, **card["prompt"]), rows)
        with loaded.without_adapter():
            before = score(loaded, Prompt(task), rows)
    finally:
        loaded.drop_adapter()
    return before, after


def check_adapter(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> None:
    """Raise CourseError unless the adapter on the model changes what it says of these rows: one that is switched off, merged away or
    zero leaves the base model's answers, and nobody would see it."""
    import torch

    if not rows:
        return
    prompts = encode(loaded, prompt, rows)

    def said() -> list:
        return [engine.next_logits(loaded, batch) for batch in engine.batches(loaded, prompts, range(len(prompts)))]

    with torch.inference_mode():
        after = said()
        with loaded.without_adapter():
            before = said()
    if any(bool(one.isnan().any()) for one in after):
        raise CourseError(_OVERFLOW)
    if any(not torch.equal(*pair) for pair in zip(after, before, strict=True)):
        return
    raise CourseError(
        "The adapter changes nothing: it is switched off, or zero. Its answers would be the base model's."
    )


_OVERFLOW = "The model's numbers overflow: it gives no probabilities. Are the adapter's weights too large, or is float16 too narrow?"


@dataclass
class LabelChoice:
    """A point at which labels part ways: which label goes on with which token, and which label ends here."""

    next_token: list[int | None]
    """For each label the token it goes on with; None for labels that do not pass here, and for one that ends here."""
    ends: int | None = None
    """The label that is complete here while a longer one goes on."""

    def logprobs(self, logprobs):
        """What this choice adds to each label's log-probability. Shapes: (rows, vocabulary) -> (rows, labels), float64."""
        import torch

        tokens = sorted({token for token in self.next_token if token is not None})
        chosen = logprobs[:, tokens]
        out = torch.zeros(len(logprobs), len(self.next_token), dtype=torch.float64)
        if self.ends is None:
            chosen = chosen - chosen.logsumexp(dim=-1, keepdim=True)
        else:
            # the label that is complete gets whatever does not continue it into a longer one
            out[:, self.ends] = torch.log1p(-chosen.exp().sum(dim=-1).clamp(max=1 - 1e-12))
        for label, token in enumerate(self.next_token):
            if token is not None:
                out[:, label] = chosen[:, tokens.index(token)]
        return out


def label_choices(label_tokens: Sequence[Sequence[int]]) -> dict[tuple[int, ...], LabelChoice]:
    """The label words as a tree of tokens: each path at which there is something to choose, with the choice.

    Labels whose first tokens differ need one choice only, at the empty path: one forward pass scores them all.
    """
    words = [tuple(tokens) for tokens in label_tokens]
    choices = {}
    for path in sorted({word[:length] for word in words for length in range(len(word) + 1)}, key=len):
        inside = [word[: len(path)] == path for word in words]
        following = [
            word[len(path)] if here and len(word) > len(path) else None
            for word, here in zip(words, inside, strict=True)
        ]
        ends = next((label for label, word in enumerate(words) if word == path), None)
        if len({token for token in following if token is not None}) + (ends is not None) > 1:
            choices[path] = LabelChoice(following, ends)
    return choices


def _normalised(logs: Sequence[float]) -> list[float]:
    top = max(logs)
    total = top + math.log(sum(math.exp(value - top) for value in logs))
    return [value - total for value in logs]


def render(tokenizer, prompt: Prompt, row: Mapping) -> str:
    """A row's whole prompt, in the model's chat format if the prompt asks for it.

    Raises CourseError for a chat prompt on a model that has no chat template (a base model such as Mistral-7B-v0.1).
    """
    text = prompt.text(row)
    if not prompt.chat:
        return text
    if not tokenizer.chat_template:
        raise CourseError("This model has no chat template: it is a base model. Use a prompt with chat=False.")
    message = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)


def encode_text(tokenizer, prompt: Prompt, texts: list[str]) -> list[list[int]]:
    """Token ids of rendered prompts. A chat template writes its own first token, so none is added to it (no two BOS)."""
    return tokenizer(texts, add_special_tokens=not prompt.chat).input_ids


def encode(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> list[list[int]]:
    """Token ids of each row's whole prompt.

    Raises CourseError for a row that does not fit the prompt, or the model; the message names the row.
    """
    texts = []
    for number, row in enumerate(rows):
        try:
            texts.append(render(loaded.tokenizer, prompt, row))
        except CourseError as error:
            raise CourseError(f"Row {row.get('row', number)}: {error}") from None
    ids = encode_text(loaded.tokenizer, prompt, texts) if texts else []
    bos = loaded.tokenizer.bos_token_id
    if bos is not None and any(one[:2] == [bos, bos] for one in ids):
        raise CourseError("A prompt begins with two beginning-of-text tokens; the model knows one.")
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    longest = max(range(len(ids)), key=lambda index: len(ids[index]), default=None)
    if limit and ids and len(ids[longest]) + 16 > limit:
        raise CourseError(
            f"The prompt of row {rows[longest].get('row', longest)} has {len(ids[longest]):,} tokens; the model takes {limit:,}. Use fewer shots."
        )
    return ids


def label_tokens(loaded: LoadedModel, prompt: Prompt) -> list[list[int]]:
    """Each label's tokens as they follow the prompt.

    Raises CourseError where the tokenizer joins the prompt's end with a label's beginning.
    """
    text = render(loaded.tokenizer, prompt, dict.fromkeys(prompt.task.fields, "x"))
    texts = [text, *(text + prompt.answer(label) for label in range(len(prompt.task.labels)))]
    start, *whole = encode_text(loaded.tokenizer, prompt, texts)
    if any(tokens[: len(start)] != start for tokens in whole):
        raise CourseError(
            "The tokenizer joins the end of the prompt with the beginning of a label. End the task's answer_name with a letter."
        )
    return [tokens[len(start) :] for tokens in whole]
