"""The three gears: what each chooses for its kind of machine. The same code runs in all of them.

`Hardware.gear` is the gear of a machine. The environment variable LLMCOURSE_GEAR overrides it, and LLMCOURSE_MODEL
names another model than the gear's.
"""

import functools
import os
from dataclasses import dataclass, replace

from llmcourse._base import hardware
from llmcourse._base.hardware import Hardware
from llmcourse.data.tasks import Task
from llmcourse.models import catalogue, sharing, usable
from llmcourse.setup.facts import Needs
from llmcourse.training import planner
from llmcourse.training.recipes import QUICK, THOROUGH, WORKSHOP, Recipe

MODEL_VARIABLE = "LLMCOURSE_MODEL"
"""The environment variable that names another model than the gear's, by a name that `models.load` takes. Notebooks and
commands use it."""

ROW_TOKENS = 75
"""Tokens of a SARC row in training, padding included, for estimates. With the embedded model's tokenizer, 67 were
measured on 799 rows in Kaggle's format. Mistral's smaller vocabulary needs about a tenth more."""

INSTRUCTION_TOKENS = 80
"""Tokens that a recipe with the instruction in each row's prompt adds: 74 were measured, and a tenth more as above."""


@dataclass(frozen=True)
class Gear:
    """One way to run the course: model, rows and recipe."""

    name: str
    model: str
    sources: tuple[str, ...]
    """Where the rows come from. If a source cannot be reached, the next one is tried."""
    n_train: int | None
    """How many training rows are used; None for all."""
    n_test: int | None
    recipe: Recipe
    ram_gib: float
    """Main memory needed to load the model and run."""
    tflops: float = 0.0
    """Speed of the gear's GPU in training, for the estimate of minutes."""
    measured: tuple[tuple[str, float], ...] = ()
    """Minutes of each step, where they were measured."""

    @functools.cached_property
    def minutes(self) -> tuple[tuple[str, float], ...]:
        """The steps of a run and the minutes that each should take: measured, or the planner's estimate.

        There are none for a model that is not the gear's own.
        """
        if self.model != GEARS[self.name].model:
            return ()
        return self.measured or _estimated_minutes(self)

    def sources_of(self, task: Task) -> tuple[str, ...]:
        """Return the gear's sources that the task has, or else all of the task's."""
        return tuple(source for source in self.sources if source in task.sources) or tuple(task.sources)

    def describe(self) -> str:
        """Return the gear in one line."""
        rows = f"{self.n_train:,} + {self.n_test:,} rows" if self.n_train else "all rows"
        minutes = sum(minutes for _, minutes in self.minutes)
        about = f", about {minutes:.0f} minutes" if minutes else ""
        return f"gear {self.name}: {self.model}, {rows} ({self.sources[0]}), recipe {self.recipe.name}{about}"


def row_tokens(recipe: Recipe) -> int:
    """Return how many tokens a SARC row has in this recipe's training, padding included."""
    return ROW_TOKENS + INSTRUCTION_TOKENS * recipe.instruction


def _estimated_minutes(gear: Gear) -> tuple[tuple[str, float], ...]:
    model, recipe = catalogue.base(gear.model), gear.recipe
    n_train, n_test = gear.n_train or 0, gear.n_test or 0
    download = model.download_gib * 1024 / 60 / 60  # at 60 MiB/s
    training = planner.training_minutes(model, recipe, n_train, row_tokens(recipe), gear.tflops)
    return (
        ("download", round(download, 1)),
        ("load", 1.0) if model.prequantised else ("load and quantise", 2.0),
        # five prompted methods, each with a shared prefix of about 300 tokens
        ("prompts", round(planner.asking_minutes(model, 5 * n_test, ROW_TOKENS, gear.tflops), 1)),
        ("training", round(training, 1)),
        ("finetuned model", round(planner.asking_minutes(model, n_test, ROW_TOKENS, gear.tflops), 1)),
    )


GEARS = {
    gear.name: gear
    for gear in (
        Gear(
            "cpu",
            catalogue.EMBEDDED,
            ("bundled",),
            None,
            None,
            QUICK,
            ram_gib=3.0,
            # on 2 cores, in the demo of 2026-11-29
            measured=(("load", 0.5), ("prompts", 1.6), ("training", 8.2), ("finetuned model", 0.2)),
        ),
        Gear("t4", "mistral-7b-4bit", ("kaggle", "hub"), 1000, 100, WORKSHOP, ram_gib=6.0, tflops=planner.T4_TFLOPS),
        # an A100 or newer is about ten times as fast; more test rows make the intervals narrower
        Gear("gpu", "mistral-7b", ("kaggle", "hub"), 1000, 1000, THOROUGH, ram_gib=6.0, tflops=10 * planner.T4_TFLOPS),
    )
}
"""The gears by name. On a T4 the sizes are those of the talk: 1,000 and 100 rows. There the model comes in 4 bits (3.9
GiB), because the original's 13.5 GiB are more than the memory of a Colab that has a T4, and it is in 4 bits there
anyway."""


def needs(gear: Gear, model_name: str | None = None) -> Needs:
    """Return what this gear needs from a machine, with its own model or another one.

    On a CPU, a model needs main memory for its weights in float32. Of a model that the course does not know, the config
    and the list of files are read. Raises CourseError for an unknown name, and for a model that cannot be used.
    """
    model = catalogue.base(model_name or gear.model)
    download = model.download_gib or 0.5  # the embedded model is converted onto the disk
    if model.repo and model.values is None:
        download = sum(usable.look_closely(model).weights.values()) / planner.GIB
    stand_in = catalogue.base(model.stand_in) if model.stand_in else None
    gpu, ram = 0.0, gear.ram_gib
    if model.repo and (gear.name != "cpu" or model.prequantised):
        gpu = planner.prompting(model) / planner.GIB
        if not sharing.obstacle(catalogue.config_of(model)):
            gpu = max(gpu, planner.plan(model, gear.recipe, 1, row_tokens(gear.recipe)).gib)
    elif model.repo:
        ram += planner.weights(model, "float32", nf4=False) / planner.GIB
    return Needs(
        model=model.name,
        repo=model.repo,
        revision=model.revision,
        gated=model.click_through,
        fallback=stand_in.repo if stand_in else None,
        fallback_gib=stand_in.download_gib if stand_in else 0.0,
        download_gib=download,
        ram_gib=round(ram, 1),
        gpu_gib=round(gpu, 1),
        minutes=gear.minutes if model.name == gear.model else (),
    )


def gear(machine: Hardware | None = None) -> Gear:
    """Return the gear of this machine, or of another one, with the model of LLMCOURSE_MODEL if that is set.

    Raises CourseError if LLMCOURSE_GEAR names no gear.
    """
    own = GEARS[(machine or hardware.detect()).gear]
    model = os.environ.get(MODEL_VARIABLE)
    return replace(own, model=model) if model else own
