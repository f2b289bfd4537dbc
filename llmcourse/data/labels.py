"""Reading the labels of a stranger's file: which label each value means, and what to say about those that mean none."""

import re
from collections import Counter

from llmcourse._base.errors import CourseError
from llmcourse.data.rowfiles import Batch, RowFile
from llmcourse.data.texts import identity, squeeze

NO_LABEL = frozenset(("", "-", "nan", "none", "null", "na", "n/a", "#n/a", "<na>"))
"""What programs write where there is no label. A task whose labels include such a word keeps it as a label."""
MAX_VALUES = 1_000
"""How many different values of a label column are remembered."""
MAX_LABELS_SHOWN = 20


class LabelReader:
    """Reads the labels of a file, and remembers its values for the message about those that the task does not have."""

    def __init__(self, file: RowFile):
        self.file = file
        self.rows = 0
        self._seen: dict[str, int | None] = {}
        self._unknown: Counter[str] = Counter()
        self._first: tuple[str, int] | None = None

    def read(self, batch: Batch) -> list[int | None]:
        """Return the label of each row, None for a row that has none or an unknown one."""
        self.rows += len(batch.labels)
        labels = list(map(self._seen.get, batch.labels))
        if None in labels:
            for place, value in enumerate(batch.labels):
                if labels[place] is None:
                    labels[place] = self._label_of(value, batch.number + place)
        return labels

    def _label_of(self, value: str, row: int) -> int | None:
        """Return the label that a value means, and remember what was seen."""
        if value in self._seen:
            label = self._seen[value]
        else:
            label = self.file.task.label_of(value)
            if len(self._seen) < MAX_VALUES:
                self._seen[value] = label
        if label is None and identity(value) not in NO_LABEL:
            self._first = self._first or (value, row)
            self._unknown[squeeze(value) if len(self._unknown) < MAX_VALUES else "..."] += 1
        return label

    def check(self) -> None:
        """Raise CourseError if there were unknown labels."""
        if self._first:
            value, row = self._first
            count = sum(self._unknown.values())
            listed = ""
            if count > 1:
                examples = ", ".join(f"{word!r:.40} ({n:,})" for word, n in self._unknown.most_common(5))
                listed = f" {count:,} of {self.rows:,} rows have such a label: {examples}."
            raise CourseError(f"{unknown_label(self.file, value, row)}{listed} {self._advice(value)}")

    def _advice(self, value: str) -> str:
        """Return what to do about the unknown labels."""
        column, words = self.file.columns["label"], list(self._unknown)
        parts = [part for part in re.split(r"[|,;/+&]", value) if part.strip()]
        if len(parts) > 1 and all(self.file.task.label_of(part) is not None for part in parts):
            return "A row can have one label only. Choose one of them, or leave the row out."
        if len(words) > MAX_LABELS_SHOWN and sum(map(len, words)) > 25 * len(words):
            return f"The column {column!r} seems to hold texts. Name the right one with --column label=COLUMN."
        labels = (value for value, label in self._seen.items() if label is not None or identity(value) not in NO_LABEL)
        every = sorted(set(map(squeeze, labels)))
        advice = "Correct it in the file."
        if 1 < len(every) <= MAX_LABELS_SHOWN:
            advice = f"Correct it in the file, or name the file's labels: --labels={','.join(every)}"
            advice += f" (Task(labels={tuple(every)!r}))."
        if "-1" in words:
            advice += " Note that -1 often stands for a label that is kept secret, and such rows cannot be compared."
        return advice


def unknown_label(file: RowFile, value: str, row: int) -> CourseError:
    """Return the error for a label that the task does not have."""
    task = file.task
    known = [repr(word) for word in task.labels[:MAX_LABELS_SHOWN]]
    known += ["..."] if len(task.labels) > MAX_LABELS_SHOWN else []
    return CourseError(
        f"{file.path}, row {row}: unknown label {value!r:.80}. The task {task.name!r} knows {', '.join(known)}."
    )
