"""`python -m llmcourse` is the same as the command `llmcourse`."""

from llmcourse.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
