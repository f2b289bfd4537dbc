"""Whatever a file or a text holds: the right content comes out, or a CourseError; never another error, never other
content.

`tests/robustness/fuzz/` looks for what these properties miss; what it found is replayed by
tests/robustness/test_fuzz_cases.py.
"""

import csv
import io
import json
import shutil
import unicodedata
import warnings

import pytest
from hostile_texts import NASTY, any_texts, quick, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmcourse import CourseError, data
from llmcourse.data import Rows
from llmcourse.data.tasks import SARCASM, SUPPORT, Task
from llmcourse.data.texts import MAX_CHARACTERS, identity, is_blank
from llmcourse.experiment import Arm, Experiment
from llmcourse.predict import Generated
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import parse_answer

TASK = Task("plain", "Sort it.", {"text": "text", "more": "more"}, ("no", "yes"))

tables = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)


def outcome(path, rows):
    """What `read_all` must make of these rows: their texts, or the number of the first that it must refuse."""
    quotes = "trusted" if path.suffix in (".csv", ".tsv") else "checked"
    for number, row in enumerate(rows, 1):
        if any(is_blank(text) or len(text.strip()) > MAX_CHARACTERS for text in row):
            with pytest.raises(CourseError, match=rf"row {number}: column"):
                data.read_all(TASK, path, labelled=False, quotes=quotes)
            return
    found = data.read_all(TASK, path, labelled=False, quotes=quotes)
    assert [(row["text"], row["more"]) for row in found] == [tuple(text.strip() for text in row) for row in rows]
    assert [row["row"] for row in found] == list(range(1, len(rows) + 1))


# -- rows ------------------------------------------------------------------------------------------------------------


@settings(quick, max_examples=80)
@given(
    tables,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.sampled_from(["", "\ufeff"]),
)
def test_any_table_as_csv(tmp_path, rows, delimiter, ends, all_quoted, mark):
    out = io.StringIO()
    # Python before 3.13 writes a lone CR without quotes where lines end with LF
    quoting = csv.QUOTE_ALL if all_quoted or ends == "\n" else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=delimiter, lineterminator=ends, quoting=quoting).writerows([("text", "more"), *rows])
    path = tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv")
    path.write_bytes((mark + out.getvalue()).encode())
    outcome(path, rows)


@settings(quick, max_examples=50)
@example([("2020-1-1", "550E8400-E29B-41D4-A716-446655440000")], True, {})
@example([("2020-01-01T00:00:00Z", "1e400")], False, {"a": 1.5})
@given(tables, st.booleans(), st.dictionaries(texts, st.none() | st.booleans() | st.floats() | texts, max_size=3))
def test_any_table_as_json_lines(tmp_path, rows, escaped, others):
    path = tmp_path / "a.jsonl"
    more = {f"_{key}": value for key, value in others.items()}
    lines = [json.dumps({"text": a, "more": b, **more}, ensure_ascii=escaped) for a, b in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    outcome(path, rows)


@settings(quick, max_examples=30)
@given(tables, st.booleans())
def test_any_table_as_parquet(tmp_path, rows, binary):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [row[place] for row in rows] for place, name in enumerate(("text", "more"))}
    if binary:
        columns = {name: [text.encode() for text in column] for name, column in columns.items()}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    outcome(tmp_path / "a.parquet", rows)


def csv_as_python_reads_it(content: bytes) -> list[tuple[str, ...]]:
    text = content.decode("utf-8-sig")
    delimiter = max(",;\t", key=text.split("\n")[0].count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    places = [[name.strip() for name in rows[0]].index(column) for column in TASK.columns]
    return [tuple(row[place].strip() for place in places) for row in rows[1:]]


MARKS = ["a", "bc", "é", ",", '"', '""', "\n", "\r", "\r\n", " ", "\0", "\\", "'", ";", "\t", "#", "\x85", "\ufeff"]


@settings(quick, max_examples=120)
@given(st.sampled_from(["\n", "\r\n"]), st.lists(st.sampled_from(MARKS), min_size=1, max_size=14).map("".join))
@example("\r\n", "\r\n\rbc#d,a")
@example("\n", 'a,b\n"c,d\ne,f')
def test_any_lines_are_read_as_python_reads_them_or_refused(tmp_path, end, body):
    content = f"text,more{end}{body}".encode()
    (tmp_path / "a.csv").write_bytes(content)
    try:
        found = data.read_all(TASK, tmp_path / "a.csv", labelled=False)
    except CourseError:
        return
    assert [(row["text"], row["more"]) for row in found] == csv_as_python_reads_it(content)


def whole(kind: str) -> bytes:
    rows = [{"text": f"text {i}", "more": "é👩‍👧", "label": i % 2} for i in range(8)]
    out = io.BytesIO()
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), out)
    elif kind == "jsonl":
        out.write("\n".join(map(json.dumps, rows)).encode())
    else:
        text = io.StringIO()
        csv.writer(text, delimiter="\t" if kind == "tsv" else ",").writerows([rows[0], *(row.values() for row in rows)])
        out.write(text.getvalue().encode())
    return out.getvalue()


@settings(quick, max_examples=100)
@given(
    st.sampled_from(["csv", "tsv", "jsonl", "parquet"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.binary(max_size=20),
    st.booleans(),
)
def test_any_damage_is_read_or_refused(tmp_path, kind, start, length, put, alone):
    """Bytes anywhere in a file replaced by others, or others alone; loading never fails in another way."""
    content = whole(kind)
    at = int(start * len(content))
    content = put if alone else content[:at] + put + content[at + int(length * 40) :]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    for read in (lambda: data.read_all(TASK, path), lambda: list(data.load(TASK, path).train)):
        try:
            rows = read()
        except CourseError:
            continue
        assert rows and all(isinstance(row["text"], str) and row["label"] in (0, 1) for row in rows)


@settings(quick, max_examples=25)
@given(st.lists(st.tuples(texts, texts, st.integers(0, 1)), min_size=1, max_size=14))
def test_loading_takes_texts_as_they_are(tmp_path, rows):
    """Cleaned and split, each chosen row is the row of its number in the file: the same words, the same label."""
    rows = [*rows, *((f"filler {i}", f"more {i}", i % 2) for i in range(12))]
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "more", "label"), *rows])
    found = data.load(TASK, tmp_path / "a.csv")
    chosen = [*found.train, *found.test]
    assert len(chosen) >= 10
    for row in chosen:
        *given_texts, label = rows[row["row"] - 1]
        assert row["label"] == label
        for column, text in zip(TASK.columns, given_texts, strict=True):
            assert row[column].split() == text.split() and "\n" not in row[column]


FILES = {
    "surrogate.jsonl": (b'{"text": "\\ud800", "more": "b"}\n', "cannot be read"),
    "surrogate key.jsonl": (b'{"text": "a", "more": "b", "\\udfff": 1}\n', "half a character"),
    "deep.jsonl": (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "line 1 is nested too deeply"),
    "twice.csv": (b"text,more,text\na,b,c\n", "names the column 'text' twice"),
    "twice.jsonl": (
        b'{"text": "a", "more": "b"}\n{"text": "a", "more": "b", "text": "c"}\n',
        "line 2 gives 'text' twice",
    ),
    "wide.csv": (
        b",".join(b"c%d" % i for i in range(6000)) + b"\n",
        "no column 'text'; it has: c0, .*c19 and 5,980 more. Say",
    ),
    "wide.jsonl": (json.dumps({f"c{i}": i for i in range(6000)}).encode(), "it has: c0, .*c19 and 5,980 more. Say"),
    "long header.csv": (b"text," + b"m" * 2_000_000 + b"\n1,2\n", "line 1 is longer than 1 MB"),
    "open header.csv": (b'"text\nmore",text\n1,2\n', "line 1 is no CSV header"),
    "1 MB cell.csv": (
        b"text,more\na,b\n" + b"x" * 1_000_000 + b",c\n",
        "row 2: column 'text' has 1,000,000 characters",
    ),
    "1 MB cell.jsonl": (b'{"text": "' + b"x" * 1_000_000 + b'", "more": "b"}', "row 1: column 'text' has 1,000,000"),
    "9 MB line.csv": (b"text,more\n" + b"x" * 9_000_000 + b",c\n", "longer than 8 MB"),
    "open.csv": (b'text,more\n"a,b\nc,d\n', "line 2 opens a quotation mark that is never closed"),
    "utf16.csv": ("text,more\na,b\n".encode("utf-16"), "not UTF-8"),
    "blob.parquet": (None, "cannot be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_read_is_said(tmp_path, name):
    content, message = FILES[name]
    path = tmp_path / name
    if content is None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": [b"\xff\xfe"], "more": ["b"]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(CourseError, match=message):
        data.read_all(TASK, path, labelled=False)


def test_a_carriage_return_alone_ends_a_line(tmp_path):
    (tmp_path / "cr.csv").write_bytes(b'text,more\r\na,"b\r"\r\nc,d\re,f\r\n')
    rows = data.read_all(TASK, tmp_path / "cr.csv", labelled=False)
    assert [(row["text"], row["more"]) for row in rows] == [("a", "b"), ("c", "d"), ("e", "f")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_s_name_is_no_content(tmp_path, kind):
    """Readers of partitioned data sets take a folder called text=x for a column."""
    folder = tmp_path / "text=x" / "label=1"
    folder.mkdir(parents=True)
    (folder / f"a.{kind}").write_bytes(whole(kind))
    assert [row["text"] for row in data.read_all(TASK, folder / f"a.{kind}")] == [f"text {i}" for i in range(8)]


def test_names_that_are_no_text(tmp_path):
    with pytest.raises(CourseError, match="name is not UTF-8"):
        data.read_all(TASK, tmp_path / "\udcff.csv")
    (tmp_path / "a.csv").write_bytes(b",text,more,\n0,a,b,\n")  # as pandas writes its index
    assert data.read_all(TASK, tmp_path / "a.csv", labelled=False)[0]["text"] == "a"
    with pytest.raises(CourseError, match="no column"):
        data.read_all(TASK, tmp_path / "a.csv", {"text": "\udcff'); DROP"}, labelled=False)


# -- prompts and answers ---------------------------------------------------------------------------------------------


@settings(quick, max_examples=300)
@given(any_texts, st.sampled_from([SARCASM, SUPPORT]), st.integers(0, 9), any_texts)
def test_an_answer_is_a_label_or_none(before, task, place, after):
    word = task.labels[place % len(task.labels)]
    for text in (before, before + word, word + after, word + " " + before + word, before + "\n" + word):
        label = parse_answer(text, task)
        assert label is None or (label in range(len(task.labels)) and identity(task.labels[label]) in identity(text))
    assert parse_answer(f"\n {task.answer_name}: {word.upper()}.\n{after}", task) == place % len(task.labels)


# -- results ---------------------------------------------------------------------------------------------------------


def a_journal(path) -> bytes:
    journal = Journal(path)
    journal.add({0: "Sarcasm", 2: "=1+1\r\n"}, 1.5)
    journal.add({1: [0.25, -1.0]}, 0.5)
    journal.add({3: None}, 0.25)
    return path.read_bytes()


TRUE = {0: "Sarcasm", 2: "=1+1\r\n", 1: [0.25, -1.0], 3: None}


@settings(quick, max_examples=150)
@given(st.binary(max_size=60) | any_texts.map(lambda text: text.encode(errors="surrogatepass")), st.booleans())
@example(b'{"seconds": ' + b"[" * 100_000 + b"\n", False)
@example(b'{"seconds": 1' + b"0" * 400 + b', "answers": {"7": "x"}}\n', True)
def test_a_journal_of_any_bytes(tmp_path, put, alone):
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    content = put if alone else a_journal(path) + put
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        journal = Journal(path)
        if not alone:
            assert {row: journal.answers[row] for row in TRUE} == TRUE
        journal.add({9: "new"}, 1.0)
        assert Journal(path).answers == journal.answers


@settings(quick, max_examples=100)
@given(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=3))
def test_a_damaged_journal_never_gives_another_answer(tmp_path, start, length, put):
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    content = a_journal(path)
    at = int(start * len(content))
    path.write_bytes(content[:at] + put + content[at + length :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = Journal(path).answers
    assert all(row in TRUE and answer == TRUE[row] for row, answer in answers.items())


ODD_LABELS = Task("marks", "Sort it.", {"message": "message"}, ("=1+1", "-1", "'good", "@bad"))


def an_experiment(loaded, folder) -> Experiment:
    def rows(start, count):
        return [{"message": f"message {i}", "label": i % 4, "row": i} for i in range(start, start + count)]

    return Experiment(Rows(ODD_LABELS, "made", rows(0, 8), rows(50, 8), {}), loaded, folder, quiet=True)


WROTE = ["=1+1", "+Problem", "-", "a\rb", "'quoted", "a\r\nb", "\0", "\u202e"]


def kept(study):
    """An arm whose texts are hostile, kept and found as the course does it."""
    answered = [label if i % 2 else None for i, label in enumerate(study.gold())]

    def answer():
        predictions = Generated(list(answered), 1.0, texts=list(WROTE))
        return Arm("an arm", "prompted", study._spec("generated"), predictions, study.store.score(predictions))

    return study._once("an arm", study._spec("generated"), answer)


def test_texts_of_predictions_come_back(tiny, tmp_path):
    arm = kept(an_experiment(tiny, tmp_path))
    found = kept(an_experiment(tiny, tmp_path))
    assert found.predictions.texts == WROTE and found.predictions.labels == arm.predictions.labels
    with open(arm.folder / "predictions.csv", newline="", encoding="utf-8") as file:
        cells = [cell for line in csv.DictReader(file) for name, cell in line.items() if name != "row"]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@settings(quick, max_examples=40)
@given(st.sampled_from(["predictions.csv", "arm.json"]), st.floats(0, 1), st.integers(0, 5), st.binary(max_size=5))
def test_a_damaged_arm_is_set_aside_and_never_read_as_another(make_tiny, tmp_path, name, start, length, put):
    loaded = _shared_tiny(make_tiny)
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    true = kept(an_experiment(loaded, tmp_path / "runs"))
    content = (true.folder / name).read_bytes()
    at = int(start * len(content))
    (true.folder / name).write_bytes(content[:at] + put + content[at + length :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = an_experiment(loaded, tmp_path / "runs")
        try:
            study.find_all()
            again = kept(study)
        except CourseError:
            return
    assert again.predictions.texts == WROTE and again.predictions.labels == true.predictions.labels
    assert all(arm.predictions.labels == true.predictions.labels for arm in study.arms)


def _shared_tiny(make_tiny, cache={}):  # noqa: B006 - made once for all examples
    return cache.setdefault("tiny", None) or cache.update(tiny=make_tiny(3)) or cache["tiny"]


def test_the_texts_are_hostile():
    """What the list claims to hold, it holds."""
    kinds = {unicodedata.bidirectional(character) for text in NASTY for character in text}
    assert {"RLO", "LRI", "PDI", "NSM", "B", "BN"} <= kinds
