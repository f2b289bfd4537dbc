"""The split: every usable row is on one side, each label in both, and no group on both."""

from collections import Counter

import pytest
from csv_files import YES_NO, csv_rows, write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcourse import CourseError, data
from llmcourse.data.describing import WORDS
from llmcourse.data.tasks import SARCASM, Task

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load(tmp_path, task, rows, header=("text", "label"), **options):
    return data.load(task, write_csv(tmp_path / "a.csv", rows, header), **options)


def task_of(count):
    return Task("own", "Sort it.", {"text": "text"}, tuple(f"label {n}" for n in range(count)))


def left_out(report):
    return sum(report.get(reason, 0) for reason in WORDS if reason != "rejected")


@pytest.mark.parametrize("labels, each, train, test", [(4, 25, 20, 5), (50, 40, 32, 8), (77, 6, 5, 1), (2, 2, 1, 1)])
def test_each_label_is_split_by_itself(tmp_path, labels, each, train, test):
    rows = [(f"text {i}", f"label {i % labels}") for i in range(labels * each)]
    report = load(tmp_path, task_of(labels), rows).report
    assert set(report["train"].values()) == {train} and set(report["test"].values()) == {test}
    assert left_out(report) == 0


def test_uneven_labels_stay_uneven_and_are_told(tmp_path):
    rows = [(f"text {i}", "yes" if i % 20 == 0 else "no") for i in range(200)]
    found = load(tmp_path, YES_NO, rows)
    assert found.report["train"] == {"no": 152, "yes": 8} and found.report["test"] == {"no": 38, "yes": 2}
    assert "train 152 no, 8 yes; test 38 no, 2 yes" in found.describe()
    assert "fewer than 10 training rows have the label 'yes' (8)" in found.describe()


def test_rows_left_out_for_balance_are_counted(tmp_path):
    rows = [(f"text {i}", "yes" if i % 20 == 0 else "no") for i in range(200)]
    found = load(tmp_path, YES_NO, rows, balance=True)
    assert found.report["train"] == {"no": 8, "yes": 8} and found.report["test"] == {"no": 2, "yes": 2}
    assert found.report["unbalanced"] == 180 and "left out: 180 for balance" in found.describe()


def test_a_test_file_is_used_whole(tmp_path):
    train = write_csv(
        tmp_path / "train.csv", [(f"text {i}", ("no", "yes")[i < 10]) for i in range(200)], ("text", "label")
    )
    rows = [(f"other {i % 95}", ("no", "yes")[i % 95 < 5]) for i in range(100)]  # five rows come twice
    test = write_csv(tmp_path / "test.csv", rows, ("text", "label"))
    for balance in (False, True):
        found = data.load(YES_NO, train, test=test, balance=balance)
        assert len(found.test) == 100 and found.report["test"] == {"no": 90, "yes": 10}
        assert len(found.train) + left_out(found.report) == 200
    assert found.report["train"] == {"no": 10, "yes": 10} and found.report["unbalanced"] == 180
    few = data.load(YES_NO, train, test=test, n_test=20)
    assert few.report["test"] == {"no": 18, "yes": 2} and few.report["not_asked_for"] == 80


def test_a_label_with_a_single_row_is_refused(tmp_path):
    rows = [(f"text {i}", "yes" if i == 7 else "no") for i in range(60)]
    with pytest.raises(CourseError, match="too few rows are labelled 'yes': 1, and to learn and to test, one each"):
        load(tmp_path, YES_NO, rows)


def test_a_label_within_one_group_is_refused(tmp_path):
    rows = [[int(i < 5), f"reply {i}", "the same parent" if i < 5 else f"parent {i}"] for i in range(40)]
    with pytest.raises(
        CourseError, match="too few rows are labelled 'Sarcasm': 5, and all of them share one parent_com"
    ):
        load(tmp_path, SARCASM, rows, ("label", "comment", "parent_comment"))


def test_a_test_file_with_one_label_is_refused(tmp_path):
    train = write_csv(
        tmp_path / "train.csv", [(f"text {i}", ("no", "yes")[i % 2]) for i in range(20)], ("text", "label")
    )
    test = write_csv(tmp_path / "test.csv", [(f"other {i}", "yes") for i in range(5)], ("text", "label"))
    with pytest.raises(CourseError, match=r"test.csv: all its test rows have the label 'yes'"):
        data.load(YES_NO, train, test=test)
    write_csv(test, [(f"other {i}", "") for i in range(5)], ("text", "label"))
    with pytest.raises(CourseError, match=r"test.csv: none of its rows can be used. Left out: 5 without a label"):
        data.load(YES_NO, train, test=test)


groups = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), min_size=3, max_size=60)


@quick
@given(groups, st.none() | st.integers(3, 60), st.none() | st.integers(3, 30), st.booleans(), st.integers(0, 3))
def test_groups_stay_together_and_no_row_is_lost(tmp_path, sizes, n_train, n_test, balance, seed):
    """Groups of any size, with labels that may be rare."""
    task = Task("own", "Sort it.", {"post": "post", "text": "text"}, ("a", "b", "c"), group_column="post")
    rows = [
        (f"post {group}", f"text {group} {i}", "abc"[(label + i) % 3 if size % 2 else label])
        for group, (size, label) in enumerate(sizes)
        for i in range(size)
    ]
    try:
        options = {"n_train": n_train, "n_test": n_test, "balance": balance, "seed": seed}
        found = load(tmp_path, task, rows, ("post", "text", "label"), **options)
    except CourseError:
        return
    assert not set(found.train["post"]) & set(found.test["post"])
    assert len(found.train) + len(found.test) + left_out(found.report) == len(rows) == found.report["read"]
    for side, wanted in (("train", n_train), ("test", n_test)):
        counts = found.report[side]
        assert min(counts.values()) > 0 and (wanted is None or sum(counts.values()) <= max(wanted, 3))
        assert not balance or len(set(counts.values())) == 1
    again = load(tmp_path, task, rows[::-1], ("post", "text", "label"), **options)
    assert (again.test_id, again.train_id) == (found.test_id, found.train_id)


@quick
@given(st.lists(st.integers(1, 4), min_size=20, max_size=80))
def test_groups_give_the_test_set_its_share(tmp_path, sizes):
    rows = [[i % 2, f"reply {g} {i}", f"parent {g}"] for g, size in enumerate(sizes) for i in range(2 * size)]
    found = load(tmp_path, SARCASM, rows, ("label", "comment", "parent_comment"))
    assert abs(len(found.test) / len(rows) - 0.2) < 0.1 and len(found.train) + len(found.test) == len(rows)


def test_a_column_called_split_is_understood(tmp_path):
    words = [("Train", "TEST"), ("training", "testing"), (" train ", "test")]
    ids = set()
    for train, test in words:
        rows = [(f"text {i}", ("no", "yes")[i % 2], test if i % 5 == 0 else train) for i in range(40)]
        for name in ("split", "Split", "SPLIT"):
            found = load(tmp_path, YES_NO, rows, ("text", "label", name))
            assert (len(found.train), len(found.test)) == (32, 8)
            ids.add(found.test_id)
    assert len(ids) == 1
    rows = [(f"text {i}", ("no", "yes")[i % 2], ("train", "dev", "test")[i % 3]) for i in range(60)]
    found = load(tmp_path, YES_NO, rows, ("text", "label", "split"))
    assert found.report["other_split"] == 20 and "20 of another split" in found.describe()
    # other words are no split: the rows are split as if there was no such column
    rows = [(f"text {i}", ("no", "yes")[i % 2], ("a", "b")[i % 2]) for i in range(60)]
    assert len(load(tmp_path, YES_NO, rows, ("text", "label", "split")).test) == 12


@pytest.mark.parametrize("name", ["row", "part", "split", "side", "order", "given", "text_0", "Row", 'q"x', "a b"])
def test_a_text_column_may_have_any_name(tmp_path, name):
    task = Task("own", "Sort it.", {name: "text"}, ("no", "yes"))
    rows = [(f"text {i}", ("no", "yes")[i % 2]) for i in range(40)]
    found = load(tmp_path, task, rows, (name, "label"))
    assert sorted([*found.train[name], *found.test[name]]) == sorted(text for text, _ in rows)
    numbers = [*found.train[task.number_column], *found.test[task.number_column]]
    assert sorted(numbers) == list(range(1, 41))
    assert [row[name] for row in data.read_all(task, tmp_path / "a.csv")] == [text for text, _ in rows]


def test_the_rows_asked_for_are_divided_in_proportion(tmp_path):
    rows = [[i % 4 == 0, f"reply {i}", f"parent {i}"] for i in range(400)]
    rows = [[int(label), *texts] for label, *texts in rows]
    found = load(tmp_path, SARCASM, rows, ("label", "comment", "parent_comment"), n_train=100, n_test=40)
    assert found.report["train"] == {"Not Sarcasm": 75, "Sarcasm": 25}
    assert found.report["test"] == {"Not Sarcasm": 30, "Sarcasm": 10} and found.report["not_asked_for"] == 260
    half = load(tmp_path, SARCASM, csv_rows(40, 40), ("label", "comment", "parent_comment"), n_test=30)
    assert len(half.test) == 20 and half.report["test_wanted"] == 30
    assert Counter(half.train["label"]) == Counter(half.test["label"])


def test_a_test_file_decides_whatever_a_column_of_the_training_file_says(tmp_path):
    rows = [(f"text {i}", ("no", "yes")[i % 2], ("train", "test")[i % 5 == 0]) for i in range(40)]
    train = write_csv(tmp_path / "train.csv", rows, ("text", "label", "split"))
    test = write_csv(
        tmp_path / "test.csv", [(f"other {i}", ("no", "yes")[i % 2]) for i in range(10)], ("text", "label")
    )
    found = data.load(YES_NO, train, test=test)
    assert (len(found.train), len(found.test)) == (40, 10)
    assert all(text.startswith("other") for text in found.test["text"])
