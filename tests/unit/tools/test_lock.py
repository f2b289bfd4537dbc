"""The lock admits what was tested and nothing else; what is not pinned by a hash is said in SECURITY.md."""

import hashlib
import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.utils import canonicalize_name

from llmcourse.data import tasks
from llmcourse.models import catalogue, embedded
from llmcourse.predict import retrieval
from llmcourse.setup import installed

ROOT = Path(__file__).parents[3]
PARTS = ("torch", "cuda", "course", "dev")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PINS = dict(installed.pins((ROOT / "constraints.txt").read_text(encoding="utf-8")))


def entries(part: str) -> dict[str, tuple[str, str | None, list[str]]]:
    """Package -> version, marker, hashes."""
    text = (ROOT / "lock" / f"{part}.txt").read_text(encoding="utf-8")
    found = {}
    for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
        first, *hashes = (line.strip().removesuffix("\\").strip() for line in block.splitlines())
        name, version, marker = re.fullmatch(r"([\w.-]+)==(\S+)(?: ; (.+))?", first).groups()
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), block
        found[canonicalize_name(name)] = (version, marker, [line.rpartition(":")[2] for line in hashes])
    return found


LOCKED = {part: entries(part) for part in PARTS}
EVERY = {name: entry for part in PARTS for name, entry in LOCKED[part].items()}


def test_every_pinned_version_has_hashes_and_nothing_else_is_admitted():
    assert len(EVERY) == sum(map(len, LOCKED.values())), "a package is in two parts"
    assert set(PINS) <= set(EVERY), "run `make lock`"
    assert {name: EVERY[name][0] for name in PINS} == PINS, "run `make lock`"
    assert all(hashes for _, _, hashes in EVERY.values())
    wheels = dict(wheel.split("==") for wheel in (embedded.WHEEL, retrieval.WHEEL))
    assert {name: LOCKED["course"][name][0] for name in wheels} == wheels
    # besides, only what some system or interpreter needs that constraints.txt was not made on
    here = {"extra": "", "sys_platform": "linux", "implementation_name": "cpython", "platform_machine": "x86_64"}
    for name in EVERY.keys() - PINS.keys() - wheels.keys() - LOCKED["cuda"].keys():
        assert EVERY[name][1] and not Marker(EVERY[name][1]).evaluate(here), name
    for version, marker, _ in LOCKED["cuda"].values():
        assert version and "sys_platform == 'linux'" in marker


def test_both_builds_of_torch_are_admitted():
    spec = importlib.util.spec_from_file_location("write", ROOT / "tools" / "lock.py")
    write = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(write)
    version, marker, hashes = LOCKED["torch"]["torch"]
    assert write.CPU_TORCH == version == PINS["torch"] and marker is None
    assert set(write.CPU_BUILDS.values()) < set(hashes)
    pythons = {name.split("-")[0] for name in write.CPU_BUILDS}
    assert pythons == {"cp311", "cp312", "cp313"} and len(write.CPU_BUILDS) == 6  # both processors of Linux
    assert len(hashes) > 12 + 6  # PyPI's: those Pythons on Linux (with CUDA), macOS and Windows
    assert set(write.model_wheels()) == {embedded.WHEEL, retrieval.WHEEL}


def wheel(folder: Path, text: str) -> Path:
    path = folder / "tiny_thing-1-py3-none-any.whl"
    parts = {
        "tiny_thing.py": text,
        "tiny_thing-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1\n",
        "tiny_thing-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_thing-1.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("right", [True, False])
def test_a_file_with_another_hash_is_not_installed(tmp_path, right):
    """With pip as the Makefile calls it: the lock's format, and a wheel that was changed after the lock was written."""
    verified = re.search(r"^VERIFIED = (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    digest = hashlib.sha256(wheel(tmp_path, "good = True\n").read_bytes()).hexdigest()
    (tmp_path / "lock.txt").write_text(f"tiny-thing==1 \\\n    --hash=sha256:{digest}\n")
    if not right:
        wheel(tmp_path, "good = False\n")
    command = [sys.executable, "-m", "pip", "install", *verified.split(), "--requirement", str(tmp_path / "lock.txt")]
    command += ["--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "there")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == right, done.stderr
    assert (tmp_path / "there" / "tiny_thing.py").exists() == right
    assert right or "DO NOT MATCH THE HASHES" in done.stderr


def test_what_comes_from_hubs_is_pinned_by_a_full_commit_or_named_as_not_pinned():
    for base in catalogue.BASES.values():
        is_pinned = base.repo is None or re.fullmatch(r"[0-9a-f]{40}", base.revision or "")
        assert is_pinned or f"**`{base.repo}`** is not pinned" in SECURITY, base.name
    for task in tasks.TASKS.values():
        assert task.hub is None or re.fullmatch(r"[0-9a-f]{40}", task.hub[2]), task.name
        assert task.kaggle is None or "/versions/" in task.kaggle[0] or task.kaggle[0] in SECURITY
