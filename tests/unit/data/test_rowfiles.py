"""Files of rows: what cannot be read is named by its line, and what can is read as it stands."""

import subprocess
import sys

import pytest
from csv_files import write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcourse import CourseError, data
from llmcourse.data.tasks import SARCASM
from llmcourse.data.texts import is_blank

BAD = {
    "empty.csv": (b"", "is empty"),
    "header.csv": (b"label,comment,parent_comment\n", "holds no rows"),
    "column.csv": (b"label,text\n1,a\n", "no column 'parent_comment'; it has: label, text"),
    "twice.csv": (b"label,label,comment,parent_comment\n1,1,a,b\n", "names the column 'label' twice"),
    "label.csv": (b"label,comment,parent_comment\n1,a,b\n0,c,d\nmaybe,e,f\n", "row 3: unknown label 'maybe'"),
    "one.csv": (b"label,comment,parent_comment\n1,a,b\n1,c,d\n", r"one label only \('Sarcasm'\)"),
    "latin.csv": ("label,comment,parent_comment\n1,a,b\n0,caf\xe9,d\n".encode("latin-1"), "line 3.*not UTF-8"),
    "latin.jsonl": (
        '{"label": 1, "comment": "caf\xe9", "parent_comment": "b"}\n'.encode("latin-1"),
        "line 1 is not UTF-8",
    ),
    "broken.jsonl": (
        b'{"label": 1, "comment": "a", "parent_comment": "b"}\n{"label": 0, "comment"\n',
        "line 2 is not JSON",
    ),
    "list.jsonl": (b"[1, 2]\n", "element 1 is not a JSON object"),
    "values.jsonl": (b"1\n2\n", "line 1 is not a JSON object"),
    "half.parquet": (b"PAR1 and then nothing", "cannot be read"),
    "what.xlsx": (b"PK", "files that end in .xlsx are not read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_a_clear_message(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CourseError, match=message) as error:
        data.load(SARCASM, tmp_path / name)
    assert name in str(error.value) or "cannot be read" in message


def test_missing_file(tmp_path):
    with pytest.raises(CourseError, match="There is no file"):
        data.load(SARCASM, tmp_path / "nowhere.csv")


def test_rejected_lines_are_named_by_their_line(tmp_path):
    good = [f'{i % 2},"reply {i},\nsecond line",parent {i}' for i in range(40)]
    lines = [
        "label,comment,parent_comment",
        *good,
        "0,too few",
        "1,too,many,columns",
        *[g.replace("reply", "more") for g in good],
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    report = data.load(SARCASM, path).report
    assert report["rejected"] == 2 and report["rejected_lines"] == [82, 83]
    path.write_text("\n".join([lines[0], *good[:4], *["0,too few"] * 6]))
    with pytest.raises(CourseError, match=r"6 of 10 lines cannot be read; the first is line 10 \(too few columns\)"):
        data.load(SARCASM, path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30),
        min_size=1,
        max_size=8,
    )
)
def test_any_text_comes_back_as_it_is(tmp_path, texts):
    texts = [text for text in texts if not is_blank(text)] or ["x"]
    path = write_csv(tmp_path / "a.csv", [[0, text, "p"] for text in texts])
    assert [row["comment"] for row in data.read_all(SARCASM, path)] == [text.strip() for text in texts]


def test_many_unreadable_lines_are_all_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label,comment,parent_comment\n" + "0,too few\n1,a,b\n" * 6000)
    with pytest.raises(CourseError, match="6,000 of 12,000 lines cannot be read"):
        data.load(SARCASM, path)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.slow
def test_a_million_rows_stay_below_a_gigabyte_and_keep_their_numbers(tmp_path):
    """Each chosen row has the number, the label and the texts of its line."""
    path = tmp_path / "million.csv"
    with open(path, "w") as file:
        file.write("label,comment,parent_comment\n")
        for i in range(1_010_000):
            file.write(
                f'{i % 2},"reply number {i}, about as long as the replies that people write",'
                f"parent {i // 3} and some more words\n"
            )
    # VmHWM and not ru_maxrss, which a child inherits from the process that started it
    program = (
        "import sys\nfrom llmcourse import data\nfrom llmcourse.data import tasks\n"
        "rows = data.load(tasks.SARCASM, sys.argv[1], n_train=1000, n_test=100)\n"
        "assert len(rows.train) == 1000 and len(rows.test) == 100\n"
        "for row in [*rows.train, *rows.test]:\n"
        "    i = row['row'] - 1\n"
        "    assert row['comment'].startswith(f'reply number {i},') and row['label'] == i % 2, row\n"
        "    assert row['parent_comment'].startswith(f'parent {i // 3} and'), row\n"
        "status = open('/proc/self/status').read()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0, f"{done.stdout.strip()} GiB"
