"""CSV files with rows of the sarcasm task, for tests that read files."""

import csv

HEADER = ["label", "comment", "parent_comment"]


def write_csv(path, rows, header=HEADER):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def csv_rows(n=60, parents=20):
    return [[i % 2, f"reply number {i}", f"parent {i % parents}"] for i in range(n)]
