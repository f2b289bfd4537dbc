"""The comparison: several arms answer the same frozen test rows, each is kept, and they are compared in pairs."""

from llmcourse.experiment.experiment import Arm, Experiment, adapter_readme, training_spec

__all__ = [
    "Arm",
    "Experiment",
    "adapter_readme",
    "training_spec",
]
