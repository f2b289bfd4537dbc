"""Which columns are suggested when the task's are not there: by content and by name, never an address or the label."""

import pytest
from csv_files import YES_NO, write_csv, yes_no

from llmcourse import CourseError, data
from llmcourse.data.tasks import SARCASM

LINK = "https://example.org/posts/{}?utm=a"
DATE = "2026-11-29 03:14:15"


def message(tmp_path, header, rows, task=YES_NO, **options):
    with pytest.raises(CourseError) as error:
        data.load(task, write_csv(tmp_path / "a.csv", rows, header), **options)
    return str(error.value)


@pytest.mark.parametrize("names", [("sentence", "target"), ("v2", "v1"), ("review body", "is it good?")])
def test_texts_and_labels_are_found(tmp_path, names):
    rows = [(i, DATE, LINK.format(i), text, label) for i, (text, label) in enumerate(yes_no())]
    said = message(tmp_path, ["id", "when", "url", *names], rows)
    assert f"columns={{'label': '{names[1]}', 'text': '{names[0]}'}}" in said and "--column" in said


def test_labels_are_never_suggested_as_texts(tmp_path):
    rows = [(LINK.format(i), label) for i, (_, label) in enumerate(yes_no())]
    said = message(tmp_path, ["url", "label"], rows)
    assert "Say which one holds it" in said and "=url" not in said and "=label" not in said


def test_longer_texts_come_after_those_with_a_text_s_name(tmp_path):
    rows = [(f"{text} and some more words about it, at length", text, label) for text, label in yes_no()]
    assert "'text': 'message'" in message(tmp_path, ["signature", "message", "label"], rows)


def test_two_columns_are_suggested_for_two(tmp_path):
    rows = [(f"What do you say to {i}?", f"I say {i} to that, and no more", i % 2) for i in range(40)]
    said = message(tmp_path, ["post", "reply", "sarcastic"], rows, SARCASM)
    assert ("'label': 'sarcastic'" in said and "'parent_comment': 'reply'" in said) or "'comment': 'reply'" in said


def test_chinese_texts_have_no_spaces(tmp_path):
    rows = [(f"非常喜欢推荐很好用第{i}单", label) for i, (_, label) in enumerate(yes_no())]
    assert "columns={'text': '评论'}" in message(tmp_path, ["评论", "label"], rows)


def test_a_file_without_names_is_noticed(tmp_path):
    first, *rows = yes_no()
    assert "Line 1 looks like a row" in message(tmp_path, first, rows)


def test_a_file_without_labels_is_for_predict(tmp_path):
    assert "llmcourse predict --file" in message(tmp_path, ["text"], [(text,) for text, _ in yes_no()])


def test_nested_columns_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n')
    with pytest.raises(CourseError, match="'messages' holds lists or objects"):
        data.load(YES_NO, tmp_path / "a.jsonl")


def test_a_column_cannot_be_text_and_label(tmp_path):
    said = message(tmp_path, ["text", "label"], yes_no(), columns={"text": "label"})
    assert "'label' would be both text and label" in said


def test_the_test_file_may_call_its_columns_otherwise(tmp_path):
    train = write_csv(tmp_path / "train.csv", yes_no(), ["text", "label"])
    rows = [(f"another {text}", label) for text, label in yes_no(20)]
    test = write_csv(tmp_path / "test.csv", rows, ["sentence", "target"])
    with pytest.raises(CourseError, match=r"test.csv has no column 'text'.*--test-column label=target"):
        data.load(YES_NO, train, test=test)
    found = data.load(YES_NO, train, test=test, test_columns={"text": "sentence", "label": "target"})
    assert (len(found.train), len(found.test)) == (40, 20) and "train.csv and test.csv" in found.describe()
    with pytest.raises(CourseError, match="test_columns are given, but no test file"):
        data.load(YES_NO, train, test_columns={"text": "sentence"})
