"""Rows: the course's tasks, and their rows from the bundled corpora, from Kaggle or the hub, or from your own file."""

from llmcourse.data import handbook, injections, screen
from llmcourse.data.rows import Rows, groups, in_order, load, load_first, read_all, rows_id, stream
from llmcourse.data.sources import bundled_path, corpus_path
from llmcourse.data.tasks import SARCASM, SENTIMENT, SUPPORT, TALK_EXAMPLES, TASKS, Task

__all__ = [
    "SARCASM",
    "SENTIMENT",
    "SUPPORT",
    "TALK_EXAMPLES",
    "TASKS",
    "Rows",
    "Task",
    "bundled_path",
    "corpus_path",
    "groups",
    "handbook",
    "in_order",
    "injections",
    "load",
    "load_first",
    "read_all",
    "rows_id",
    "screen",
    "stream",
]
