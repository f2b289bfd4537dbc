"""(c) The `quick` recipe trained on the GPU: in its own number type, and as on a T4 in float16 with a scaler."""

from measure import validated

from gpu.setting import T4, Findings, Setting, pretend, rounded
from llmcourse import data, models
from llmcourse._base.hardware import AMPERE
from llmcourse.data.tasks import SARCASM
from llmcourse.training import finetuning
from llmcourse.training.recipes import QUICK

MARGIN = 0.08
"""How far below the CPU's adapter the accuracy on 200 rows may be. Repeated trainings differ by 0.02 or so."""


def run(setting: Setting, findings: Findings) -> None:
    """Train and test, once for each number type."""
    corpus, sizes = data.load(SARCASM), setting.sizes
    train, test = list(corpus.train)[: sizes.train], list(corpus.test)[: sizes.rows]
    recipe = QUICK if setting.full else QUICK.changed(epochs=1, batch_rows=4)
    wanted = models.read_card(models.shipped_adapter("sarcasm"))["results"]["accuracy"] - MARGIN
    for name, capability in (("bfloat16", AMPERE), ("float16, as on a T4", T4)):
        with findings.part(name) as measured, pretend(setting, capability):
            loaded = models.load()
            run = finetuning.finetune(loaded, SARCASM, train, recipe, setting.work / f"quick-{capability[0]}")
            measured.update(
                steps=run.steps,
                skipped_steps=run.skipped_steps,
                seconds=round(run.seconds, 1),
                micro_rows=run.micro_rows,
                notes=run.notes,
                losses=rounded([*run.losses[:3], *run.losses[-3:]]),
                validated=validated(loaded, recipe, SARCASM, test),
            )
            if setting.full:
                accuracy = measured["validated"]["accuracy"]
                findings.check(run.losses[-1] < run.losses[0], f"{name}: the loss does not fall: {measured['losses']}")
                findings.check(accuracy >= wanted, f"{name}: accuracy {accuracy:.3f}, wanted {wanted:.2f}")
