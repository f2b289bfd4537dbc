"""The comparison: several arms answer the same frozen test rows, each is kept, and they are compared in pairs."""

from llmcourse.experiment.demo import SHOTS, run_demo
from llmcourse.experiment.experiment import Arm, Experiment, adapter_readme, training_spec

__all__ = [
    "SHOTS",
    "Arm",
    "Experiment",
    "adapter_readme",
    "run_demo",
    "training_spec",
]
