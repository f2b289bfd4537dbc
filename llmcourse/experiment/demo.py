"""The arms of the course's demo, from the baselines to the finetuned model."""

from collections.abc import Callable

from llmcourse.data.tasks import SARCASM, TALK_EXAMPLES
from llmcourse.experiment.arms import Arm
from llmcourse.experiment.experiment import Experiment
from llmcourse.predict import retrieval
from llmcourse.predict.prompts import Prompt
from llmcourse.training.recipes import Recipe

SHOTS = 4
"""Examples in the demo's few-shot prompts."""


def run_demo(
    experiment: Experiment, recipe: Recipe, resume: bool = True, announce: Callable[[Arm], None] = lambda arm: None
) -> list[Arm]:
    """Run the arms of the demo in the order of the waterfall, and return them. `announce(arm)` is called after each.

    The talk's own two examples are asked on sarcasm only. A prompt in the model's chat format is left out for a model
    without one, and sentence embeddings where their model is not installed.
    """
    zero_shot, few_shot = experiment.prompt(0), experiment.prompt(SHOTS)
    chat = experiment.prompt(SHOTS, chat=True) if experiment.loaded.tokenizer.chat_template else None
    talk = Prompt(SARCASM, TALK_EXAMPLES) if experiment.task == SARCASM else None
    steps: list[Callable[[], Arm]] = [
        experiment.majority,
        experiment.bag_of_words,
        *([experiment.sentence_embeddings] if retrieval.is_installed() else []),
        lambda: experiment.generated(zero_shot),
        *([lambda: experiment.generated(talk, "the talk's 2 examples, generated")] if talk else []),
        *([lambda: experiment.generated(chat)] if chat else []),
        lambda: experiment.generated(few_shot),
        lambda: experiment.scored(few_shot),
        lambda: experiment.scored(few_shot, calibrate=True),
        experiment.frozen_features,
        lambda: experiment.finetuned(recipe, resume),
    ]
    arms = []
    for step in steps:
        arms.append(step())
        announce(arms[-1])
    return arms
