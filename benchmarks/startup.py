"""Measure how long the first steps take: the embedded model's first load, later loads, notebook 00's first answer.

    first load      in an empty cache: the model is unpacked from its package and saved
    later load      in a new process, from that cache
    first answer    in a new process: imports, load, and what notebook 00 shows first, three rows judged before and
                    after finetuning

Seconds of whole processes. About a minute on 2 cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from measure import about, finish, options, spread

LOAD = "from llmcourse import models\nmodels.load()"
ANSWER = """
from llmcourse import SARCASM, models, predict
rows = [{"parent_comment": "My flight was cancelled.", "comment": "That sounds exhausting."}] * 3
predict.before_and_after(models.load(), SARCASM, models.shipped_adapter("sarcasm"), rows)
"""


def seconds(code: str, cache: str) -> float:
    """Return how long a whole Python process takes."""
    clock = time.perf_counter()
    environment = {**os.environ, "LLMCOURSE_CACHE": cache, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
    return time.perf_counter() - clock


def main(arguments: Sequence[str] | None = None) -> dict:
    chosen = options(__doc__, arguments, rounds=(3, 1, "times that each is measured"))
    first, later, answer = [], [], []
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory() as cache:
            first.append(seconds(LOAD, cache))
            later.append(seconds(LOAD, cache))
            answer.append(seconds(ANSWER, cache))
    results = {
        **about(),
        "seconds": {"first load": spread(first), "later load": spread(later), "first answer": spread(answer)},
    }
    return finish("startup", results, chosen)


if __name__ == "__main__":
    main()
