"""A whole run of the course, small, to be killed: `python tests/helpers/whole_job.py FOLDER [PHASE WRITE]`.

Converts the embedded model into FOLDER/cache, then trains and asks a tiny random model in FOLDER/runs and writes the
report. With PHASE and WRITE it kills itself there, at the phase's WRITE-th call of fsync or rename.
"""

import os
import signal
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1]) if __name__ == "__main__" else None
PHASES = ("convert", "train", "evaluate", "write")


def count_writes(limit: int | None) -> list[str]:
    """Count the calls that make what was written last; at the `limit`-th the process kills itself, before it or after
    it."""
    calls: list[str] = []

    def counted(name):
        real = getattr(os, name)

        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) == limit and limit % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if len(calls) == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, name, call)

    for name in ("fsync", "replace", "rename"):
        counted(name)
    return calls


def study(folder: Path, loaded):
    """The experiment of the job: eight test rows, sixteen to train on."""
    import small

    from llmcourse.experiment import Experiment

    return Experiment(small.some_rows(), loaded, folder / "runs", quiet=True)


def run(folder: Path, say=print) -> None:
    os.environ["LLMCOURSE_CACHE"] = str(folder / "cache")
    import small

    from llmcourse._base import hardware
    from llmcourse.experiment import report
    from llmcourse.models import embedded

    say("convert")
    embedded.ensure_embedded()
    loaded = small.tiny_model(small.tokenizer(), 5)
    with hardware.prefer_mkl():
        job = study(folder, loaded)
        say("train")
        job.train(small.ONE_EPOCH.changed(epochs=20, save_steps=4))
        say("evaluate")
        for k in (0, 2, 4):
            job.generated(job.prompt(k))
            job.scored(job.prompt(k), calibrate=k == 2)
        job.finetuned(small.ONE_EPOCH.changed(epochs=20, save_steps=4))
        say("write")
        report.write(job, folder / "runs" / "report")


if __name__ == "__main__":
    phase, write = (sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 3 else (None, None)

    def said(name: str) -> None:
        print(name, flush=True)
        if name == phase:
            count_writes(write)

    run(FOLDER, said)
