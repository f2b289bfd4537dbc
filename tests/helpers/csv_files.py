"""Files of rows, for tests that read files."""

import csv

from llmcourse.data.tasks import Task

HEADER = ["label", "comment", "parent_comment"]
YES_NO = Task("yes-no", "Sort it.", {"text": "text"}, ("no", "yes"))


def write_csv(path, rows, header=HEADER):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def csv_rows(n=60, parents=20):
    return [[i % 2, f"reply number {i}", f"parent {i % parents}"] for i in range(n)]


def yes_no(n=40):
    """Rows of YES_NO as (text, label word)."""
    return [(f"The parcel number {i} arrived, said a customer", ("no", "yes")[i % 2]) for i in range(n)]
