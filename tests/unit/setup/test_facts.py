"""What preflight finds out about the machine, the hub and the disk."""

import subprocess
import sys
import time

import pytest

from llmcourse._base import hub
from llmcourse.setup import facts, preflight
from llmcourse.setup.facts import Needs

SMALL = Needs("smollm2-135m", download_gib=0.5, ram_gib=2, minutes=(("prompt", 4), ("train", 8)))
BIG = Needs("mistral-7b-4bit", "unsloth/mistral-7b-bnb-4bit", False, None, 3.9, 6, 7, (("prompt", 10), ("train", 20)))


def test_looking_is_quick_and_light():
    code = """
import sys
import llmcourse.setup.preflight as preflight
seen = preflight.look(preflight.Needs("x", repo="a/b", gated=True, download_gib=1.0))
print(seen.access.answer, seen.requirements is not None, seen.versions["torch"])
print(*sys.modules)
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 10
    first, modules = done.stdout.splitlines()
    assert (
        first.startswith("None True ") and first.split()[2][0].isdigit()
    )  # the tests are offline: the hub was not asked
    assert not {name.split(".")[0] for name in modules.split()} & {"torch", "transformers", "numpy", "datasets"}


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    monkeypatch.setattr(facts, "HUB_SECONDS", 0.2)
    monkeypatch.setattr(hub, "_request", lambda repo, token: time.sleep(2) or "open")
    access = preflight.look(BIG).access
    assert access.standing == "silent" and access.token and "hf_secret" not in repr(access)
    monkeypatch.setattr(hub, "_request", lambda repo, token: {"hf_secret": "closed"}[token])
    assert preflight.look(BIG).access.answer == "closed"


def test_what_is_cached_is_counted(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    blobs = tmp_path / "hub" / "models--unsloth--mistral-7b-bnb-4bit" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_bytes(b"x" * 2**20)
    seen = preflight.look(BIG)
    assert seen.cache == str(tmp_path / "hub") and seen.cached_gib == pytest.approx(1 / 1024)
    monkeypatch.setenv("LLMCOURSE_CACHE", str(blobs / "abc" / "under-a-file"))
    assert not preflight.look(SMALL).cache_writable


def test_the_rate_of_hashing_is_measured_where_something_is_hashed(monkeypatch):
    assert preflight.look(BIG).hash_gib_s > 0.01 and preflight.look(SMALL).hash_gib_s == 0
    clock = iter((10.0, 10.5))
    monkeypatch.setattr(facts.time, "perf_counter", lambda: next(clock))
    assert facts._hash_rate(mib=64) == pytest.approx(0.125)


def test_cuda_is_read_from_torch(monkeypatch):
    from importlib import metadata

    class Torch:
        requires = ("nvidia-cudnn-cu13==9.1; platform_system == 'Linux'", "sympy")

        def __init__(self, version):
            self.version = version

    for version, cuda in (("2.11.0+cu128", 12), ("2.13.0+cpu", None), ("2.13.0", 13)):
        monkeypatch.setattr(metadata, "distribution", lambda name, version=version: Torch(version))
        assert facts._cuda() == cuda


@pytest.mark.parametrize(
    ("script", "expected"),
    [("echo 'GPU 0: Tesla T4 (UUID: x)'; echo 'GPU 1: Tesla T4 (UUID: y)'", (2, False)), ("exit 9", (0, True))],
)
def test_gpus_are_counted(monkeypatch, tmp_path, script, expected):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert facts._gpus() == expected
