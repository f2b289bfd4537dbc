"""The sample file of notebook 06 holds the bundled rows, and never replaces a file of the reader's."""

import pytest

from llmcourse import CourseError, data
from llmcourse.data.tasks import SUPPORT
from llmcourse.lessons import sample_file


def test_the_sample_is_the_bundled_corpus(tmp_path):
    sample_file(tmp_path / "mine.csv")
    rows, bundled = data.load(SUPPORT, tmp_path / "mine.csv", columns={"message": "text"}), data.load(SUPPORT)
    assert (rows.train_id, rows.test_id) == (bundled.train_id, bundled.test_id)
    assert ",Praise," in (tmp_path / "mine.csv").read_text(encoding="utf-8")


def test_a_file_of_the_readers_stays(tmp_path):
    (tmp_path / "mine.csv").write_text("my own rows")
    sample_file(tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "my own rows"


def test_a_mistyped_path_is_not_filled_with_the_sample(tmp_path):
    with pytest.raises(CourseError, match=r"There is no file .*mials.csv.*FILE = 'mine.csv'"):
        sample_file(tmp_path / "mials.csv")
    assert list(tmp_path.iterdir()) == []
