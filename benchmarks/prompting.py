"""Measure how much a few-shot prompt owes to luck, for notebook 02: `python benchmarks/prompting.py`.

The embedded model labels test rows chosen by a seed, with 0 to 16 examples in the prompt: several draws for each number
of examples, and twelve orders for one draw of four. Each prompt is asked once and read in two ways: the likelier label
("scored"), and the same after contextual calibration ("calibrated", Zhao et al. 2021, arXiv:2102.09690). The spread
over draws and orders is the question of Lu et al. 2022 (arXiv:2104.08786).

Each prompt is saved in the package, llmcourse/lessons/recorded/prompting.json, so an interrupted run continues. Speed
is not measured here. About 12 minutes on one core.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from llmcourse import data, models
from llmcourse._base import files, hardware
from llmcourse.data.tasks import SARCASM, Task
from llmcourse.experiment import metrics
from llmcourse.lessons import recorded
from llmcourse.models import LoadedModel
from llmcourse.predict import score
from llmcourse.predict.prompts import Prompt, few_shots

SHOTS = (0, 1, 2, 4, 8, 16)
DRAWS = 5
ORDERED = 4
"""Number of examples in the draw whose order is changed."""
ORDERS = 12
"""Every second of the 24 orders of four shots."""
ROWS = 100
SEED = 0
"""Chooses the test rows. The draws of examples have seeds of their own: 0, 1, ..."""


def frozen(task: Task, test: Sequence[Mapping], n: int = ROWS) -> list[dict]:
    """Return `n` test rows, equally many of each label, chosen by the seed."""
    return list(few_shots(task, data.in_order(task, test), n, SEED))


def orders(shots: Sequence[Mapping], count: int = ORDERS) -> list[tuple[int, ...]]:
    """Return `count` orders of the examples, evenly spaced among all; the first one is the given order."""
    every = list(permutations(range(len(shots))))
    return every[:: max(1, len(every) // count)][:count]


def ask(loaded: LoadedModel, prompt: Prompt, rows: Sequence[Mapping]) -> list[dict[str, Any]]:
    """Ask one prompt on all rows, and return a result for each way of reading the label probabilities."""
    calibrated = score(loaded, prompt, rows, calibrate=True)
    # Calibration subtracted the bias from every row. Adding it again gives the plain scores without asking twice.
    raw = [[p + b for p, b in zip(row, calibrated.bias, strict=True)] for row in calibrated.logprobs]
    answers = {"scored": [max(range(len(row)), key=row.__getitem__) for row in raw], "calibrated": calibrated.labels}
    return [{"way": way, **measured(prompt.task, rows, labels)} for way, labels in answers.items()]


def measured(task: Task, rows: Sequence[Mapping], labels: Sequence[int | None]) -> dict[str, Any]:
    """Return what the results file saves of answers."""
    score = metrics.evaluate([row["label"] for row in rows], labels, task.labels)
    counts = Counter(labels)
    return {
        "accuracy": score.accuracy,
        "accuracy_ci95": [round(bound, 4) for bound in score.accuracy_ci95],
        "answers": {word: counts[label] for label, word in enumerate(task.labels)},
        "commoner": max(counts.values()) / len(rows),
        "invalid": score.invalid,
    }


def summary(points: Sequence[Mapping]) -> list[dict[str, Any]]:
    """Return minimum, median and maximum accuracy of the draws, for each number of examples and way."""
    groups: dict[tuple[int, str], list[float]] = {}
    for point in points:
        groups.setdefault((point["k"], point["way"]), []).append(point["accuracy"])
    return [
        {"k": k, "way": way, "draws": len(all_), "min": min(all_), "median": statistics.median(all_), "max": max(all_)}
        for (k, way), all_ in sorted(groups.items())
    ]


def sweep(
    loaded: LoadedModel, source: data.Rows, out: Path, shots=SHOTS, draws: int = DRAWS, n: int = ROWS, say=print
) -> dict[str, Any]:
    """Measure what is missing in `out`, save it after each prompt, and return all of it.

    A file about other rows or another model is replaced.
    """
    task = source.task
    rows, train = frozen(task, source.test, n), data.in_order(task, source.train)
    about = {"task": task.name, "model": loaded.base, "seed": SEED, "rows": n, "test_id": data.rows_id(task, rows)}
    kept = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    if any(kept.get(key) != value for key, value in about.items()):
        kept = {"points": [], "orders": []}

    def keep() -> dict[str, Any]:
        machine = {"machine": hardware.detect().as_dict(), "versions": hardware.versions()}
        whole = {
            "date": hardware.now(),
            **about,
            **machine,
            "points": kept["points"],
            "summary": summary(kept["points"]),
        }
        whole |= {"ordered": {"k": ORDERED, "draw": 0}, "orders": kept["orders"]}
        files.write_json(out, whole)
        return whole

    # Without examples there is nothing to draw.
    drawings = [(k, draw) for k in shots for draw in range(draws if k else 1)]
    for k, draw in drawings:
        if not any((point["k"], point["draw"]) == (k, draw) for point in kept["points"]):
            prompt = Prompt(task, few_shots(task, train, k, draw))
            kept["points"] += [{"k": k, "draw": draw, **entry} for entry in ask(loaded, prompt, rows)]
            say(*[f"{k} shots, draw {draw}, {e['way']}: {e['accuracy']:.0%}" for e in kept["points"][-2:]], sep="; ")
            keep()
    drawn = few_shots(task, train, ORDERED, 0)
    for order in orders(drawn):
        if not any(point["order"] == list(order) for point in kept["orders"]):
            prompt = Prompt(task, tuple(drawn[place] for place in order))
            words = [task.labels[shot["label"]] for shot in prompt.shots]
            kept["orders"] += [{"order": list(order), "labels": words, **e} for e in ask(loaded, prompt, rows)]
            say(*[f"order {order}, {e['way']}: {e['accuracy']:.0%}" for e in kept["orders"][-2:]], sep="; ")
            keep()
    return keep()


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=recorded.path("prompting"), help="the results file")
    parser.add_argument("--rows", type=int, default=ROWS, help="test rows (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of each number of shots (default: %(default)s)")
    options = parser.parse_args(arguments)
    source = data.load_first(SARCASM, ("bundled",))
    sweep(models.load(), source, options.out, draws=options.draws, n=options.rows)


if __name__ == "__main__":
    main()
