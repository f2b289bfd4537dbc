"""The command `llmcourse` on a tiny random model, for tests that start processes: `tiny_course.py MODEL_FOLDER finetune ...`.

With the variable SLOWLY each batch of answers takes so many seconds, so that there is time to kill somebody.
"""

import os
import sys
import time
from dataclasses import replace

from llmcourse import catalogue, cli, journal

NAME = "tiny"

if __name__ == "__main__":
    folder, *arguments = sys.argv[1:]
    catalogue.BASES[NAME] = replace(catalogue.base("mistral-7b"), name=NAME, repo=folder, revision=None)
    keep = journal.Journal.add

    def add(self, answers, seconds):
        time.sleep(float(os.environ.get("SLOWLY", 0)))
        keep(self, answers, seconds)

    journal.Journal.add = add
    raise SystemExit(cli.main([*arguments, "--model", NAME]))
