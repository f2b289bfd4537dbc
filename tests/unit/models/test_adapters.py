"""Adapters on disk: the course's own are read, and each is bound to its base."""

import pytest

from llmcourse import models
from llmcourse.models import adapters


@pytest.mark.parametrize("task", ["sarcasm", "support"])
def test_the_course_s_own_are_read(task):
    folder = models.shipped_adapter(task)
    assert adapters.task_of(models.read_card(folder)).name == task
    assert adapters.read_config(folder).r > 0
