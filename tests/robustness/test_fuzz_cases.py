"""What fuzzing found, and the seeds that it starts from, pass: no case is forgotten once it is mended."""

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "fuzz"
spec = importlib.util.spec_from_file_location("fuzz_targets", HERE / "targets.py")
targets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(targets)
CASES = sorted((HERE / "cases").glob("*/*"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_kept_case_passes(path):
    targets.TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_seeds():
    assert {path.parent.name for path in CASES} == set(targets.TARGETS)


def test_seeds_reach_what_is_fuzzed(monkeypatch):
    """A seed that is refused at once would teach the fuzzer nothing."""
    read = []
    monkeypatch.setattr(
        targets.data,
        "read_all",
        lambda *args, real=targets.data.read_all, **how: read.append(real(*args, **how)) or read[-1],
    )
    for path in (HERE / "cases" / "loaders").glob("seed-*"):
        targets.loaders(path.read_bytes())
    assert len(read) >= 4
