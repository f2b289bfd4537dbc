"""Choose the bag of words that an LLM has to beat: `python benchmarks/baselines.py` compares variants in a minute.

Cross-validation on training rows only, in five folds that keep a group on one side, with three seeds. A seed decides
the folds. No test row is read.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import RESULTS, about, groups_of

from llmcourse import data
from llmcourse._base import files
from llmcourse.data.tasks import SARCASM, SUPPORT
from llmcourse.experiment import baselines

SEEDS = (0, 1, 2)
LAST_COLUMN_WORDS = "words of the last column"
CHOSEN = "words and characters of all columns"


def variants(columns: Sequence[str]) -> dict[str, Any]:
    """Return scikit-learn models, by name. The chosen one is what `Experiment.bag_of_words` fits."""

    def changed(**params: Any) -> Any:
        return baselines.bag_of_words_model(columns).set_params(**params)

    vectorizers = [f"featureunion__tfidfvectorizer-{number + 1}" for number in range(2 * len(columns))]
    words, characters = vectorizers[::2], vectorizers[1::2]
    return {
        LAST_COLUMN_WORDS: baselines.bag_of_words_model(columns[-1:]).set_params(
            **{
                f"{words[0]}__token_pattern": r"(?u)\b\w\w+\b",
                f"{words[0]}__sublinear_tf": False,
                characters[0]: "drop",
            }
        ),
        "words of all columns": changed(**dict.fromkeys(characters, "drop")),
        "characters of all columns": changed(**dict.fromkeys(words, "drop")),
        CHOSEN: changed(),
        "the same, n-grams within words": changed(
            **dict.fromkeys([f"{name}__analyzer" for name in characters], "char_wb")
        ),
        "the same, counts as they are": changed(
            **dict.fromkeys([f"{name}__sublinear_tf" for name in vectorizers], False)
        ),
        "the same, C=10": changed(logisticregression__C=10),
    }


def measure(source: data.Rows, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Return each variant's accuracy on the task's training rows: one number for each seed."""
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

    task, rows = source.task, source.train
    labels = [row["label"] for row in rows]
    groups = groups_of(task, rows)
    accuracies: dict[str, list[float]] = {}
    for name, model in variants(task.columns).items():
        for seed in seeds:
            folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            scores = cross_val_score(model, np.array(rows, dtype=object), labels, groups=groups, cv=folds)
            accuracies.setdefault(name, []).append(round(float(scores.mean()), 4))
        print(f"{task.name}: {name}: {statistics.mean(accuracies[name]):.1%}", flush=True)
    return {"train": source.train_id, "rows": len(rows), "accuracies": accuracies}


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "baselines.json", help="the results file")
    options = parser.parse_args(arguments)
    tasks = {task.name: measure(data.load(task)) for task in (SARCASM, SUPPORT)}
    files.write_json(options.out, {**about(), "seeds": SEEDS, "tasks": tasks})


if __name__ == "__main__":
    main()
