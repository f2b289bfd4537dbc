"""What the label column of a stranger's file may hold, and what is said about the rest."""

import pytest
from csv_files import YES_NO, write_csv, yes_no

from llmcourse import CourseError, data
from llmcourse.data.tasks import Task

FORMS = {
    "case and spaces": (" Yes ", "NO\t"),
    "no-break space": ("yes\u00a0", "\u00a0no"),
    "zero-width": ("\ufeffyes", "no\u200b"),
    "in quotation marks": ('"yes"', "'no'"),
    "numbers": ("1", "0"),
    "decimals": ("1.0", "0.0"),
    "zeros in front": ("01", "00"),
    "truth values": ("True", "FALSE"),
}


def load(tmp_path, values, task=YES_NO, **options):
    """Load rows whose labels are the values in turn."""
    rows = [(text, values[i % len(values)]) for i, (text, _) in enumerate(yes_no())]
    return data.load(task, write_csv(tmp_path / "a.csv", rows, ["text", "label"]), **options)


def labels(*words):
    return Task("own", "Sort it.", {"text": "text"}, words)


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_label(tmp_path, form):
    yes, no = FORMS[form]
    found = load(tmp_path, [no, yes])
    assert found.test_id == load(tmp_path, ["no", "yes"]).test_id


@pytest.mark.parametrize(
    "words, values",
    [
        (("ΌΧΙ", "ΝΑΊ"), ("όχι", "ναί")),
        (("İyi", "kötü"), ("i̇yi", "KÖTÜ")),
        (("bon", "pas terminé"), ("BON", "pas termine\u0301")),
        (("straße", "platz"), ("STRASSE", "Platz")),
        (("1", "2"), ("1.0", "2")),
        (("00", "01"), ("00", "01")),
        (("-1", "1"), ("-1", "1.0")),
        (("C", "C++"), ("c", "c++")),
        (("N/A", "applies"), ("n/a", "applies")),
        (("none", "some"), ("None", "some")),
        (("False", "True"), ("false", "true")),
    ],
)
def test_words_are_compared_as_unicode_says(tmp_path, words, values):
    found = load(tmp_path, values, labels(*words))
    assert found.report["no_label"] == 0 and found.report["train"] == dict.fromkeys(words, 16)


@pytest.mark.parametrize("nothing", ["", " ", "nan", "NaN", "None", "NULL", "N/A", "-", "<NA>", "\u200b"])
def test_what_programs_write_for_no_label_is_counted(tmp_path, nothing):
    found = load(tmp_path, ["no", "yes", "no", "yes", nothing])
    assert found.report["no_label"] == 8 and found.report["kept"] == 32
    assert "8 without a label" in found.describe()


@pytest.mark.parametrize(
    "values, message",
    [
        (["1", "2"], r"row 2: unknown label '2'.*20 of 40 rows.*--labels=1,2 \(Task\(labels=\('1', '2'\)\)\)"),
        (["-1", "1"], r"row 1: unknown label '-1'.*--labels=-1,1.*kept secret"),
        (["no", "yes", "yes|no"], r"row 3: unknown label 'yes\|no'.*13 of 40.*one label only"),
        (
            ["no", "maybe", "yes"],
            r"unknown label 'maybe'\. The task 'yes-no' knows 'no', 'yes'\..*--labels=maybe,no,yes",
        ),
    ],
)
def test_unknown_labels_come_with_what_to_do(tmp_path, values, message):
    with pytest.raises(CourseError, match=message):
        load(tmp_path, values)


def test_texts_in_the_place_of_labels_are_noticed(tmp_path):
    with pytest.raises(CourseError, match="The column 'label' seems to hold texts"):
        load(tmp_path, [f"{text}, and more of it" for text, _ in yes_no()])


def test_many_labels(tmp_path):
    words = [f"intent {n:03}" for n in range(151)]
    rows = [(f"row {i}", words[i % 151]) for i in range(151 * 4)]
    found = data.load(labels(*words), write_csv(tmp_path / "a.csv", rows, ["text", "label"]))
    assert max(found.train["label"]) == 150 and set(found.report["train"].values()) == {3}
    assert set(found.report["test"].values()) == {1} and "and 146 more" in found.describe()


def test_what_makes_all_rows_unusable_is_named(tmp_path):
    def said(rows):
        with pytest.raises(CourseError) as error:
            data.load(YES_NO, write_csv(tmp_path / "a.csv", rows, ["text", "label"]))
        return str(error.value)

    assert "40 without a label. The column 'label' is empty" in said([(text, "") for text, _ in yes_no()])
    assert "40 without a text. A text column (text) is empty" in said([(" ", label) for _, label in yes_no()])
    assert "40 contradictory. Rows with the same text" in said([("see attachment", label) for _, label in yes_no()])
    assert "40 too long. They have more than 4,000" in said([(text + "x" * 5000, label) for text, label in yes_no()])
    half = [(text, label if label == "yes" else "") for text, label in yes_no()]
    assert "one label only ('yes')" in said(half) and "20 without a label" in said(half)
