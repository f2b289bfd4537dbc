"""`make origin` writes the course's address everywhere, and nothing else."""

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from tools import notebooks, origin

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path):
    for name in ("pyproject.toml", "README.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(
        ROOT / "notebooks",
        tmp_path / "notebooks",
        ignore=shutil.ignore_patterns("runs", ".*", "mine.csv", "my-adapter"),
    )
    marks = "\n<!-- badges:start -->\n<!-- badges:end -->\n"
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text() + ("" if "badges:start" in readme.read_text() else marks))
    return tmp_path


def first_cell(path: Path) -> str:
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def holding(tree: Path) -> dict[str, str]:
    return {str(path.relative_to(tree)): path.read_text() for path in sorted(tree.rglob("*.*")) if path.is_file()}


def test_origin_says_it_everywhere_and_can_be_changed(tree, capsys):
    origin.main(["first/one", "--root", str(tree)])
    first = holding(tree)
    for path in (tree / "notebooks").glob("*.ipynb"):
        badge = f"colab.research.google.com/github/first/one/blob/main/notebooks/{path.name})"
        title = nbformat.read(path, as_version=4).cells[0].source
        assert title.splitlines()[0].startswith("# ") and badge in title.splitlines()[2]
        assert badge in first["README.md"] and "git+https://github.com/first/one" in first_cell(path)
        assert notebooks.problems(path) == []
    assert origin.repository(tree) == "first/one"
    assert first["CITATION.cff"].count('repository-code: "https://github.com/first/one"') == 1

    capsys.readouterr()
    origin.main(["first/one", "--root", str(tree)])
    assert holding(tree) == first and capsys.readouterr().out == ""  # said again, nothing changes

    origin.main(["second/other.two", "--root", str(tree)])
    second = holding(tree)
    assert {name: text.replace("second/other.two", "first/one") for name, text in second.items()} == first
    changed = {str(tree / name) for name in second if name in ("README.md", "CITATION.cff") or name.endswith(".ipynb")}
    assert set(capsys.readouterr().out.split()) == changed


def test_origin_leaves_the_rest_alone(tree):
    before = holding(tree)
    origin.main(["first/one", "--root", str(tree)])
    assert "[project.urls]" in (tree / "pyproject.toml").read_text()
    for name, text in before.items():
        if name.endswith(".ipynb"):
            old, new = (nbformat.reads(one, as_version=4).cells for one in (text, holding(tree)[name]))
            assert [cell.source for cell in old[2:]] == [cell.source for cell in new[2:]]
            assert [cell.get("outputs") for cell in old] == [cell.get("outputs") for cell in new]
        else:
            lines = holding(tree)[name].splitlines()
            assert set(text.splitlines()) - {'Repository = ""'} <= set(lines)


@pytest.mark.parametrize("wrong", ["name", "https://github.com/a/b", "a/b/c", "a b/c"])
def test_what_is_no_repository_is_refused(tree, wrong, capsys):
    before = holding(tree)
    assert origin.main([wrong, "--root", str(tree)]) == 2
    assert holding(tree) == before and "owner/name" in capsys.readouterr().err


def test_the_dry_run_says_what_would_not_work(tmp_path, capsys):
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "course"], check=True)
    tree = tmp_path / "course"
    assert origin.main(["--check", "--root", str(tree)]) == 1 and "make origin REPO" in capsys.readouterr().out
    origin.main(["first/one", "--root", str(tree)])
    capsys.readouterr()
    assert origin.main(["--check", "--root", str(tree)]) == 1
    assert "files are not committed" in capsys.readouterr().out
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--all", "--message", "x"], cwd=tree, check=True)
    assert origin.main(["--check", "--root", str(tree)]) == 0, capsys.readouterr().out
    (tree / "llmcourse" / "setup" / "__init__.py").write_text("import = 1\n")
    subprocess.run(["git", *identity, "commit", "--quiet", "--all", "--message", "x"], cwd=tree, check=True)
    assert origin.main(["--check", "--root", str(tree)]) == 1
    assert "cannot be installed" in capsys.readouterr().out
