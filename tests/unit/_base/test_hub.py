"""What was downloaded from the hub is compared with its hashes: once, and again when it changed."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from llmcourse import CourseError
from llmcourse._base import hub

COMMIT = "a" * 40
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right that Windows seldom gives")


@pytest.fixture
def snapshot(tmp_path, monkeypatch) -> Path:
    """A model's folder as the hub's client leaves it: one large file, one small one, and the links."""
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "course"))
    repo = tmp_path / "hub" / "models--someone--tiny"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    weights, config = b"weights" * 1000, b'{"hidden_size": 32}\n'
    names = {
        "model.safetensors": (hashlib.sha256(weights).hexdigest(), weights),
        "config.json": (hashlib.sha1(b"blob %d\0%s" % (len(config), config)).hexdigest(), config),
    }
    for name, (blob, content) in names.items():
        (repo / "blobs" / blob).write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    return snapshot


def test_each_file_is_read_once(snapshot):
    assert hub.check(snapshot) == 2
    assert hub.check(snapshot) == 0
    blob = (snapshot / "config.json").resolve()
    os.utime(blob, ns=(1, 1))  # downloaded again, or touched
    assert hub.check(snapshot) == 1


def test_git_names_small_files_as_the_hub_does(snapshot):
    from huggingface_hub.utils.sha import git_hash

    config = (snapshot / "config.json").resolve()
    assert git_hash(config.read_bytes()) == config.name


@pytest.mark.parametrize(("name", "kind"), [("model.safetensors", "SHA-256"), ("config.json", "SHA-1")])
@pytest.mark.parametrize("before", [False, True])
def test_a_damaged_file_is_named_with_what_to_do(snapshot, name, kind, before):
    if before:
        hub.check(snapshot)
    blob = (snapshot / name).resolve()
    content = bytearray(blob.read_bytes())
    content[-2] ^= 1  # the size stays
    blob.write_bytes(content)
    for _ in range(2):
        with pytest.raises(
            CourseError, match=rf"^{name} is damaged.*its {kind}.*expected {blob.name}\. Delete {blob} and"
        ):
            hub.check(snapshot)
    blob.unlink()  # the other one is looked at still
    assert hub.check(snapshot) == (0 if before else 1)


def test_what_carries_no_hash_is_passed_over(snapshot, tmp_path):
    (snapshot / "README.md").write_text("a copy, as on a Windows without links")
    (snapshot / "strange").symlink_to(tmp_path / "hub" / "strange")
    (tmp_path / "hub" / "strange").write_text("a link to something else")
    assert hub.check(snapshot) == 2
    assert hub.check(tmp_path) == 0  # a folder of one's own in the place of a repository


def test_a_mark_that_cannot_be_kept_or_read_costs_time_only(snapshot, tmp_path, monkeypatch):
    assert hub.check(snapshot) == 2
    (mark,) = (tmp_path / "course" / "verified").glob("*.json")
    mark.write_text("[1, 2")
    assert hub.check(snapshot) == 2
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "file"))
    assert hub.check(snapshot) == hub.check(snapshot) == 2


def test_a_model_is_found_by_its_repository(snapshot, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert hub.check_model("someone/tiny", "b" * 40) == 0
    assert hub.check_model("someone/tiny", COMMIT) == 2
    assert hub.check_model("someone/tiny", None) == 0  # all commits, read just now
    assert hub.check_model(str(tmp_path), None) == 0
