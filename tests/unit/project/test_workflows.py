"""The workflows are well-formed, and call what exists: make targets, scripts, environment variables that something
reads."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = {path.name: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PYTHONS = ["3.11", "3.12", "3.13"]  # as README.md says; strings, since 3.10 would be read as 3.1


def jobs(name: str) -> dict[str, dict]:
    return yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))["jobs"]


def commands(name: str) -> list[str]:
    return [step["run"] for job in jobs(name).values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_calls_what_exists(name):
    targets = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[1].split())
    for command in commands(name):
        for target in re.findall(r"\bmake ([\w-]+)", command):
            assert target in targets and re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE), target
        for script in re.findall(r"\.ci/[\w-]+", command):
            assert os.access(ROOT / script, os.X_OK), script
            subprocess.run(["bash", "-n", ROOT / script], check=True)
    for job in jobs(name).values():
        assert job["timeout-minutes"] <= 120
        if any("run" in step for step in job["steps"]):
            assert job["steps"][0]["uses"].startswith("actions/checkout@")


def test_pushes_run_the_tests_and_weeks_the_newest():
    assert {"ci.yml", "weekly.yml"} <= set(WORKFLOWS)
    assert ".ci/run" in commands("ci.yml")
    weekly = commands("weekly.yml")
    assert {"make test-newest", "make test-colab", "make test-trust"} <= set(weekly)
    assert any("colab-images/public/runtime" in command and ".ci/colab-image" in command for command in weekly)
    versions = jobs("weekly.yml")["newest"]["strategy"]["matrix"]["python"]
    assert versions == PYTHONS == jobs("ci.yml")["test"]["strategy"]["matrix"]["python"]


def test_a_release_waits_for_the_tests_on_colabs_versions():
    release = jobs("release.yml")
    (publishing,) = [
        job for job in release.values() if any("gh release" in step.get("run", "") for step in job["steps"])
    ]
    assert publishing["needs"] == "colab-versions" and "if" not in publishing
    waited_for = release["colab-versions"]
    assert "make test-colab" in [step.get("run") for step in waited_for["steps"]]
    assert "if" not in waited_for and not waited_for.get("continue-on-error")


@pytest.mark.parametrize(
    ("target", "file"), [("test-colab", "constraints-colab.txt"), ("test-newest", ""), ("test", "constraints.txt")]
)
def test_each_target_installs_from_its_own_list(target, file):
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "TORCH_INDEX"))
    }
    command = ["make", "-n", "-B", target, "VENV=nowhere"]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    installs = [line for line in lines if "--editable" in line]
    assert len(installs) == (2 if target == "test" else 1)
    for line in installs:
        assert re.findall(r"--constraint (\S+)", line) == ([file] if file else []), line
    told = re.findall(r"LLMCOURSE_CONSTRAINTS=(\S*)", done.stdout)
    assert told == ([] if target == "test" else [file])
    verified = [line for line in lines if "--requirement lock/" in line]
    if target == "test":  # hashes for every file, and what is left to do needs no index
        assert re.findall(r"--requirement lock/(\w+)\.txt", "\n".join(verified)) == [
            "torch",
            "torch",
            "cuda",
            "course",
            "dev",
        ]
        for part in re.findall(r"pip --\S+ install[^|;]*--requirement lock/[^|;]*", "\n".join(verified)):
            assert "--require-hashes --no-deps --only-binary :all:" in part
        assert all("--no-index --no-build-isolation" in line for line in installs)
        assert {line for line in lines if " install " in line} == {*verified, *installs}
    else:  # torch is never taken unpinned where there is a list
        assert not verified
        torch = [line for line in lines if line.endswith(" torch")]
        assert [bool(re.search("--constraint .* torch$", line)) for line in torch] == [bool(file)]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_commit(name):
    used = [step["uses"] for job in jobs(name).values() for step in job["steps"] if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
