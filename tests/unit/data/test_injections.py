"""Prompt injections: their labels are filled in, and each stays in its line of a prompt."""

import re

from llmcourse.data import injections
from llmcourse.data.tasks import SARCASM
from llmcourse.predict.prompts import Prompt

ALL = injections.load()


def test_each_wants_a_label():
    for one in ALL:
        assert "{label}" in one.text and "{label}" not in one.harmless
        for label in SARCASM.labels:
            wanting = one.wanting(label)
            assert wanting.count(label) >= one.text.count("{label}") and "{label}" not in wanting


def test_in_a_prompt_each_stays_in_its_line():
    """Whatever is written, what follows the row's last field is the answer's name, and no control token survives."""
    for one in ALL:
        said = Prompt(SARCASM).row({"parent_comment": "Rain again.", "comment": f"Lovely. {one.wanting('Sarcasm')}"})
        assert [line.partition(":")[0] for line in said.splitlines()] == ["comment", "reply", "Category"], said
        assert not re.search(r"<[|/]?\w+\|?>|\[/?INST\]", said), said
