"""The instructor's guide: its timetables add up, and the slides, sections and exercises that they name exist."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "slides"))

import make  # noqa: E402

GUIDE = (ROOT / "slides" / "INSTRUCTORS.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d+) \| (\d+) \| ([^|]*) \| ([^|]*?)\|$", flags=re.MULTILINE)
SECTIONS = re.findall(r"^## (\d+) minutes:(.*?)(?=^## )", GUIDE, flags=re.MULTILINE | re.DOTALL)
PLANS = {int(length): ROW.findall(text) for length, text in SECTIONS}


def names(details: str) -> list[str]:
    return re.findall(r"\*([^*]+)\*", details)


@pytest.fixture(scope="module")
def slides() -> list[tuple[str, str, float]]:
    """The part, the title and the minutes of each slide of the talk."""
    found, part = [], ""
    for slide in make.filled().split("\n---\n")[1:]:
        if header := re.search(r"^<!-- header: (.*) -->$", slide, re.M):
            part = header[1].strip('"')
        title = re.search(r"^# (.+)$", re.sub(r"^```.*?^```$", "", slide, flags=re.M | re.S), re.M)[1]
        if title == "Appendix":
            break
        found.append((part, title, float(re.search(r"Minutes: ([\d.]+)", slide)[1])))
    return found


def headings(notebook: str) -> set[str]:
    """The sections and exercises of a notebook, without numbers."""
    (path,) = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return set(re.findall(r"^(?:#+ (?:\d+\. )?|\*\*Exercise: )(.+?)(?:\*\*.*)?$", text, re.M))


@pytest.mark.parametrize("length", [45, 90, 180])
def test_a_timetable_has_no_gap_and_ends_on_time(length):
    ends = [0, *(int(to) for _, to, *_ in PLANS[length])]
    assert [int(start) for start, *_ in PLANS[length]] == ends[:-1] and ends[-1] == length


def test_the_workshop_is_at_least_fifty_minutes_hands_on():
    done = [(int(to) - int(start), details) for start, to, what, details in PLANS[90] if what == "**hands-on**"]
    assert sum(minutes for minutes, _ in done) >= 50
    assert {details[:11] for _, details in done} == {f"notebook {n}" for n in ("00", "02", "05", "06")}


@pytest.mark.parametrize("length", [45, 90, 180])
def test_sections_and_exercises_of_a_timetable_exist(length):
    for _, _, what, details in PLANS[length]:
        if what == "**hands-on**":
            notebook = re.match(r"notebook (\d\d): ", details)[1]
            assert set(names(details)) <= headings(notebook), details


@pytest.mark.parametrize("length", [90, 180])
def test_slides_of_a_timetable_exist_and_fit_their_time(length, slides):
    for start, to, what, details in PLANS[length]:
        if what == "slides":
            minutes = 0.0
            for name in names(details):
                whole_part = [length for part, _, length in slides if part == name]
                single = [length for _, title, length in slides if title.startswith(name)]
                assert whole_part or len(single) == 1, name
                minutes += sum(whole_part or single)
            assert minutes <= int(to) - int(start), details
