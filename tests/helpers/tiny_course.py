"""The command `llmcourse` on a tiny random model, for tests that start processes.

Usage: tiny_course.py MODEL_FOLDER finetune ...

With the variable SLOWLY each micro-batch and each batch of answers takes so many seconds more, so that there is time to
kill somebody.
"""

import os
import sys
import time
from dataclasses import replace

from llmcourse import cli
from llmcourse.models import catalogue
from llmcourse.predict import journal

NAME = "tiny"


def put(folder: str) -> None:
    """Let the catalogue know the model in this folder."""
    catalogue.BASES[NAME] = replace(catalogue.base("mistral-7b"), name=NAME, repo=str(folder), revision=None)


def slow_down(owner, method: str, seconds: float) -> None:
    work = getattr(owner, method)

    def slowly(*args, **kwargs):
        time.sleep(seconds)
        return work(*args, **kwargs)

    setattr(owner, method, slowly)


if __name__ == "__main__":
    put(sys.argv[1])
    if "SLOWLY" in os.environ:
        slow_down(journal.Journal, "add", float(os.environ["SLOWLY"]))
        if sys.argv[2] == "finetune":
            from llmcourse.training import trainer

            slow_down(trainer.LabelTrainer, "compute_loss", float(os.environ["SLOWLY"]))
    raise SystemExit(cli.main([*sys.argv[2:], "--model", NAME]))
