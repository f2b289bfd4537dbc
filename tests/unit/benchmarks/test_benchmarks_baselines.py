"""The script that compares variants of the bag of words: it reads training rows, and its results are current."""

import json
from dataclasses import replace
from pathlib import Path

import baselines as script

from llmcourse import data
from llmcourse.data.tasks import SARCASM, SUPPORT

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "baselines.json"


def test_the_results_are_of_todays_rows_and_the_chosen_variant_is_not_worse_than_words_alone():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for task in (SARCASM, SUPPORT):
        kept = results["tasks"][task.name]
        assert kept["train"] == data.load(task).train_id
        assert set(kept["accuracies"]) == set(script.variants(task.columns))
        means = {name: sum(values) / len(values) for name, values in kept["accuracies"].items()}
        assert means[script.CHOSEN] > means[script.LAST_COLUMN_WORDS]


def test_each_variant_answers_and_the_test_rows_are_not_read():
    source = replace(data.load(SUPPORT, n_train=40), test=None)
    results = script.measure(source, seeds=[0])
    assert results["rows"] == 40
    assert all(0 < accuracy < 1 for values in results["accuracies"].values() for accuracy in values)


def test_variants_differ():
    rows = [{"parent_comment": "a b", "comment": f"{word} c d d"} for word in ("one", "two", "three")]
    features = {}
    for name, model in script.variants(SARCASM.columns).items():
        features[name] = model[0].fit_transform(rows)
    widths = {name: matrix.shape[1] for name, matrix in features.items()}
    assert widths["words of all columns"] + widths["characters of all columns"] == widths[script.CHOSEN]
    assert widths[script.LAST_COLUMN_WORDS] < widths["words of all columns"]
    assert widths["the same, n-grams within words"] != widths[script.CHOSEN]
    counts = features["the same, counts as they are"] - features[script.CHOSEN]
    assert abs(counts).max() > 0.01
