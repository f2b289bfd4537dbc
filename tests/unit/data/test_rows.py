"""Rows: cleaned, split by group, whatever file they come from; bad files get a clear message."""

import json

import pytest
from csv_files import HEADER, csv_rows, write_csv

from llmcourse import CourseError, data
from llmcourse.data.tasks import SARCASM, SENTIMENT, SUPPORT, Task


def test_cleaning_is_counted(tmp_path):
    rows = [
        *csv_rows(),
        [1, "so true /s", "parent a"],
        [0, "shouted /S!", "parent a"],
        [1, "   ", "parent b"],
        [1, "", "parent b"],
        [0, "no parent", ""],
        [1, "REPLY number 1", "parent 1"],
        [1, "reply number 2", "parent 2"],
        ["", "no label", "parent c"],
        [0, "x" * 5000, "parent d"],
    ]
    found = data.load(SARCASM, write_csv(tmp_path / "a.csv", rows))
    report = {key: value for key, value in found.report.items() if key not in ("train", "test")}
    assert report == {
        "read": 69,
        "rejected_lines": [],
        "rejected": 0,
        "no_label": 1,
        "empty": 3,
        "too_long": 1,
        "contradictory": 2,
        "kept": 61,
        "marks_stripped": 2,
        "duplicates": 1,
    }
    texts = {row["comment"] for side in (found.train, found.test) for row in side}
    assert texts & {"so true", "shouted"} and not any("/s" in text.lower() for text in texts)
    assert "reply number 2" not in texts


def test_split_keeps_groups_together_and_balance(tmp_path):
    path = write_csv(tmp_path / "a.csv", csv_rows(400, 80))
    found = data.load(SARCASM, path, n_train=100, n_test=40, seed=1)
    assert found.report["train"] == {"Not Sarcasm": 50, "Sarcasm": 50}
    assert found.report["test"] == {"Not Sarcasm": 20, "Sarcasm": 20}
    assert not set(found.train["parent_comment"]) & set(found.test["parent_comment"])
    assert data.load(SARCASM, path, n_train=100, n_test=40, seed=1).test_id == found.test_id
    assert data.load(SARCASM, path, n_train=100, n_test=40, seed=2).test_id != found.test_id


def test_the_order_of_the_file_does_not_matter(tmp_path):
    rows = csv_rows(200, 50)
    one = data.load(SARCASM, write_csv(tmp_path / "a.csv", rows), n_train=40, n_test=20)
    two = data.load(SARCASM, write_csv(tmp_path / "b.csv", rows[::-1]), n_train=40, n_test=20)
    assert one.test_id == two.test_id and one.train_id == two.train_id
    assert one.train["comment"][:] == two.train["comment"][:]


def test_formats_and_mapped_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"verdict": ["Not Sarcasm", "sarcasm"][i % 2], "body": f"reply {i}", "above": f"parent {i % 9}"}
        for i in range(60)
    ]
    write_csv(tmp_path / "a.csv", [row.values() for row in rows], rows[0])
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.tsv").write_text("\n".join(["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]))
    columns = {"label": "verdict", "comment": "body", "parent_comment": "above"}
    ids = {
        data.load(SARCASM, tmp_path / f"a.{kind}", columns=columns).test_id
        for kind in ("csv", "jsonl", "parquet", "tsv")
    }
    assert len(ids) == 1


def test_a_test_file_of_its_own_takes_its_groups_with_it(tmp_path):
    train = write_csv(tmp_path / "train.csv", csv_rows(40, 10))
    test = write_csv(tmp_path / "test.csv", [[i % 2, f"other {i}", f"parent {i % 5}"] for i in range(20)])
    found = data.load(SARCASM, train, test=test)
    assert len(found.test) == 20 and set(found.test["row"]) == set(range(1, 21))
    assert set(found.train["parent_comment"]) <= {f"parent {n}" for n in range(5, 10)} and len(found.train) == 20
    assert found.report["shared_with_test"] == 20 and found.report["duplicates"] == 0
    assert "shared_with_test" not in data.load(SARCASM, train).report


def test_a_row_of_the_test_file_among_the_training_rows_is_counted(tmp_path):
    """Without a group column the same text is the same row, whatever its letter case and white space."""
    train = write_csv(tmp_path / "train.csv", [[i % 2, f"text {i}"] for i in range(20)], ["label", "text"])
    test = write_csv(tmp_path / "test.csv", [[i % 2, f" TEXT  {i}"] for i in range(16, 24)], ["label", "text"])
    found = data.load(Task("plain", "Sort it.", {"text": "text"}, ("a", "b")), train, test=test)
    assert found.report["shared_with_test"] == 4 and found.report["duplicates"] == 0
    assert len(found.train) == 16 and len(found.test) == 8


def test_more_than_two_labels(tmp_path):
    colours = Task("colours", "Name it.", {"text": "text"}, ("red", "green", "blue"))
    path = write_csv(tmp_path / "a.csv", [[i % 3, f"text {i}"] for i in range(90)], ["label", "text"])
    found = data.load(colours, path, n_train=31, n_test=12)
    assert sorted(found.report["train"].values()) == [10, 10, 11] and set(found.report["test"].values()) == {4}
    even = data.load(colours, path, n_train=31, n_test=12, balance=True)
    assert set(even.report["train"].values()) == {10} and even.test_id == found.test_id


def test_too_few_rows_are_said(tmp_path):
    found = data.load(SARCASM, write_csv(tmp_path / "a.csv", csv_rows(40)), n_train=1000, n_test=8)
    assert found.report["train_wanted"] == 1000 and "test_wanted" not in found.report


def test_read_all_leaves_nothing_out(tmp_path):
    path = write_csv(tmp_path / "a.csv", [["sarcasm", " a ", "b"], ["0", "c", "d"]])
    rows = data.read_all(SARCASM, path)
    assert [(row["row"], row["label"], row["comment"]) for row in rows] == [(1, 1, "a"), (2, 0, "c")]
    write_csv(path, [[1, "a", "b"], [0, "", "d"]])
    with pytest.raises(CourseError, match="row 2: column 'comment' is empty"):
        data.read_all(SARCASM, path)
    write_csv(path, [[1, "y" * 50_000, "b"]])
    with pytest.raises(CourseError, match="row 1: column 'comment' has 50,000 characters"):
        data.read_all(SARCASM, path)
    with pytest.raises(CourseError, match="no column 'topic' to map"):
        data.read_all(SARCASM, path, {"topic": "x"})


def test_names_are_not_patterns_and_number_words_are_words(tmp_path):
    odd = write_csv(tmp_path / "data[1]*.csv", csv_rows())
    assert data.load(SARCASM, odd).report["read"] == 60
    grades = Task("grades", "Grade it.", {"text": "text"}, ("1", "2"))
    path = write_csv(tmp_path / "grades.csv", [[i % 2, f"t{i}"] for i in range(20)], ["label", "text"])
    with pytest.raises(CourseError, match=r"unknown label '0'\. The task 'grades' knows '1', '2'"):
        data.load(grades, path)


def test_downloads_are_pinned_and_explained(monkeypatch, tmp_path):
    import huggingface_hub
    import kagglehub

    asked = {}
    path = write_csv(tmp_path / "train-balanced-sarcasm.csv", csv_rows())

    def hub(repo, name, **options):
        asked.update(options, repo=repo, name=name)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    monkeypatch.setattr(
        kagglehub, "dataset_download", lambda handle, path: (_ for _ in ()).throw(OSError("no network"))
    )
    assert data.load(SARCASM, "hub").source == "hub"
    assert asked == {
        "repo": "daniel2588/sarcasm",
        "name": "train-balanced-sarcasm.csv",
        "repo_type": "dataset",
        "revision": "2d4453774d5a8a9801f0195f41cfa8facf69ed11",
    }
    with pytest.raises(CourseError, match=r"Kaggle \(OSError: no network\).*'hub'.*'bundled'"):
        data.load(SARCASM, "kaggle")


def test_what_a_column_called_split_leaves_out_is_counted(tmp_path):
    sides = ("train", "train", "train", "test", "validation")
    rows = [[i % 2, f"reply {i}", f"parent {i // 2}", sides[i // 2 % 5]] for i in range(60)]
    rows += [
        [i % 2, f"other reply {i}", f"parent {3 + 5 * (i // 2)}", "train"] for i in range(4)
    ]  # parents of test rows
    header = [*HEADER, "split"]
    found = data.load(SARCASM, write_csv(tmp_path / "a.csv", rows, header))
    assert (len(found.train), len(found.test)) == (36, 12)
    assert found.report["other_split"] == 12 and found.report["shared_with_test"] == 4
    none = write_csv(tmp_path / "b.csv", [row for row in rows if row[-1] != "test"], header)
    with pytest.raises(
        CourseError, match=r"b.csv: its column 'split' names no test rows; it holds 'train', 'validation'"
    ):
        data.load(SARCASM, none)
    plain = [row[:-1] for row in rows]
    assert not {"other_split", "shared_with_test"} & set(
        data.load(SARCASM, write_csv(tmp_path / "c.csv", plain)).report
    )


def test_a_source_that_is_gone_gives_way_to_the_next(monkeypatch):
    from llmcourse.data import sources

    def gone(fetch, place, alternative):
        raise CourseError(f"{place} does not answer")

    monkeypatch.setattr(sources, "_download", gone)
    rows = data.load_first(SARCASM, ["hub", "bundled"], n_train=10, n_test=10)
    assert rows.source == "bundled" and len(rows.train) == 10
    with pytest.raises(CourseError, match="the hub does not answer"):
        data.load_first(SARCASM, ["hub"])


def test_the_sarcasm_corpus_comes_in_its_frozen_split(bundled):
    assert len(bundled.train) == 1000 and len(bundled.test) == 200
    assert not set(bundled.train["parent_comment"]) & set(bundled.test["parent_comment"])
    # frozen: whoever changes a test row changes this id, and every number that was measured on it
    assert bundled.test_id == "f578dbb090cc"


@pytest.mark.parametrize(
    ("task", "train", "test", "test_id"), [(SUPPORT, 700, 300, "58ca961aa12b"), (SENTIMENT, 300, 300, "9054009f22d4")]
)
def test_the_other_corpora_come_in_their_frozen_splits(task, train, test, test_id):
    rows = data.load(task)
    assert (len(rows.train), len(rows.test)) == (train, test)
    column = task.columns[0]
    assert not set(rows.train[column]) & set(rows.test[column])
    assert rows.test_id == test_id  # frozen, as above


def test_texts_that_differ_in_digits_are_different_rows(tmp_path):
    """DuckDB's hash() took 17 of these 90 texts for others."""
    task = Task("plain", "Sort it.", {"text": "text"}, ("a", "b"))
    for pattern in ("order number {:02} is late", "Ticket {:02} is about C, please", "id={:02}0000 x", "{:02}"):
        rows = [[i % 2, pattern.format(i)] for i in range(90)]
        report = data.load(task, write_csv(tmp_path / "a.csv", rows, ["label", "text"])).report
        assert report["kept"] == 90 and report["duplicates"] == report["contradictory"] == 0


SAME = [
    ("İyi bir gün", "i̇yi bir gün"),
    ("cafe\u0301 noir", "Café noir"),
    ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ("STRASSE", "straße"),
    ("a\u00a0b  c", "A b c"),
    ("zero\u200bwidth", "zerowidth"),
    ("\ufeffmark", "mark"),
    ("ﬁne", "FINE"),
]


@pytest.mark.parametrize("one, other", SAME)
def test_what_counts_as_the_same_text_is_the_same_everywhere(tmp_path, one, other, tiny):
    """The loader, the leak check of an experiment and the groups of a card agree."""
    from llmcourse.experiment import Experiment

    task = Task("plain", "Sort it.", {"text": "text"}, ("a", "b"))
    rows = [[i % 2, f"filler {i}"] for i in range(40)]
    path = write_csv(tmp_path / "a.csv", [*rows, [0, one], [0, other]], ["label", "text"])
    found = data.load(task, path)
    assert found.report["duplicates"] == 1
    assert data.groups(task, [{"text": one}]) == data.groups(task, [{"text": other}])
    test = write_csv(
        tmp_path / "test.csv", [[i % 2, f"other {i}"] for i in range(10)] + [[1, other]], ["label", "text"]
    )
    found = data.load(task, path, test=test)
    assert found.report["shared_with_test"] == 2
    Experiment(found, tiny, tmp_path / "runs", quiet=True)


def test_an_empty_source_is_no_source():
    for options in ({"source": ""}, {"source": " "}, {"test": ""}):
        with pytest.raises(CourseError, match=r"of the rows is empty. Name a file"):
            data.load(SARCASM, **options)
