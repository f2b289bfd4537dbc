"""The command `llmcourse`, also as `python -m llmcourse`.

Importing the command line takes a few tenths of a second. This module imports it inside a function, so that Ctrl-C in
that time ends with a message too.
"""

import sys


def run() -> int:
    """Import the command line, run it, and return its exit code: 130 after Ctrl-C."""
    try:
        from llmcourse.cli import main

        return main()
    except KeyboardInterrupt:
        print("\nllmcourse: Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(run())
