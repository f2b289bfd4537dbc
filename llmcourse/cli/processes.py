"""Several processes on one command: `accelerate launch --config_file launch/cpu_2.yaml -m llmcourse finetune` or
`evaluate`.

Accelerate starts and connects the processes, and the Trainer averages their gradients (DDP). The rest is here: every
process reads the same rows, each asks a part of the test rows, and the main process alone writes and prints. When one
process ends, all end, with one message. A process alone pays nothing: Accelerate is not imported for it.
"""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmcourse._base.errors import CourseError
from llmcourse.experiment.backup import VARIABLE as BACKUP_VARIABLE
from llmcourse.training.batches import process_count

if TYPE_CHECKING:
    from llmcourse.experiment import Arm, Experiment, Question
    from llmcourse.training.recipes import Recipe

Value = TypeVar("Value")

PATIENCE = timedelta(days=1)
"""How long a process waits for another that does not answer, for instance while the main one waits for a lock. The end
of a process is noticed at once."""

COMMANDS = ("finetune", "evaluate")

_LOST = re.compile(r"gloo|NCCL|ProcessGroup|TCPStore|Connection (closed|reset)|Broken pipe", re.IGNORECASE)
"""What torch says when a process that it talks to is gone."""


def rank() -> int:
    """Return this process's number; the main one is 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Return whether this process prints and writes."""
    return rank() == 0


# -- one command in several processes ----------------------------------------------------------------------------------


@contextlib.contextmanager
def session(command: str) -> Iterator[None]:
    """Inside the block this process works with the others that the launcher started, if any. Only the main one prints.

    Raises CourseError when another process ends, for a command that works in one process, and for a launch that started
    one process where several were wanted.
    """
    _refuse_a_lone_start()
    if process_count() == 1:
        yield
        return
    check(command)
    signal.signal(signal.SIGTERM, _end)  # the launcher sends it to the others when one process ends
    if not is_main():
        os.environ.pop(BACKUP_VARIABLE, None)  # one process copies
    with noticing_the_end(lambda: "What was finished is kept."), muted():
        state = _join()
        yield
        state.destroy_process_group()


@contextlib.contextmanager
def muted(errors: bool = False) -> Iterator[None]:
    """Inside the block all but the main process print nothing; with `errors`, not to standard error either."""
    if is_main():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        if errors:
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def _join() -> Any:
    import torch
    from accelerate import PartialState
    from transformers.utils import logging

    if not is_main():
        logging.disable_progress_bar()
    # Accelerate takes gloo on CPUs and NCCL on GPUs, and gives each process its GPU
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _refuse_a_lone_start() -> None:
    # what `accelerate launch --cpu --num_processes 2` leaves: an address to meet at, and nobody to meet
    if process_count() == 1 and os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ:
        raise CourseError(
            "`accelerate launch --cpu` is for MPI. Without it a single process starts, whatever --num_processes says."
            " Use `accelerate launch --config_file launch/cpu_2.yaml -m llmcourse ...`."
        )


def check(command: str) -> None:
    """Raise CourseError for a command that works in one process, and for a model spread over several GPUs (FSDP)."""
    if command not in COMMANDS:
        raise CourseError(f"`llmcourse {command}` works in one process. Start it without `accelerate launch`.")
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        raise CourseError("FSDP is not supported: each process needs a whole model. Use launch/ddp_gpus.yaml.")


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Inside the block the main process goes first, and the others after it: for what is downloaded, converted or
    repaired."""
    if process_count() == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState().main_process_first():
        yield


def finetune(experiment: "Experiment", recipe: "Recipe", resume: bool = True) -> Path:
    """Train the recipe's adapter in all processes, or find it. Returns its folder."""
    if process_count() == 1:
        return experiment.train(recipe, resume)[0]
    from llmcourse.training.checkpoints import describe_kept

    runner = experiment.runner
    guard = runner.lock(recipe) if is_main() else contextlib.nullcontext()
    with noticing_the_end(lambda: describe_kept(runner.work(recipe), recipe.save_steps)), guard:
        folder = from_main(lambda: runner.find(recipe))
        if folder is None:
            run = runner.run(recipe, resume)
            folder = from_main(lambda: runner.keep(recipe, run))
    experiment.loaded.drop_adapter()
    return folder


def evaluate(experiment: "Experiment", question: "Question") -> "Arm | None":
    """Ask the test rows in all processes, or find the arm. The main process returns it, the others None.

    Each process asks its part of the rows and keeps the answers in a journal of its own. The main process then finds
    all of them.
    """
    if process_count() == 1:
        return experiment.ask(question)
    from accelerate import PartialState

    from llmcourse.predict.asking import encode, rows_to_ask

    store, spec, state = experiment.store, question.spec, PartialState()
    rows = rows_to_ask(question.prompt, experiment.test_rows(), question.way)

    def describe_kept() -> str:
        return f"The answers so far are kept (at least {len(store.journal(spec).answers):,} of {len(rows):,})."

    guard = store.lock(spec) if is_main() else contextlib.nullcontext()
    with noticing_the_end(describe_kept), guard:
        if not from_main(lambda: store.find(spec, question.name) is not None):
            # 1. Everybody reads what an interrupted evaluation left, before anybody writes
            journal = store.journal(spec, rank())
            missing = [index for index in range(len(rows)) if index not in journal.answers]
            state.wait_for_everyone()
            # 2. Each asks its part
            prompts = encode(experiment.loaded, question.prompt, rows)
            experiment.asker.fill(question, journal, share(prompts, missing, process_count(), rank()))
            state.wait_for_everyone()
    return experiment.ask(question) if is_main() else None


def share(prompts: Sequence[Sequence[int]], rows: Sequence[int], parts: int, part: int) -> list[int]:
    """Return the part of `rows` that one of several processes asks, about equal in tokens.

    The parts are disjoint and together all of `rows`. Rows with the same beginning stay together, so that it is
    computed once.
    """
    order = sorted(rows, key=lambda row: (prompts[row], row))
    total, before, mine = sum(len(prompts[row]) for row in order), 0, []
    for row in order:
        if before * parts // total == part:
            mine.append(row)
        before += len(prompts[row])
    return mine


def from_main(work: Callable[[], Value]) -> Value:
    """Return in every process what `work()` returns in the main one, which alone runs it. What it raises is raised in
    all."""
    from accelerate.utils import broadcast_object_list

    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error.with_traceback(None)
    value, problem = broadcast_object_list(outcome)
    if problem is not None:
        raise problem
    return value


# -- when a process ends ----------------------------------------------------------------------------------------------


class _Ended(KeyboardInterrupt):
    """SIGTERM, as an exception."""


def _end(number: int, frame: Any) -> None:
    raise _Ended


@contextlib.contextmanager
def noticing_the_end(describe_kept: Callable[[], str]) -> Iterator[None]:
    """Turn the end of another process into a CourseError that says what is kept, as the sentence `describe_kept()`."""
    try:
        yield
    except (RuntimeError, _Ended) as error:
        if process_count() == 1 or not (isinstance(error, _Ended) or _LOST.search(str(error))):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's: there is still a message to print
        raise CourseError(
            f"Stopped: another of the {process_count()} processes has ended (killed, or out of memory), or the launcher"
            f" was told to stop. {describe_kept()} Run the same command again (without --no-resume). It resumes,"
            " with as many processes as you like."
        ) from error


def complain(text: str) -> None:
    """Print to standard error, unless another process has done so: what ends one process ends all, and is said once."""
    if process_count() == 1 or _first_to_speak():
        # a line of its own: a progress bar of another process may be there
        print("\n" * (process_count() > 1) + text, file=sys.stderr, flush=True)


def _first_to_speak() -> bool:
    """Return whether no process has complained yet. The launcher keeps a store of small values, which outlives any
    process."""
    from torch.distributed import TCPStore

    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(*place, is_master=False, timeout=timedelta(seconds=5))
        return bool(store.add("llmcourse/complaints", 1) == 1)
    except (KeyError, ValueError, RuntimeError):
        return is_main()
