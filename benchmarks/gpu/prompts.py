"""(e) Few-shot prompts: the engine, transformers' pipeline, and one `generate` a row."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from generating import OneByOne, Pipeline, count_same

from gpu.mistral import stand_in
from gpu.setting import T4, Findings, Setting, pretend, synchronise
from llmcourse import data, models, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel
from llmcourse.predict.engine import first_line
from llmcourse.predict.prompts import Prompt, few_shots

SHOTS = 4
BATCH_SIZE = 16
"""Rows at once in the pipeline."""

SAME = 0.95
"""Share of answers that must be the same, where the model is a real one: in float16 a close call may go either way."""


def run(setting: Setting, findings: Findings) -> None:
    """Time all ways, on the embedded model and on a random Mistral-7B."""
    with findings.part("embedded model") as measured, pretend(setting, T4):
        measured.update(compare(setting, models.load()))
        for way, same in measured["same_as_engine"].items():
            findings.check(same >= SAME * measured["rows"], f"{way}: {same} of {measured['rows']} answers are the same")
    with findings.part("Mistral-7B, random, in NF4") as measured, stand_in(setting) as model:
        measured.update(compare(setting, model.loaded))


def compare(setting: Setting, loaded: LoadedModel) -> dict[str, Any]:
    """Return rows a second of each way, and how many answers are those of the engine."""
    corpus = data.load(SARCASM)
    rows = list(corpus.test)[: setting.sizes.prompts]
    prompt = Prompt(SARCASM, few_shots(SARCASM, list(corpus.train), SHOTS if setting.full else 0))
    new_tokens = max(map(len, predict.label_tokens(loaded, prompt))) + predict.SPARE_TOKENS
    pipeline = Pipeline(loaded, prompt, new_tokens)
    pipeline.batch_size = BATCH_SIZE
    ways: dict[str, Callable[[Sequence[Mapping]], Any]] = {
        "engine": lambda rows: [first_line(text) for text in predict.generate(loaded, prompt, rows).texts],
        "engine, scored": lambda rows: predict.score(loaded, prompt, rows).labels,
        "pipeline": pipeline,
        "one generate a row": OneByOne(loaded, prompt, new_tokens),
    }
    speed, answers = {}, {}
    for name, way in ways.items():
        way(rows[:1])  # not measured
        synchronise(setting)
        start = time.perf_counter()
        answers[name] = way(rows)
        synchronise(setting)
        speed[name] = round(len(rows) / (time.perf_counter() - start), 2)
    others = ("pipeline", "one generate a row")
    return {
        "rows": len(rows),
        "rows_per_second": speed,
        "same_as_engine": {name: count_same(answers["engine"], answers[name]) for name in others},
    }
