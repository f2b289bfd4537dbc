"""Rows + prompt + model -> predictions: free generation, or the log-probability of each label.

What the prompts have in common is computed once: see `engine`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmcourse._base import processes
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.models import LoadedModel, put_adapter
from llmcourse.predict import engine
from llmcourse.predict.engine import Batch
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import Prompt, parse_answer

SPARE_TOKENS = 4
"""How many tokens more than the longest label a generated answer may have."""

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""


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
    labels = label_tokens(loaded, prompt)
    new_tokens = max(map(len, labels)) + SPARE_TOKENS

    def write(batch: Batch) -> list[str]:
        return engine.write(loaded, batch, new_tokens, likely=labels)

    texts, seconds = _ask_all(loaded, prompt, rows, write, progress, journal)
    return Generated([parse_answer(text, prompt.task) for text in texts], seconds, texts)


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
    every = [*prompt.content_free_rows(), *rows] if calibrate else list(rows)
    logprobs, seconds = _label_logprobs(loaded, prompt, every, progress, journal)
    bias = None
    if calibrate:
        free = logprobs[: len(every) - len(rows)]
        mean = [sum(math.exp(row[label]) for row in free) / len(free) for label in range(len(prompt.task.labels))]
        bias = [math.log(value) for value in mean]
        logprobs = [_normalised([a - b for a, b in zip(row, bias, strict=True)]) for row in logprobs[len(free) :]]
    labels = [max(range(len(row)), key=row.__getitem__) for row in logprobs]
    return Scored(labels, seconds, logprobs, bias)


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


def _label_logprobs(loaded, prompt, rows, progress, journal) -> tuple[list[list[float]], float]:
    import torch

    nodes = label_choices(label_tokens(loaded, prompt))

    def weigh(batch: Batch) -> list[list[float]]:
        first = engine.next_logits(loaded, batch)
        total = torch.zeros(len(batch.rows), len(prompt.task.labels), dtype=torch.float64)
        for path, choices in nodes.items():
            # every path goes on from the rows' own keys and values, which stay as they are
            logits = engine.next_logits(loaded, engine.followed_by(loaded, batch, path)) if path else first
            total += choices.logprobs(logits.double().log_softmax(-1).cpu())
        if bool(total.isnan().any()):
            raise CourseError(_OVERFLOW)
        return total.tolist()

    return _ask_all(loaded, prompt, rows, weigh, progress, journal)


def _ask_all(loaded, prompt, rows, answer, progress: Progress | None, journal: Journal | None) -> tuple[list, float]:
    """Each row's answer, and the seconds: `answer(batch)` for the rows that the journal does not know.

    Beside other processes each asks a part of them, and in the end all know all answers; the seconds are those of the slowest.
    """
    import torch

    journal = journal or Journal()
    clock = time.perf_counter()
    prompts = encode(loaded, prompt, rows)
    unknown = [index for index in range(len(rows)) if index not in journal.answers]
    known, mine = len(rows) - len(unknown), share(prompts, unknown, processes.count(), processes.rank())
    done = 0
    if progress and known:
        progress(known, len(rows))
    kept = lambda: f"The answers so far are kept (at least {known + done:,} of {len(rows):,})."  # noqa: E731
    with processes.keeping(kept), torch.inference_mode():
        for batch in engine.batches(loaded, prompts, mine):
            answers = dict(zip(batch.rows, answer(batch), strict=True))
            clock, before = time.perf_counter(), clock
            journal.add(answers, clock - before)
            done += len(answers)
            if progress:
                # the other processes are taken to be as far as this one
                progress(known + done * len(unknown) // len(mine), len(rows))
        parts = processes.gather(({index: journal.answers[index] for index in mine}, journal.seconds))
    answers = journal.answers | {index: one for part, _ in parts for index, one in part.items()}
    return [answers[index] for index in range(len(rows))], max(seconds for _, seconds in parts)


def share(prompts: Sequence[Sequence[int]], rows: Sequence[int], parts: int, part: int) -> list[int]:
    """The part of `rows` that one of several processes asks, about equal in tokens; the parts are disjoint, and all of `rows` together.

    Rows with the same beginning stay together, so that it is computed in one process.
    """
    if parts == 1:
        return list(rows)
    order = sorted(rows, key=lambda row: (prompts[row], row))
    whole, before, mine = sum(len(prompts[row]) for row in order), 0, []
    for row in order:
        if before * parts // whole == part:
            mine.append(row)
        before += len(prompts[row])
    return mine


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
