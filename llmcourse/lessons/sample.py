"""A sample of what readers bring to notebook 06: a CSV with a column of texts, one of labels and one of the split."""

import csv
import io
from pathlib import Path

from llmcourse._base import files
from llmcourse._base.errors import CourseError
from llmcourse.data import bundled_path
from llmcourse.data.tasks import SUPPORT

NAME = "mine.csv"
"""The sample's name. A missing file of any other name is a mistyped path."""


def sample_file(path: str | Path) -> None:
    """Write the bundled support messages to a CSV with the columns text, label and split, unless there is a file.

    The labels are words. The split is that of the bundled corpus. Raises CourseError if there is no file and the path
    is not that of the sample.
    """
    if Path(path).exists():
        return
    if Path(path).name != NAME:
        raise CourseError(f"There is no file {path}. Check the path, or use the sample: FILE = {NAME!r}.")
    sample = io.StringIO()
    writer = csv.writer(sample)
    writer.writerow(["text", "label", "split"])
    with open(bundled_path(SUPPORT), encoding="utf-8", newline="") as corpus:
        for row in csv.DictReader(corpus):
            writer.writerow([row["message"], SUPPORT.labels[int(row["label"])], row["split"]])
    files.write_text(path, sample.getvalue())
