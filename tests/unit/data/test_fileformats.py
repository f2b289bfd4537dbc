"""JSON and Parquet from strangers: arrays and lines, values that are no texts, names that come twice."""

import json

import pytest
from csv_files import YES_NO, yes_no

from llmcourse import CourseError, data

ROWS = [{"text": text, "label": label} for text, label in yes_no()]


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def write_parquet(path, columns, names=None):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns) if names is None else pa.table(columns, names=names), path)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_arrays_and_lines_are_told_apart_by_their_content(tmp_path, name, mark):
    ids = set()
    for content in (json.dumps(ROWS), json.dumps(ROWS, indent=1), "\n".join(map(json.dumps, ROWS))):
        (tmp_path / name).write_text(mark + content, encoding="utf-8")
        found = data.load(YES_NO, tmp_path / name)
        assert found.report["read"] == 40
        ids.add(found.test_id)
    assert len(ids) == 1


@pytest.mark.parametrize(
    "content", [json.dumps({"text": {"0": "a"}, "label": {"0": "no"}}, indent=1), '{"data":\n' + json.dumps(ROWS) + "}"]
)
def test_a_single_object_is_explained(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(CourseError, match=r'is a single JSON object.*orient="records", lines=True'):
        data.load(YES_NO, tmp_path / "a.json")


NESTED = {
    "list": ["That", "soup"],
    "object": {"title": "That soup", "body": "b"},
    "chat": [{"role": "user", "content": "That soup"}, {"role": "assistant", "content": "yes"}],
}


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("column", ["text", "label"])
def test_lists_and_objects_are_no_texts(tmp_path, kind, column):
    """A chat would put its answer into the prompt."""
    path = write_lines(tmp_path / "a.jsonl", [*ROWS[:4], *({**row, column: NESTED[kind]} for row in ROWS[4:])])
    with pytest.raises(
        CourseError, match=rf"line 5: column '{column}' holds (a list|an object), where a text is needed"
    ):
        data.load(YES_NO, path)
    columns = {"text": [row["text"] for row in ROWS], "label": [row["label"] for row in ROWS]}
    write_parquet(tmp_path / "a.parquet", {**columns, column: [NESTED[kind]] * len(ROWS)})
    with pytest.raises(CourseError, match=rf"row 1: column '{column}' holds (a list|an object)"):
        data.load(YES_NO, tmp_path / "a.parquet")
    unused = write_lines(tmp_path / "b.jsonl", [{**row, "more": NESTED[kind]} for row in ROWS])
    assert data.load(YES_NO, unused).report["read"] == 40


def test_a_key_that_comes_twice_is_named_where_it_matters(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row)[:-1] + ', "label": "no"}' for row in ROWS))
    with pytest.raises(CourseError, match="line 1 gives 'label' twice"):
        data.load(YES_NO, path)
    path.write_text("\n".join(json.dumps(row)[:-1] + ', "x": 1, "x": 2}' for row in ROWS))
    assert data.load(YES_NO, path).report["read"] == 40


def test_names_that_differ_in_letter_case_only_are_two_columns(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{**row, "Text": "x", "LABEL": "z"} for row in ROWS])
    found = data.load(YES_NO, path)
    assert found.report["read"] == 40 and "x" not in found.train["text"]
    columns = {"text": [row["text"] for row in ROWS], "Text": ["x"] * 40, "label": [row["label"] for row in ROWS]}
    assert data.load(YES_NO, write_parquet(tmp_path / "a.parquet", columns)).test_id == found.test_id
    capital = write_lines(tmp_path / "b.jsonl", [{"TEXT": row["text"], "Label": row["label"]} for row in ROWS])
    assert data.load(YES_NO, capital).test_id == found.test_id
    unclear = write_lines(tmp_path / "c.jsonl", [{"TEXT": "a", "Text": "b", "label": "no"}])
    with pytest.raises(CourseError, match="no column 'text'; it has: TEXT, Text, label"):
        data.load(YES_NO, unclear)


def test_a_parquet_file_with_a_name_twice_names_it(tmp_path):
    texts = [row["text"] for row in ROWS]
    path = write_parquet(tmp_path / "a.parquet", [texts, texts, [r["label"] for r in ROWS]], ["text", "text", "label"])
    with pytest.raises(CourseError, match="names the column 'text' twice"):
        data.load(YES_NO, path)


def test_numbers_truth_values_and_nothing_are_read_as_texts(tmp_path):
    rows = [{"text": i if i % 2 else float(i), "label": bool(i % 2)} for i in range(40)]
    rows += [{"text": None, "label": True}, {"text": "x", "label": None}, {"label": False}]
    found = data.load(YES_NO, write_lines(tmp_path / "a.jsonl", rows))
    assert (found.report["read"], found.report["empty"], found.report["no_label"]) == (43, 2, 1)
    assert {"1", "2.0"} <= {*found.train["text"], *found.test["text"]}
    columns = {"text": [str(i) for i in range(40)], "label": [i % 2 for i in range(40)]}
    assert data.load(YES_NO, write_parquet(tmp_path / "a.parquet", columns)).report["read"] == 40


def test_a_large_array_asks_for_json_lines(tmp_path, monkeypatch):
    from llmcourse.data import fileformats

    monkeypatch.setattr(fileformats, "MAX_JSON_ARRAY_BYTES", 100)
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    with pytest.raises(CourseError, match=r"too large to be read at once.*JSON Lines"):
        data.load(YES_NO, tmp_path / "a.json")


@pytest.mark.parametrize("name", ["'); DROP TABLE x; --", 'a"b', "a'b", "{}", "a,b", "日本", "a b"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_any_column_name_is_only_a_name(tmp_path, name, kind):
    from csv_files import write_csv

    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        write_csv(path, yes_no(), [name, "label"])
    elif kind == "jsonl":
        write_lines(path, [{name: text, "label": label} for text, label in yes_no()])
    else:
        write_parquet(path, {name: [text for text, _ in yes_no()], "label": [label for _, label in yes_no()]})
    assert data.load(YES_NO, path, columns={"text": name}).report["read"] == 40
