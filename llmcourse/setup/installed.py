"""What is installed, against what the course declares and what it was tested with. Imports nothing that it asks about."""

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
"""Modules whose package has another name."""

UNTOUCHED = ("torch", "numpy")
"""Never installed from a notebook: other packages are compiled against them, and the kernel has often loaded them."""

TORCHAO = Version("0.16")
"""PEFT raises an ImportError on any older torchao, wanted or not; Colab brings 0.10."""


class Swap(NamedTuple):
    """A package that was replaced on disk after this process had loaded it: half of each is in use."""

    name: str
    loaded: str
    installed: str


def version(name: str) -> str | None:
    """The installed version of a package; None if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requirements() -> list[Requirement] | None:
    """What pyproject.toml declares, extras aside; None when the course lies in a folder without being installed."""
    return None if version("llmcourse") is None else _requirements("llmcourse")


def unmet(needs: Iterable[Requirement], versions: Mapping[str, str | None]) -> list[Requirement]:
    """Those of `needs` that `versions` (package -> version, None where missing) does not satisfy."""
    return [
        need
        for need in needs
        if versions.get(need.name) is None or not need.specifier.contains(versions[need.name], prereleases=True)
    ]


def tested(colab: bool = False) -> dict[str, str]:
    """One set of versions that was tested together: package -> version, names in lower case with dashes.

    The list lies beside the package in a clone, and comes with it in a wheel.
    """
    name = "constraints-colab.txt" if colab else "constraints.txt"
    path = Path(__file__).parents[2] / name
    if not path.is_file():
        try:
            found = [file for file in metadata.files("llmcourse") or () if file.name == name]
        except metadata.PackageNotFoundError:
            found = []
        if not found:
            return {}
        path = Path(found[0].locate())
    return dict(pins(path.read_text(encoding="utf-8")))


def pins(constraints: str) -> Iterable[tuple[str, str]]:
    """The pairs of package and version in a constraints file."""
    for line in constraints.splitlines():
        if found := re.match(r"([\w.-]+)==([\w.+!]+)", line):
            yield canonicalize_name(found[1]), found[2]


def swaps() -> list[Swap]:
    """Packages of the course whose loaded version is not the installed one, as after a pip install in a live kernel."""
    ours, found = closure(), []
    for name, module in sorted(sys.modules.items()):
        # not getattr(): modules that load their parts on demand would do so now
        loaded = getattr(module, "__dict__", {}).get("__version__")
        package = canonicalize_name(MODULES.get(name, name))
        if package in ours and isinstance(loaded, str) and (now := version(package)) and not _same(loaded, now):
            found.append(Swap(package, loaded, now))
    return found


def closure(name: str = "llmcourse") -> set[str]:
    """The installed packages that `name` needs, directly or through others; itself included."""
    found, todo = set(), [name]
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found or version(name) is None:
            continue
        found.add(name)
        todo += [need.name for need in _requirements(name)]
    return found


def _requirements(name: str) -> list[Requirement]:
    every = map(Requirement, metadata.requires(name) or ())
    return [need for need in every if not need.marker or need.marker.evaluate({"extra": ""})]


def _same(one: str, other: str) -> bool:
    """2026.05.20 is 2026.5.20, and 2026.10.19 of a module that forgot that it is 2026.10.19.post1; builds (+cu128, +cpu) are told
    apart where both name one: PyPI's torch calls itself 2.13.0+cu130 and is installed as 2.13.0."""
    try:
        a, b = Version(one), Version(other)
        return Version(a.base_version) == Version(b.base_version) and (a.local == b.local or None in (a.local, b.local))
    except InvalidVersion:
        return one == other
