"""Several processes on one experiment, on Hugging Face Accelerate: how many, which one, and what one of them does for all.

`accelerate launch --config_file launch/cpu_2.yaml -m llmcourse finetune` starts them; `session` finds out. The first process is the
main one: it reads rows, writes files and prints. Whatever it does for all goes through `from_main`, so that no process waits for an answer
that will not come. A process alone pays nothing: Accelerate is not imported for it.
"""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from llmcourse._base import files
from llmcourse._base.errors import CourseError

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for another that is there and says nothing. One that is gone is noticed at once."""

PATIENCE_S = 30
"""How long the main process waits for a lock before it tells the others that it still waits; far below `TIMEOUT`."""

_LOST = re.compile(r"gloo|NCCL|ProcessGroup|TCPStore|Connection (closed|reset)|Broken pipe", re.IGNORECASE)
"""What torch says when a process that it talks to is gone."""

_count, _rank = 1, 0


def count() -> int:
    """How many processes work on the experiment."""
    return _count


def rank() -> int:
    """This process's number; the main one is 0."""
    return _rank


def is_main() -> bool:
    """Whether this process prints and writes."""
    return _rank == 0


def sharded() -> bool:
    """Whether the model is spread over the processes (FSDP), instead of one in each."""
    return count() > 1 and os.environ.get("ACCELERATE_USE_FSDP") == "true"


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Inside, this process works with the others that the launcher started, if there are others; only the main one prints.

    Raises CourseError when another process ends, and for a launch that started one process where several were wanted.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or "LOCAL_RANK" not in os.environ:
        _refuse_a_lone_start()
        yield
        return
    signal.signal(signal.SIGTERM, _told_to_end)  # the launcher sends it to those that are left when one process ends
    with keeping(lambda: "What was finished is kept."), open(os.devnull, "w") as nowhere:
        state = _join()
        with contextlib.nullcontext() if is_main() else contextlib.redirect_stdout(nowhere):
            yield
        state.destroy_process_group()


@contextlib.contextmanager
def beginning() -> Iterator[None]:
    """Before the session: what every process would say of the command line, only the first one says."""
    if int(os.environ.get("RANK", 0)) == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _join():
    global _count, _rank
    import torch
    from accelerate import PartialState

    # Accelerate takes gloo on CPUs and NCCL on GPUs, and gives each process its GPU
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)
    _count, _rank = state.num_processes, state.process_index
    if not is_main():
        from transformers.utils import logging

        logging.disable_progress_bar()
    return state


def _refuse_a_lone_start() -> None:
    # what `accelerate launch --cpu --num_processes 2` leaves: an address to meet at, and nobody to meet
    if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ:
        raise CourseError(
            "`accelerate launch --cpu` is for MPI; without it a single process starts, whatever --num_processes says."
            " Use `accelerate launch --config_file launch/cpu_2.yaml -m llmcourse ...`."
        )


def check(command: str) -> None:
    """Raise CourseError for a command that several processes, or a model spread over them, cannot do."""
    if count() > 1 and command not in ("finetune", "evaluate"):
        raise CourseError(f"`llmcourse {command}` works in one process. Start it without `accelerate launch`.")
    if sharded() and command != "finetune":
        raise CourseError(
            f"`llmcourse {command}` needs a whole model in each process; FSDP is for `llmcourse finetune`. Use launch/ddp_gpus.yaml."
        )


# -- what one does, and what all know --------------------------------------------------------------------------------


def from_main(work: Callable[[], Value]) -> Value:
    """What `work()` gives in the main process, which alone does it, in every process. What it raises is raised in all."""
    if count() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    outcome: list = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error.with_traceback(None)
    value, error = broadcast_object_list(outcome)
    if error is not None:
        raise error
    return value


def gather(value: Value) -> list[Value]:
    """Every process's value, in their order, in every process. All wait for the last."""
    if count() == 1:
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])


@contextlib.contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """`files.lock`, held by the main process for all of them."""
    guard = files.lock(path)
    if count() == 1:
        with guard:
            yield
        return
    import filelock

    def taken() -> bool:
        try:
            guard.acquire(timeout=PATIENCE_S)
            return True
        except filelock.Timeout:
            return False

    while not from_main(taken):
        pass
    try:
        yield
    finally:
        if is_main():
            guard.release()


# -- when a process ends ---------------------------------------------------------------------------------------------


class _Told(KeyboardInterrupt):
    """SIGTERM, as an exception."""


def _told_to_end(number, frame):
    raise _Told


@contextlib.contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Inside, the end of another process is a CourseError that says what is kept: `kept()`, a sentence."""
    try:
        yield
    except (RuntimeError, _Told) as error:
        if count() == 1 or not (isinstance(error, _Told) or _LOST.search(str(error))):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, meanwhile: there is still something to say
        raise CourseError(
            f"Stopped: another of the {count()} processes has ended (killed, or out of memory), or the launcher was told to stop. {kept()}"
            " Start the same command again (without --no-resume): it goes on from there, with as many processes as you like."
        ) from error


def complain(text: str) -> None:
    """Print to standard error, unless another process has done so: what ends one process ends all, and is said once."""
    if count() == 1 or _first_to_speak():
        # a line of its own: a bar of another process may stand there
        print("\n" * (count() > 1) + text, file=sys.stderr, flush=True)


def _first_to_speak() -> bool:
    """The launcher keeps a store of small values, which outlives whichever process was lost."""
    from torch.distributed import TCPStore

    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(*place, is_master=False, timeout=timedelta(seconds=5))
        return store.add("llmcourse/complaints", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        return is_main()
