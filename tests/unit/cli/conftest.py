"""Each test of a command runs in an empty folder."""

import pytest

from llmcourse import models
from llmcourse.models import embedded


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny_instead(monkeypatch, tiny):
    """Commands load a tiny random model in place of any other, as if it were the embedded one."""
    tiny.base = {"name": embedded.NAME, "sha256": embedded.SHA256}
    monkeypatch.setattr(models, "load", lambda name=models.EMBEDDED: tiny)
    return tiny
