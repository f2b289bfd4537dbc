"""Rows as TRL trains on them: a prompt, and the label as its completion."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.models.loading import LoadedModel
from llmcourse.predict import describe_cut, fit
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
    texts, cut = fit(loaded.tokenizer, prompt, rows)
    pairs = zip(texts, rows, strict=True)
    return [{"prompt": text, "completion": prompt.answer(row["label"])} for text, row in pairs], len(cut)


def hold_out(task: Task, rows: Sequence[Mapping], recipe: Recipe) -> tuple[list[Mapping], list[Mapping]]:
    """Return the rows to train on and the held-out ones: about the recipe's share, whole groups, labels in proportion.

    A share is one of so many folds: 0.5, 0.33, 0.25, 0.2, or the nearest of them. Raises CourseError if there are too
    few rows or groups to hold some out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if not recipe.validation:
        return list(rows), []
    folds, labels = round(1 / recipe.validation), [row["label"] for row in rows]
    names = [str(row[task.group_column]) if task.group_column else number for number, row in enumerate(rows)]
    if min(Counter(label for label, _ in set(zip(labels, names, strict=True))).values()) < folds:
        raise CourseError(
            f"validation={recipe.validation} needs {folds} rows of each label (with groups: rows in {folds} groups),"
            f" and {len(rows)} rows have fewer. Train on all of them: --set validation=0."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=recipe.seed)
    train, held_out = next(iter(splitter.split(rows, labels, names)))
    return [rows[place] for place in train], [rows[place] for place in held_out]


def token_lengths(loaded: LoadedModel, examples: Sequence[Mapping[str, str]]) -> list[int]:
    """Return each example's tokens, the end-of-text token included."""
    return [len(loaded.tokenizer(e["prompt"] + e["completion"]).input_ids) + 1 for e in examples]


def training_notes(training: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[str]:
    """Return what the reader of a card should know: what little GPU memory forced upon a training, and what it cut.

    `training` and `recipe` are those of an adapter's card.
    """
    notes = list(training.get("notes", []))
    if training.get("cut_rows"):
        cut = describe_cut(training["cut_rows"], training["rows"], "training rows", recipe["max_length"])
        notes.append(f"{cut} To keep them whole: --set max_length=TOKENS (recipe.changed(max_length=TOKENS)).")
    if curve := training.get("validation"):
        best = min(curve, key=lambda entry: entry["loss"])
        notes.append(
            f"{training['held_out']:,} training rows were held out. Their loss was smallest after epoch"
            f" {best['epoch']:g} of {curve[-1]['epoch']:g}, with {best['accuracy']:.1%} of them right, and this"
            " adapter was kept."
        )
    return notes
