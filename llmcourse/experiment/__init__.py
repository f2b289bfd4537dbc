"""The comparison: several arms answer the same frozen test rows, each is kept, and they are compared in pairs."""

from llmcourse.experiment import metrics
from llmcourse.experiment.arms import Arm, PairedTest
from llmcourse.experiment.demo import SHOTS, run_demo
from llmcourse.experiment.experiment import Experiment
from llmcourse.experiment.model_card import adapter_readme
from llmcourse.experiment.questions import Question
from llmcourse.experiment.runner import training_spec

__all__ = [
    "SHOTS",
    "Arm",
    "Experiment",
    "PairedTest",
    "Question",
    "adapter_readme",
    "metrics",
    "run_demo",
    "training_spec",
]
