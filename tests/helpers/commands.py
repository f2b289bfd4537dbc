"""The command line, as tests of several modules call it in their own process."""

import csv

from llmcourse import cli


def run(*arguments: object) -> int:
    """Run `llmcourse` with these arguments and return its exit code."""
    return cli.main([str(argument) for argument in arguments])


def rows_file(path: str = "rows.csv", n: int = 24) -> str:
    """Write `n` made-up sarcasm rows, two replies to each parent, and return the path."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "comment", "parent_comment"])
        writer.writerows([[i % 2, f"reply {i}", f"parent {i // 2}"] for i in range(n)])
    return path
