"""The command `llmcourse`, also as `python -m llmcourse`.

Importing the command line takes a few tenths of a second. This module imports it inside a function, so that Ctrl-C in
that time ends with a message too.
"""

import os
import sys


def run() -> int:
    """Import the command line, run it, and return its exit code: 130 after Ctrl-C, 2 without a standard output."""
    try:
        replace_closed_streams()
        if sys.stdout is None:
            print("llmcourse: Standard output is closed. Send it somewhere, for instance: > out.txt", file=sys.stderr)
            return 2
        from llmcourse.cli import main

        return main()
    except KeyboardInterrupt:
        print("\nllmcourse: Stopped.", file=sys.stderr)
        return 130


def replace_closed_streams() -> None:
    """Open the null device in place of each standard stream that is closed.

    Otherwise a file that is opened later gets the stream's number, and what a library writes to the stream ends up in
    that file. Without a standard error, Python prints errors to standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
            os.set_inheritable(opened, True)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", errors="replace", closefd=False)


if __name__ == "__main__":
    raise SystemExit(run())
