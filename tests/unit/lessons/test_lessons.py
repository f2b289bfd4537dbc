"""What notebooks import from llmcourse.lessons is there, and is imported when it is first used."""

import subprocess
import sys

from llmcourse import lessons


def test_every_name_is_there():
    for name in lessons.__all__:
        assert getattr(lessons, name).__doc__, name


def test_an_exercise_is_checked_without_torch():
    program = "import sys; from llmcourse.lessons import check; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
