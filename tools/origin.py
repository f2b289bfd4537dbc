"""Write the course's public address into pyproject.toml, CITATION.cff, the notebooks' first cells and the Colab badges.

    python -m tools.origin owner/name       # set or change the repository on GitHub
    python -m tools.origin                  # only rewrite the other files, from what pyproject.toml says
    python -m tools.origin --check          # a dry run: would each notebook open in Colab and install from there?

pyproject.toml is the only place that records the address ([project.urls] Repository). As long as it has none, the first
cell installs the course from a wheel beside the notebook, and no badge is shown.

The cell installs the course alone, then asks it what else is missing (`llmcourse.setup.firstcell`). It never touches
torch or numpy, and it does not silence pip, because Colab offers its restart button when it reads pip's output.
"""

import argparse
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse import CourseError  # nothing else at the top: the site has no dependencies of the course

if TYPE_CHECKING:
    from nbformat import NotebookNode

MARK = "# Run this first"
CELL = f"""\
{MARK}. On Colab it installs the course. If the course is already installed, it does nothing.
from glob import glob
from importlib.util import find_spec

if find_spec("llmcourse") is None:
SOURCE
    %pip install --no-deps {{course[0]}}

from llmcourse import setup

setup.install()"""
WHEEL = """\
    course = glob("llmcourse-*.whl")
    assert course, "Put llmcourse-*.whl beside this notebook (Colab: folder icon, upload). See docs/setup.md.\""""
WHEEL_OR_REPOSITORY = """\
    course = glob("llmcourse-*.whl") or ["git+https://github.com/REPOSITORY"]"""

COLAB = "https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}"
BADGE = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({COLAB})"
_BADGE_LINES = re.compile(r"^\[!\[Open in Colab\]\(.*\)\n*", flags=re.MULTILINE)
_CITED = re.compile(r"^repository-code: .*\n", flags=re.MULTILINE)
_README_BADGES = re.compile(r"(<!-- badges:start -->\n).*?(<!-- badges:end -->)", flags=re.DOTALL)
URLS = {
    "Repository": "https://github.com/{repository}",
    "Issues": "https://github.com/{repository}/issues",
    "Changelog": "https://github.com/{repository}/blob/main/CHANGELOG.md",
}
"""What [project.urls] gets."""


def repository(root: Path) -> str | None:
    """Return owner/name of the course on GitHub, as pyproject.toml records it; None if it records none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url = project.get("urls", {}).get("Repository", "")
    return url.removeprefix("https://github.com/") or None


def cell(repository: str | None) -> str:
    """Return the code of the notebooks' first cell."""
    source = WHEEL_OR_REPOSITORY.replace("REPOSITORY", repository) if repository else WHEEL
    return CELL.replace("SOURCE", source)


def add_cell(notebook: "NotebookNode", name: str, repository: str | None) -> None:
    """Put the first cell and the badge into a notebook object, replacing older ones, and normalise it."""
    import nbformat

    from tools import notebooks

    title = notebook.cells[0]
    title.source = _BADGE_LINES.sub("", title.source)
    if repository:
        heading, _, text = title.source.partition("\n")
        badge = BADGE.format(repository=repository, name=name)
        title.source = f"{heading}\n\n{badge}\n\n{text.lstrip()}".rstrip()
    rest = [cell for cell in notebook.cells[1:] if not cell.source.startswith(MARK)]
    notebook.cells = [title, nbformat.v4.new_code_cell(cell(repository)), *rest]
    notebooks.normalise(notebook)


def rewritten(root: Path) -> dict[Path, str]:
    """Return every file that names the repository, with the text that it should have."""
    import nbformat

    address = repository(root)
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    texts = {}
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        add_cell(notebook, path.name, address)
        texts[path] = nbformat.writes(notebook) + "\n"
    badges = [f"{BADGE.format(repository=address, name=path.name)} `{path.name}`\n\n" for path in paths if address]
    readme = root / "README.md"
    texts[readme] = _README_BADGES.sub(rf"\1{''.join(badges)}\2", readme.read_text(encoding="utf-8"))
    citation = root / "CITATION.cff"
    cited = _CITED.sub("", citation.read_text(encoding="utf-8"))
    if address:
        cited = cited.replace(
            "authors:\n", f'repository-code: "{URLS["Repository"].format(repository=address)}"\nauthors:\n', 1
        )
    texts[citation] = cited
    return texts


def problems(root: Path) -> list[str]:
    """Return what would keep a notebook from opening in Colab or from installing the course there, in sentences.

    Nothing is fetched. The package that pip would build from GitHub is built from this clone, and asked for what the
    first cell calls.
    """
    address = repository(root)
    if not address:
        return ["The course has no address yet. Type: make origin REPO=owner/name"]
    found = [
        f"{path.name} does not have its new text. Type: make origin"
        for path, text in rewritten(root).items()
        if path.read_text(encoding="utf-8") != text
    ]
    tracked = _run(root, "git", "ls-files").stdout.splitlines()
    if changed := _run(root, "git", "status", "--porcelain").stdout.splitlines():
        found.append(f"{len(changed)} files are not committed, so GitHub does not have them. Commit and push.")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if f"notebooks/{path.name}" not in tracked:
            found.append(f"notebooks/{path.name} is not in git, so its badge leads nowhere. Type: git add")
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")
        built = _run(root, *pip, "--no-build-isolation", "--target", folder, ".")
        paths = [folder, sysconfig.get_path("purelib")]  # without the .pth file that leads to this clone
        called = f"import sys; sys.path[:0] = {paths!r}; from llmcourse import setup; setup.install"
        for done in (built, _run(Path(folder), sys.executable, "-I", "-S", "-c", called)):
            if done.returncode:
                found.append(f"The course cannot be installed from this clone: {done.stderr.strip()[-300:]}")
    return found


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def record(root: Path, repository: str) -> None:
    """Write the addresses of owner/name into pyproject.toml. Raises CourseError if this is not a name on GitHub."""
    from llmcourse._base import files

    if not re.fullmatch(r"[A-Za-z0-9-]+/[\w.-]+", repository):
        raise CourseError(f"{repository!r} is not a repository on GitHub. Write it as owner/name.")
    path = root / "pyproject.toml"
    text = re.sub(r"^\[project\.urls\]\n(?:\w+ = .*\n)*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    urls = "".join(f'{name} = "{url.format(repository=repository)}"\n' for name, url in URLS.items())
    files.write_text(path, text.replace("[project.scripts]\n", f"[project.urls]\n{urls}\n[project.scripts]\n"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite what names the repository and print the files that changed, or check what would happen in Colab."""
    from llmcourse._base import files

    parser = argparse.ArgumentParser(prog="python -m tools.origin", description="Write first cells and badges.")
    parser.add_argument("repository", nargs="?", metavar="owner/name", help="where the course lives on GitHub")
    parser.add_argument("--check", action="store_true", help="change nothing; say what would not work in Colab")
    parser.add_argument("--root", type=Path, default=Path(), help="the course's folder (default: here)")
    options = parser.parse_args(arguments)
    try:
        if options.repository:
            record(options.root, options.repository)
    except CourseError as error:
        print(f"llmcourse: {error}", file=sys.stderr)
        return 2
    if options.check:
        found = problems(options.root)
        print("\n".join(found) or "Every notebook would open in Colab and install the course from GitHub.")
        return 1 if found else 0
    for path, text in rewritten(options.root).items():
        if path.read_text(encoding="utf-8") != text:
            files.write_text(path, text)
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
