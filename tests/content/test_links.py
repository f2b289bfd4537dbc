"""Links between the notebooks and from the README lead somewhere, and tests that pages name are there."""

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
INDEX = ROOT / "notebooks" / "INDEX.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", INDEX, *DOCS, *NOTEBOOKS]
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", flags=re.MULTILINE)


def markdown(path: Path) -> str:
    """A page's text; of a notebook, that of its markdown cells."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def anchors(path: Path) -> list[str]:
    """What stands after the # in links to a page's headings.

    In notebooks Jupyter's rule, which nbconvert and GitHub's rendering of notebooks share: the heading with hyphens for
    spaces. In markdown files GitHub's: small letters, without punctuation.
    """
    text = re.sub(r"^```.*?^```", "", markdown(path), flags=re.MULTILINE | re.DOTALL)
    headings = [re.sub(r"[*_`]|\[(.*?)\]\(.*?\)", r"\1", heading) for heading in HEADING.findall(text)]
    if path.suffix == ".ipynb":
        return [heading.replace(" ", "-") for heading in headings]
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def dead_links(path: Path) -> list[str]:
    """The relative links of a page that lead to no file, or to no heading of it, or to two."""
    dead = []
    for link in LINK.findall(markdown(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchors(target).count(unquote(anchor)) != 1):
            dead.append(link)
    return dead


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_relative_links_lead_somewhere(path):
    assert dead_links(path) == []


@pytest.mark.parametrize("link", ["b.ipynb", "a.ipynb#One", "a.ipynb#one-two", "#Twice", "a.md#One-two"])
def test_dead_links_are_found(tmp_path, link):
    links = f"[good](a.ipynb#One-two) [good](a.md#one-two) [far](https://x.org#y) [dead]({link})"
    text = f"# One two\n\n## Twice\n\n## Twice\n\n{links}"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    (tmp_path / "a.md").write_text("# One, two\n")
    assert dead_links(tmp_path / "a.ipynb") == [link]


def test_the_index_names_every_notebook():
    named = {link.partition("#")[0] for link in LINK.findall(markdown(INDEX))}
    assert named == {path.name for path in NOTEBOOKS}
    assert "(INDEX.md)" in markdown(ROOT / "notebooks" / "00_start_here.ipynb")


@pytest.mark.parametrize("page", ["TRUST.md", "SECURITY.md"])
def test_tests_that_a_page_names_are_there(page):
    tests = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(test_\w+)(?:\.py)?(?:::(test_\w+))?`", (ROOT / page).read_text(encoding="utf-8"))
    assert named
    assert [f"{module}::{test}" for module, test in named if f"def {test}" not in tests.get(module, "")] == []
