"""Compare what is installed with what the course declares and was tested with, without importing any of it."""

import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

MODULES = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml", "dateutil": "python-dateutil"}
"""Module -> package, where their names differ."""

UNTOUCHED = ("torch", "numpy")
"""Never installed from a notebook: other packages are compiled against them, and the kernel has often loaded them."""

TORCHAO = Version("0.16")
"""PEFT raises ImportError if any older torchao is installed, even if it is not used. Colab brings 0.10."""


class Swap(NamedTuple):
    """A package that was replaced on disk after this process had loaded it, so that both versions are in use."""

    name: str
    loaded: str
    installed: str


def version(name: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requirements() -> list[Requirement] | None:
    """Return what pyproject.toml declares, without extras; None if the course is not installed."""
    return None if version("llmcourse") is None else _requirements("llmcourse")


def unmet(needs: Iterable[Requirement], versions: Mapping[str, str | None]) -> list[Requirement]:
    """Return those of `needs` that `versions` (package -> version, None if missing) does not satisfy."""

    def satisfied(need: Requirement) -> bool:
        have = versions.get(need.name)
        return have is not None and need.specifier.contains(have, prereleases=True)

    return [need for need in needs if not satisfied(need)]


def tested(colab: bool = False) -> dict[str, str]:
    """Return one set of versions that was tested together: package -> version, names in lower case with dashes.

    In a clone the list is beside the package; a wheel carries it. Returns nothing if there is no list.
    """
    name = "constraints-colab.txt" if colab else "constraints.txt"
    path = Path(__file__).parents[2] / name
    if not path.is_file():
        try:
            paths = [file for file in metadata.files("llmcourse") or () if file.name == name]
        except metadata.PackageNotFoundError:
            paths = []
        if not paths:
            return {}
        path = Path(str(paths[0].locate()))
    return dict(pins(path.read_text(encoding="utf-8")))


def pins(constraints: str) -> Iterable[tuple[str, str]]:
    """The pairs of package and version in a constraints file."""
    for line in constraints.splitlines():
        if found := re.match(r"([\w.-]+)==([\w.+!]+)", line):
            yield canonicalize_name(found[1]), found[2]


def swaps() -> list[Swap]:
    """Return the course's packages whose loaded version is not the installed one, as after pip in a running kernel."""
    ours, swapped = closure(), []
    for name, module in sorted(sys.modules.items()):
        # not getattr(), because modules that load their parts on demand would load them now
        loaded = getattr(module, "__dict__", {}).get("__version__")
        package = canonicalize_name(MODULES.get(name, name))
        if package in ours and isinstance(loaded, str) and (now := version(package)) and not _same(loaded, now):
            swapped.append(Swap(package, loaded, now))
    return swapped


def closure(name: str = "llmcourse") -> set[str]:
    """Return the installed packages that `name` needs, directly or through others, itself included."""
    needed: set[str] = set()
    todo = [name]
    while todo:
        name = canonicalize_name(todo.pop())
        if name in needed or version(name) is None:
            continue
        needed.add(name)
        todo += [need.name for need in _requirements(name)]
    return needed


def _requirements(name: str) -> list[Requirement]:
    requirements = map(Requirement, metadata.requires(name) or ())
    return [need for need in requirements if not need.marker or need.marker.evaluate({"extra": ""})]


def _same(loaded: str, installed: str) -> bool:
    """Return whether a module and its package have the same version, however each writes it.

    2026.05.20 is 2026.5.20, and a module may leave out .post1. Builds (+cu128, +cpu) count only if both name one:
    PyPI's torch calls itself 2.13.0+cu130 and is installed as 2.13.0.
    """
    try:
        a, b = Version(loaded), Version(installed)
        return Version(a.base_version) == Version(b.base_version) and (a.local == b.local or None in (a.local, b.local))
    except InvalidVersion:
        return loaded == installed
