"""What the hub answers, what is in the cache, and whether it is what the hub sent."""

import hashlib
import http.server
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from llmcourse import CourseError
from llmcourse._base import hub
from llmcourse._base.hub import Access

COMMIT = "a" * 40
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right that Windows seldom gives")


@pytest.mark.parametrize(
    ("status", "code", "answer"),
    [
        (200, None, "open"),
        (401, "GatedRepo", "closed"),
        (403, "GatedRepo", "closed"),
        (403, None, "closed"),
        (401, "RepoNotFound", "missing"),
        (503, None, "silent"),
    ],
)
def test_the_hub_is_understood(monkeypatch, status, code, answer):
    """A small server answers as the hub does, so that the errors are the client's own."""
    from huggingface_hub import constants

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            self.wfile.write(b"{}")

        log_message = lambda *_: None  # noqa: E731

    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        assert hub.ask("a/b", None, timeout_s=30) == answer
    finally:
        server.shutdown()
        server.server_close()


def test_the_hub_is_not_asked_without_need(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "_request", lambda repo, token: pytest.fail("the hub was asked"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert hub.find_access("a/b", "c" * 40, True, 1) == Access(None, cached=False, token=True, gated=True)  # offline
    assert hub.find_access(str(tmp_path), None, False, 1).standing == "cached"  # a folder in a repository's place


@pytest.mark.parametrize(
    ("access", "standing", "refused"),
    [
        (Access("closed", cached=True), "cached", False),
        (Access("open", gated=True), "open", False),
        (Access("closed", token=True), "closed", True),
        (Access("missing"), "missing", True),
        (Access("silent", gated=True), "silent", False),
        (Access(gated=True), "not asked", True),
        (Access(gated=True, token=True), "not asked", False),
        (Access(), "not asked", False),
    ],
)
def test_answers_are_judged(access, standing, refused):
    assert (access.standing, access.refused) == (standing, refused)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_model_is_cached_when_config_and_all_weights_are(sharded, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--tiny" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    parts = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)] if sharded else ["model.safetensors"]
    if sharded:
        index = {"weight_map": {f"layer{i}": part for i, part in enumerate(parts)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", *parts):
        assert not hub.is_cached("someone/tiny", COMMIT)
        (folder / name).write_text("{}")
    assert hub.is_cached("someone/tiny", COMMIT)
    assert not hub.is_cached("someone/tiny", "b" * 40)


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
    assert hub.verify(snapshot) == 2
    assert hub.verify(snapshot) == 0
    blob = (snapshot / "config.json").resolve()
    os.utime(blob, ns=(1, 1))  # downloaded again, or touched
    assert hub.verify(snapshot) == 1


def test_git_names_small_files_as_the_hub_does(snapshot):
    from huggingface_hub.utils.sha import git_hash

    config = (snapshot / "config.json").resolve()
    assert git_hash(config.read_bytes()) == config.name


@pytest.mark.parametrize(("name", "kind"), [("model.safetensors", "SHA-256"), ("config.json", "SHA-1")])
@pytest.mark.parametrize("before", [False, True])
def test_a_damaged_file_is_named_with_what_to_do(snapshot, name, kind, before):
    if before:
        hub.verify(snapshot)
    blob = (snapshot / name).resolve()
    content = bytearray(blob.read_bytes())
    content[-2] ^= 1  # the size stays
    blob.write_bytes(content)
    for _ in range(2):
        with pytest.raises(
            CourseError, match=rf"^{name} is damaged.*its {kind}.*expected {blob.name}\. Delete {blob} and"
        ):
            hub.verify(snapshot)
    blob.unlink()  # the other one is looked at still
    assert hub.verify(snapshot) == (0 if before else 1)


def test_what_carries_no_hash_is_passed_over(snapshot, tmp_path):
    (snapshot / "README.md").write_text("a copy, as on a Windows without links")
    (snapshot / "strange").symlink_to(tmp_path / "hub" / "strange")
    (tmp_path / "hub" / "strange").write_text("a link to something else")
    assert hub.verify(snapshot) == 2
    assert hub.verify(tmp_path) == 0  # a folder of one's own in the place of a repository


def test_a_mark_that_cannot_be_kept_or_read_costs_time_only(snapshot, tmp_path, monkeypatch):
    assert hub.verify(snapshot) == 2
    (mark,) = (tmp_path / "course" / "verified").glob("*.json")
    mark.write_text("[1, 2")
    assert hub.verify(snapshot) == 2
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "file"))
    assert hub.verify(snapshot) == hub.verify(snapshot) == 2


def test_a_model_is_found_by_its_repository(snapshot, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert hub.verify_model("someone/tiny", "b" * 40) == 0
    assert hub.verify_model("someone/tiny", COMMIT) == 2
    assert hub.verify_model("someone/tiny", None) == 0  # all commits, read just now
    assert hub.verify_model(str(tmp_path), None) == 0
