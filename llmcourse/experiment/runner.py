"""Training for an experiment: an adapter for each recipe, kept with its card under a hash, found again, or resumed."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from llmcourse._base import files, hardware
from llmcourse._base.errors import CourseError
from llmcourse.data import Rows, groups
from llmcourse.data.tasks import Task
from llmcourse.experiment.model_card import adapter_readme
from llmcourse.experiment.store import ArmStore
from llmcourse.models import LoadedModel, read_card, save_adapter, shipped_adapter
from llmcourse.training import finetuning
from llmcourse.training.checkpoints import find_checkpoints
from llmcourse.training.configs import training_prompt
from llmcourse.training.finetuning import TrainingRun
from llmcourse.training.recipes import Recipe

FORMAT = 2
"""Raised when the way in which adapters are trained, or arms answer, changes, so that what an older version kept is not
taken for new."""

USE_SHIPPED = "LLMCOURSE_USE_SHIPPED"
"""The environment variable that lets the shipped adapters stand in for training (1), so that tests of notebooks take
minutes."""


class TrainingRunner:
    """Trains adapters on an experiment's training rows and keeps them beside its arms."""

    def __init__(self, store: ArmStore, loaded: LoadedModel, rows: Rows, train: Sequence[Mapping], quiet: bool = False):
        self.store, self.loaded, self.rows, self.train_rows, self.quiet = store, loaded, rows, train, quiet

    def spec(self, recipe: Recipe) -> dict[str, Any]:
        """Return all that decides the weights of the recipe's adapter on these rows."""
        return training_spec(self.rows.task, self.rows.train_id, self.loaded.base, recipe)

    def folder(self, recipe: Recipe) -> Path:
        """Return where the recipe's adapter is kept."""
        return self.store.folder / "adapters" / files.short_hash(self.spec(recipe))

    def work(self, recipe: Recipe) -> Path:
        """Return where the checkpoints of its training are, until the adapter is kept."""
        return self.store.folder / "training" / files.short_hash(self.spec(recipe))

    def lock(self, recipe: Recipe) -> FileLock:
        """Return the lock for a training: of two runs that want it, one trains, and the other waits and finds the
        adapter."""
        return files.lock(self.work(recipe))

    def shipped(self, recipe: Recipe) -> Path | None:
        """Return the shipped adapter, if it may stand in for this training (same task, rows, base and recipe)."""
        if os.environ.get(USE_SHIPPED) != "1":
            return None
        try:
            folder = shipped_adapter(self.rows.task.name)
        except CourseError:
            return None
        return folder if read_card(folder)["spec"] == self.spec(recipe) else None

    def find(self, recipe: Recipe) -> Path | None:
        """Return the recipe's adapter if it is there already, undamaged."""
        folder = self.folder(recipe)
        return self.shipped(recipe) or (folder if self.store.check(folder, "The adapter is trained again.") else None)

    def train(self, recipe: Recipe, resume: bool = True) -> Path:
        """Return the folder of the recipe's adapter, training it if it is not there yet."""
        with self.lock(recipe):
            return self.find(recipe) or self.keep(recipe, self.run(recipe, resume))

    def run(self, recipe: Recipe, resume: bool = True) -> TrainingRun:
        """Train. The adapter stays on the model, and its checkpoints in `work`, until `keep` is called."""
        work = self.work(recipe)
        if not resume:  # or a later session would bring the discarded run's checkpoints back
            self.store.backup.drop(work)
        with tqdm(desc=f"training {recipe.name}", unit="step", disable=self.quiet, leave=False) as bar:
            copied: list[Path] = []

            def progress(step: int, steps: int, loss: float | None) -> None:
                nonlocal copied
                whole = find_checkpoints(work) if self.store.backup.there else []
                for checkpoint in set(whole) - set(copied):
                    self.store.backup.keep(checkpoint)
                copied = whole
                if loss is None:
                    # the clock starts here, so that preparations do not spoil the estimate
                    bar.reset(total=steps)
                    bar.initial = step
                else:
                    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update(step - bar.n)

            return finetuning.finetune(self.loaded, self.rows.task, self.train_rows, recipe, work, resume, progress)

    def keep(self, recipe: Recipe, run: TrainingRun) -> Path:
        """Save the adapter on the model with its card, remove the checkpoints, and take the adapter off the model."""
        folder, work = self.folder(recipe), self.work(recipe)
        card = self.card(recipe, run)
        save_adapter(self.loaded, folder, card, adapter_readme(card))
        self.store.backup.keep(folder)
        # only now: until the adapter is kept, the last checkpoint is all there is
        shutil.rmtree(work, ignore_errors=True)
        self.store.backup.drop(work)
        self.loaded.drop_adapter()
        return folder

    def card(self, recipe: Recipe, run: TrainingRun) -> dict[str, Any]:
        """Return what an adapter's folder says of it: task, prompt, recipe, rows and training."""
        task = self.rows.task
        prompt = training_prompt(task, recipe)
        return {
            "spec": self.spec(recipe),
            "task": task.as_dict(),
            "prompt": {"instruction": prompt.instruction, "fallback": prompt.fallback, "chat": prompt.chat},
            "recipe": recipe.as_dict(),
            "data": {"source": self.rows.source, "train": self.rows.train_id, "rows": len(self.train_rows)},
            "groups": sorted(groups(task, self.train_rows)),
            "training": run.as_dict(),
            "versions": hardware.versions(),
        }


def training_spec(task: Task, train_id: str, base: dict[str, str], recipe: Recipe) -> dict[str, Any]:
    """Return all that decides an adapter's weights; its hash names the adapter's folder."""
    numbers = {key: value for key, value in recipe.as_dict().items() if key not in ("name", "save_steps")}
    prompt = replace(training_prompt(task, recipe), max_length=None).as_dict()  # it is among the recipe's numbers
    return {"format": FORMAT, "prompt": prompt, "train": train_id, "model": base, "recipe": numbers}
