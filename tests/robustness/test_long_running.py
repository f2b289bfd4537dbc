"""A notebook's cells run again and again, for an afternoon: neither memory nor files grow."""

import gc
import random

import psutil
import pytest
from small import ONE_EPOCH, some_rows

from llmcourse import models
from llmcourse.experiment import Experiment
from llmcourse.training import finetuning

RUNS = 200
MIB_PER_RUN = 0.05
"""What a run may grow by, averaged over the second half: the allocator's noise. A kept model would be 6 MiB a run, a
kept adapter 0.01."""


@pytest.mark.trust
@pytest.mark.timeout(1500)
def test_two_hundred_runs_again(hub, tmp_path, measured):
    """Load, prompt, train a step, evaluate, in random order and with random values, as people click."""
    hub("mistral-7b")
    rows, luck, process = some_rows(), random.Random(0), psutil.Process()
    memory, objects, files_left = [], [], []

    def loaded():
        return models.load("mistral-7b")

    def study():
        return Experiment(rows, loaded(), tmp_path / "runs", quiet=True)

    def load_anew():
        models.free()
        loaded()

    def prompt():
        job = study()
        job.generated(job.prompt(luck.choice((0, 2))))

    def score():
        job = study()
        job.scored(job.prompt(luck.choice((0, 2))), calibrate=luck.random() < 0.5)

    def train():
        study().train(ONE_EPOCH.changed(r=luck.choice((2, 4))), resume=luck.random() < 0.5)

    def evaluate():
        job = study()
        folder, _ = job.train(ONE_EPOCH.changed(r=luck.choice((2, 4))))
        job.adapter_arm(folder, luck.choice(("generated", "scored")))
        job.results()

    def train_anew():
        job = study()
        a_step = ONE_EPOCH.changed(epochs=0.25, warmup=0)
        finetuning.finetune(job.loaded, job.task, list(rows.train), a_step, tmp_path / "scratch", resume=False)

    for _ in range(RUNS):
        luck.choice((load_anew, prompt, score, train, evaluate, train_anew))()
        gc.collect()
        memory.append(process.memory_info().rss / 2**20)
        objects.append(len(gc.get_objects()))
        files_left.append(sum(1 for path in tmp_path.rglob("*") if path.is_file()))
    half = RUNS // 2
    grown = (sum(memory[-20:]) - sum(memory[half : half + 20])) / 20 / (half - 20)
    measured(
        "long_running",
        runs=RUNS,
        memory_mib=[round(memory[half]), round(memory[-1])],
        mib_per_run=round(grown, 3),
        files=[files_left[half], files_left[-1]],
    )
    assert grown < MIB_PER_RUN
    assert objects[-1] - objects[half] < half * 20
    # the same arms and adapters again: nothing new is kept
    assert files_left[-1] == files_left[half]
