"""The command `llmcourse`: the course's experiment from a shell. Each command is a module of its own.

Importing this package, and `llmcourse --help`, import neither torch nor transformers.
"""

import argparse
import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from llmcourse._base import __version__, redact
from llmcourse._base.errors import CourseError, CourseWarning
from llmcourse._base.hardware import GEAR_VARIABLE
from llmcourse.cli import compare, demo, evaluate, export, finetune, models, predict, preflight, processes

COMMANDS = (demo, finetune, evaluate, predict, compare, export, preflight, models)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Return 0 for success, 2 for bad input, 130 after Ctrl-C."""
    with processes.muted(errors=True):
        options = build_parser().parse_args(arguments)
    quiet_libraries()
    sys.excepthook = redact.excepthook
    if getattr(options, "gear", None):
        os.environ[GEAR_VARIABLE] = options.gear
    try:
        with processes.session(options.command):
            options.run(options)
        return 0
    except CourseError as error:
        processes.complain(f"llmcourse: {error}")
        return 2
    except BrokenPipeError:
        # the reader of our output has gone (`| head`), which is no error; Python would complain when it flushes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        processes.complain(f"llmcourse: {redact.redacted(_os_error_message(error))}")
        return 2
    except KeyboardInterrupt as stop:
        processes.complain(f"\nllmcourse: {stop or 'Stopped.'} {_how_to_resume(options)}")
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. Its `run` option is the chosen command's function."""
    parser = argparse.ArgumentParser(
        prog="llmcourse", description="Prompt a language model, finetune it, and compare the two on the same rows."
    )
    parser.add_argument("--version", action="version", version=f"llmcourse {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def quiet_libraries() -> None:
    """Hide the libraries' warnings, which are meant for their developers. Our own problems are CourseErrors."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=CourseWarning)
    warnings.showwarning = lambda message, *_: print(f"llmcourse: {message}", file=sys.stderr)


def _os_error_message(error: OSError) -> str:
    message = f"{error.filename or 'a file'}: {error.strerror or error}."
    if error.errno == errno.ENOSPC:
        message += " Free some space and run the same command again. Finished work is kept."
    return message


def _how_to_resume(options: argparse.Namespace) -> str:
    if not getattr(options, "resume", True):
        return "To resume, run the same command without --no-resume."
    if options.command == "predict" and not options.out:
        return "Nothing was kept. With --out, a stopped command on --file or - can be resumed."
    return "To resume, run the same command again."
