"""Measure what a prompt's design changes, for notebook 02: `python benchmarks/prompting.py`.

The embedded model labels the 300 sentiment test rows with a reference prompt, and with prompts that differ from it in
one thing. Each prompt is read by label scoring, with and without contextual calibration (Zhao et al. 2021,
arXiv:2102.09690); some are also read as generated text.

These are explorations. The best of many prompts is better on these rows than it would be on others, because luck helped
to choose it. So the same prompts are also asked on training rows that are not examples. The best prompt there is the
chosen one, and its accuracy on the test rows is fair. Then the same design is tried on sarcasm.

Each prompt is saved in llmcourse/lessons/recorded/prompting.json, so an interrupted run continues. Speed is not
measured here. About 25 minutes on one core.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from measure import groups_of

from llmcourse import data, models
from llmcourse._base import files, hardware
from llmcourse.data.tasks import SARCASM, SENTIMENT, Task
from llmcourse.experiment import metrics
from llmcourse.lessons import recorded
from llmcourse.lessons.prompting import Design, labels_of, split
from llmcourse.models import LoadedModel
from llmcourse.predict import generate, score
from llmcourse.predict.prompts import Prompt

REFERENCE = Design()
DRAWS = 3
"""Draws of examples for each number of them, other than the reference's number."""
CHOICES = 6
"""Draws of as many examples as the reference has."""
ORDERS = 6


def designs() -> Iterator[tuple[str, str, Design]]:
    """Yield the lever, its value and the design of each prompt. All but the talk's differ in one thing."""
    yield "reference", "reference", REFERENCE
    for shots in (0, 1, 2, 6, 12):
        for draw in range(DRAWS if shots else 1):
            yield "number of examples", str(shots), Design(shots=shots, draw=draw)
    for draw in range(1, CHOICES):
        yield "choice of examples", "another draw", Design(draw=draw)
    for order in range(1, ORDERS):
        yield "order of examples", "another order", Design(order=order)
    yield "labels of examples", "wrong", Design(wrong_labels=True)
    for words in ("capitalised", "everyday words", "numbers"):
        yield "label words", words, Design(words=words)
    for instruction in ("none", "long", "talk"):
        yield "instruction", instruction, Design(instruction=instruction)
    for separators in ("blank lines", "none"):
        yield "separators", separators, Design(separators=separators)
    yield "chat format", "one message", Design(chat=True)
    yield "chat format", "turns", Design(chat="turns")
    yield "the talk's prompt", "zero-shot", Design(shots=0, instruction="talk", separators="none")


GENERATED = {"reference", "label words", "chat format", "the talk's prompt", "chosen"}
"""Levers whose prompts are also read as generated text."""
NO_ADVICE = {"labels of examples", "the talk's prompt", "chosen"}
"""Levers that are not combined: wrong labels are a control, and the talk's prompt changes several things."""


def ask(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping], generated: bool) -> dict[str, list[int | None]]:
    """Ask one prompt on all rows, and return the labels for each way of reading."""
    calibrated = score(loaded, prompt, rows, calibrate=True)
    # Calibration subtracted the bias from every row. Adding it again gives the plain scores without asking twice.
    raw = [[p + b for p, b in zip(row, calibrated.bias, strict=True)] for row in calibrated.logprobs]
    answers = {"scored": [max(range(len(row)), key=row.__getitem__) for row in raw], "calibrated": calibrated.labels}
    return {"generated": generate(loaded, prompt, rows).labels, **answers} if generated else answers


def measured(task: Task, rows: Sequence[Mapping], labels: Sequence[int | None]) -> dict[str, Any]:
    """Return what the results file saves of answers. `labels` becomes a text: a digit for each row, "x" if invalid."""
    found = metrics.evaluate([row["label"] for row in rows], labels, task.labels, groups_of(task, rows))
    counts = Counter(labels)
    return {
        "accuracy": found.accuracy,
        "accuracy_ci95": [round(bound, 4) for bound in found.accuracy_ci95],
        "answers": {word: counts[label] for label, word in enumerate(task.labels)},
        "invalid": found.invalid,
        "labels": "".join("x" if label is None else str(label) for label in labels),
    }


def combine(points: Sequence[Mapping[str, Any]], way: str) -> Design:
    """Return the design that combines the best change of each lever, of those that beat the reference when read so.

    Only choosing rows count. Levers of the examples compete with each other, because an order belongs to a draw.
    """
    points = [point for point in points if (point["on"], point["way"]) == ("choosing", way)]
    reference = next(point for point in points if point["lever"] == "reference")
    together = {"choice of examples": "number of examples", "order of examples": "number of examples"}
    best: dict[str, Mapping[str, Any]] = {}
    for point in points:
        lever = together.get(point["lever"], point["lever"])
        if lever not in NO_ADVICE and point["accuracy"] > best.get(lever, reference)["accuracy"]:
            best[lever] = point
    changes: dict[str, Any] = {}
    for point in best.values():
        changes |= {name: value for name, value in point["design"].items() if value != asdict(REFERENCE)[name]}
    return replace(REFERENCE, **changes)


def best_on(points: Sequence[Mapping[str, Any]], on: str) -> Mapping[str, Any]:
    """Return the most accurate point on these rows, the first of equal ones."""
    return max((point for point in points if point["on"] == on), key=lambda point: point["accuracy"])


def compared(points: Sequence[Mapping[str, Any]], gold: Mapping[str, str], groups: Sequence[str]) -> list[dict]:
    """Return the points, each with the p of a paired test against the scored reference on the same rows."""
    references = {p["on"]: p for p in points if p["lever"] == "reference" and p["way"] == "scored"}
    return [{**point, "p": p_of(point, references[point["on"]], gold, groups)} for point in points]


def p_of(a: Mapping[str, Any], b: Mapping[str, Any], gold: Mapping[str, str], groups: Sequence[str]) -> float:
    """Return the p of a paired test of two points on the same rows. `groups` are those of the sarcasm rows."""
    truth = [int(label) for label in gold[a["on"]]]
    return metrics.paired_test(truth, labels_of(a), labels_of(b), groups if a["on"] == "sarcasm" else None)


def sweep(
    loaded: LoadedModel,
    source: data.Rows,
    other: data.Rows,
    out: Path,
    wanted: Sequence[tuple[str, str, Design]] = tuple(designs()),
    say=print,
) -> dict[str, Any]:
    """Measure what is missing in `out`, save it after each prompt, and return all of it.

    `source` has the sentiment rows, `other` the sarcasm rows. A file about other rows or another model is replaced.
    """
    tasks, rows, examples = {"test": source.task, "choosing": source.task, "sarcasm": other.task}, {}, {}
    rows["test"], rows["sarcasm"] = data.in_order(source.task, source.test), data.in_order(other.task, other.test)
    examples["test"], rows["choosing"] = split(source.task, source.train)
    examples["choosing"], examples["sarcasm"] = examples["test"], split(other.task, other.train)[0]
    gold = {on: "".join(str(row["label"]) for row in part) for on, part in rows.items()}
    groups = groups_of(other.task, rows["sarcasm"])
    ids = {on: data.rows_id(tasks[on], part) for on, part in rows.items()}
    about = {"model": loaded.base, "rows": len(gold["test"]), "ids": ids, "gold": gold}
    kept = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    points = kept["points"] if all(kept.get(key) == value for key, value in about.items()) else []

    def keep(**more: Any) -> dict[str, Any]:
        machine = {"machine": hardware.detect().as_dict(), "versions": hardware.versions()}
        whole = {"date": hardware.now(), **about, **machine, "points": points, **more}
        files.write_json(out, whole)
        return whole

    def measure(on: str, lever: str, value: str, design: Design) -> None:
        about = {"on": on, "lever": lever, "value": value, "design": asdict(design)}
        if any({key: point[key] for key in about} == about for point in points):
            return
        prompt = design.prompt(tasks[on], examples[on])
        for way, labels in ask(loaded, prompt, rows[on], lever in GENERATED and on != "choosing").items():
            points.append({**about, "way": way, **measured(tasks[on], rows[on], labels)})
            say(f"{on}, {lever} {value}, {way}: {points[-1]['accuracy']:.1%}", flush=True)
        keep()

    for on in ("choosing", "test"):
        for lever, value, design in wanted:
            measure(on, lever, value, design)
    for way in ("scored", "calibrated"):
        measure("choosing", "chosen", f"combined, {way}", combine(points, way))
    best = best_on(points, "choosing")
    chosen = Design(**best["design"])
    for on in ("test", "sarcasm"):
        measure(on, "chosen", "chosen", chosen)
    measure("sarcasm", "reference", "reference", REFERENCE)
    points = compared(points, gold, groups)
    on_test = [point for point in points if point["on"] == "test"]
    low, high = min(on_test, key=lambda point: point["accuracy"]), best_on(points, "test")
    return keep(
        chosen={"design": asdict(chosen), "way": best["way"], "was": f"{best['lever']}: {best['value']}"},
        best_against_worst=p_of(high, low, gold, groups),
    )


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=recorded.path("prompting"), help="the results file")
    options = parser.parse_args(arguments)
    source, other = (data.load(task, "bundled") for task in (SENTIMENT, SARCASM))
    sweep(models.load(), source, other, options.out)


if __name__ == "__main__":
    main()
