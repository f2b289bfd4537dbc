"""Write where the course lives: into pyproject.toml, the notebooks' first cells, and the Colab badges.

    python -m tools.origin                  # write cells and badges again, from what pyproject.toml says
    python -m tools.origin owner/name       # the repository is there now (or another): record it, then the same

Where the repository lives stands in pyproject.toml alone ([project.urls] Repository). As long as nothing stands there,
the cell takes the course from a wheel beside the notebook, and no badge is shown.

The cell installs the course alone, then asks it what else is missing (`llmcourse.setup.firstcell`). It never touches torch or numpy,
and never quietens pip: Colab offers its restart button when it reads what pip says.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

from llmcourse import CourseError

MARK = "# Run this first:"
CELL = f"""\
{MARK} it installs the course where that is missing, as on Colab, and does nothing where it is there.
from glob import glob
from importlib.util import find_spec

if find_spec("llmcourse") is None:
    wheels = sorted(glob("llmcourse-*.whl"))  # a wheel beside this notebook goes before the network
SOURCE
    get_ipython().run_line_magic("pip", f"install --no-deps {{course}}")
from llmcourse import setup

for step in setup.steps():  # what is missing or too old; away with Colab's torchao, on which PEFT raises
    get_ipython().run_line_magic("pip", step)
setup.check()"""
WHEEL = """\
    if not wheels:
        raise RuntimeError("Put the course's wheel, llmcourse-*.whl, beside this notebook; or see README.md, Set-up.")
    course = wheels[-1]"""
WHEEL_OR_REPOSITORY = """\
    course = wheels[-1] if wheels else "git+https://github.com/REPOSITORY\""""

COLAB = "https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}"
BADGE = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({COLAB})"
_BADGE_LINES = re.compile(r"^\[!\[Open in Colab\]\(.*\)\n*", flags=re.MULTILINE)
_README_BADGES = re.compile(r"(<!-- badges:start -->\n).*?(<!-- badges:end -->)", flags=re.DOTALL)


def repository(root: Path) -> str | None:
    """owner/name of the course on GitHub, from pyproject.toml; None as long as that does not say."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url = project.get("urls", {}).get("Repository", "")
    return url.removeprefix("https://github.com/") or None


def cell(repository: str | None) -> str:
    """The text of the cell."""
    source = WHEEL_OR_REPOSITORY.replace("REPOSITORY", repository) if repository else WHEEL
    return CELL.replace("SOURCE", source)


def with_cell(notebook, name: str, repository: str | None):
    """Put cell and badge into a notebook object; a cell that is there is replaced. Returns it in normal form."""
    import nbformat

    from tools import notebooks

    title = notebook.cells[0]
    title.source = _BADGE_LINES.sub("", title.source)
    if repository:
        heading, _, rest = title.source.partition("\n")
        badge = BADGE.format(repository=repository, name=name)
        title.source = f"{heading}\n\n{badge}\n\n{rest.lstrip()}".rstrip()
    others = [one for one in notebook.cells if not one.source.startswith(MARK)]
    notebook.cells = [others[0], nbformat.v4.new_code_cell(cell(repository)), *others[1:]]
    notebooks.normalise(notebook)
    return notebook


def rewritten(root: Path) -> dict[Path, str]:
    """Every file that names the repository -> what it should hold."""
    import nbformat

    found, names = repository(root), []
    texts = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        names.append(path.name)
        notebook = nbformat.read(path, as_version=4)
        texts[path] = nbformat.writes(with_cell(notebook, path.name, found)) + "\n"
    badges = "".join(f"{BADGE.format(repository=found, name=name)} `{name}`\n\n" for name in names) if found else ""
    readme = root / "README.md"
    texts[readme] = _README_BADGES.sub(rf"\1{badges}\2", readme.read_text(encoding="utf-8"))
    return texts


def say_where(root: Path, repository: str) -> None:
    """Write owner/name into pyproject.toml. Raises CourseError if it is none."""
    from llmcourse._base import files

    if not re.fullmatch(r"[A-Za-z0-9-]+/[\w.-]+", repository):
        raise CourseError(f"{repository!r} is no repository on GitHub. Give it as owner/name.")
    path = root / "pyproject.toml"
    text = re.sub(r'^Repository = ".*"\n', "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if "[project.urls]\n" not in text:
        text = text.replace("[project.scripts]\n", "[project.urls]\n\n[project.scripts]\n")
    line = f'Repository = "https://github.com/{repository}"\n'
    files.write_text(path, text.replace("[project.urls]\n", f"[project.urls]\n{line}"))


def main(arguments=None) -> int:
    """Rewrite what names the repository, and print the files that changed."""
    from llmcourse._base import files

    parser = argparse.ArgumentParser(prog="python -m tools.origin", description="Write first cells and badges.")
    parser.add_argument("repository", nargs="?", metavar="owner/name", help="where the course lives on GitHub")
    parser.add_argument("--root", type=Path, default=Path(), help="the course's folder (default: here)")
    options = parser.parse_args(arguments)
    try:
        if options.repository:
            say_where(options.root, options.repository)
    except CourseError as error:
        print(f"llmcourse: {error}", file=sys.stderr)
        return 2
    for path, text in rewritten(options.root).items():
        if path.read_text(encoding="utf-8") != text:
            files.write_text(path, text)
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
