"""What became of the rows of a file, in words."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.data.csvfiles import OPEN_QUOTE, UNQUOTED

if TYPE_CHECKING:
    from llmcourse.data.rows import Rows

NAMES = {"train": "training", "test": "test"}
MAX_LABELS_LISTED = 10
UNEVEN = 1.2
"""Labels are uneven if the commonest has more than this many times the rows of the rarest."""
FEW_ROWS = 10
"""With fewer rows of a label on one side, a note says that they are few."""

WORDS = {
    "rejected": "unreadable line",
    "no_label": "without a label",
    "empty": "without a text",
    "too_long": "too long",
    "duplicates": "duplicate",
    "contradictory": "contradictory",
    "shared_with_test": "shared with the test rows",
    "other_split": "of another split",
    "unbalanced": "for balance",
    "not_asked_for": "beyond the number asked for",
}
"""The report's reasons in words. All but the first count rows, those that can be in neither side."""


def in_words(report: Mapping[str, Any], reasons: Sequence[str] = tuple(WORDS)) -> str:
    """Return how many rows were left out for which reason, such as "3 without a text, 2 duplicates"."""
    counts = [(report.get(reason, 0), WORDS[reason]) for reason in reasons]
    plural = {"unreadable line": "unreadable lines", "duplicate": "duplicates"}
    return ", ".join(f"{count:,} {word if count == 1 else plural.get(word, word)}" for count, word in counts if count)


def are_uneven(counts: Collection[int]) -> bool:
    """Return whether some labels have so many more rows than others that accuracy says little without macro-F1."""
    return max(counts) > UNEVEN * min(counts)


def describe(rows: "Rows") -> str:
    """Return what was read, left out and kept, in a few lines."""
    return "\n".join([*_describe_reading(rows), *_describe_sides(rows)])


def _describe_reading(rows: "Rows") -> list[str]:
    report, source = rows.report, " and ".join([rows.source, *rows.report.get("test_file", ())])
    left_out = in_words(report)
    listed = f" (left out: {left_out})" if left_out else ""
    lines = [
        f"{report['read']:,} rows read from {source}{listed}: {len(rows.train):,} to train on,"
        f" {len(rows.test):,} to test on."
    ]
    if report.get("rejected_lines"):
        numbers = ", ".join(map(str, report["rejected_lines"][:10]))
        more = " ..." if len(report["rejected_lines"]) > 10 else ""
        lines.append(f"Unreadable lines: {numbers}{more} ({report['rejected_reason']}).")
        if report["rejected_reason"] == OPEN_QUOTE:
            lines.append(UNQUOTED)
    return lines


def _describe_sides(rows: "Rows") -> list[str]:
    report, lines = rows.report, []
    sides = [(side, report[side]) for side in ("train", "test") if report.get(side)]
    uneven = any(are_uneven(counts.values()) for _, counts in sides)
    if uneven and len(rows.task.labels) <= MAX_LABELS_LISTED:
        shown = "; ".join(f"{side} " + ", ".join(f"{n:,} {w}" for w, n in counts.items()) for side, counts in sides)
        lines.append(f"Rows of each label: {shown}.")
    if uneven:
        word, most = max(report["test"].items(), key=lambda item: item[1])
        share = most / len(rows.test)
        lines.append(f"Always answering {word!r} is right on {share:.0%} of the test rows. Compare macro-F1 instead.")
    for side, counts in sides:
        if f"{side}_wanted" in report:
            lines.append(
                f"Note: you asked for {report[f'{side}_wanted']:,} {NAMES[side]} rows. The labels and distinct groups"
                f" leave {sum(counts.values()):,}."
            )
        few = [f"{word!r} ({count})" for word, count in counts.items() if count < FEW_ROWS]
        if few:
            more = f" and {len(few) - 5} more" if len(few) > 5 else ""
            lines.append(
                f"Note: fewer than {FEW_ROWS} {NAMES[side]} rows have the label {', '.join(few[:5])}{more}. "
                + ("That is little to learn from." if side == "train" else "Their scores will be uncertain.")
            )
    if count := report.get("shared_with_test"):
        shared = rows.task.group_column or "text"
        what = "1 training row shares" if count == 1 else f"{count:,} training rows share"
        lines.append(f"Note: {what} a {shared} with test rows. {'It is' if count == 1 else 'They are'} left out.")
    return lines
