"""Rows of any number are predicted shard by shard: bounded memory, nothing asked twice, nothing outdated used."""

import csv
import io
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from llmcourse import CourseError, cli, models
from llmcourse._base import files
from llmcourse.data.tasks import Task
from llmcourse.predict import Scored, judges, shards
from llmcourse.predict.shards import Judge

TASK = Task("plain", "Sort it.", {"text": "text"}, ("no", "yes"))
ADAPTER = {"adapter": "one"}


def written(path, n=35, prefix="text"):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([f"{prefix} {i}"] for i in range(n))])
    return path


def answers(rows):
    """Made from each row's number, so that an answer in the wrong place shows."""
    labels = [row["row"] % 2 for row in rows]
    logs = [[math.log(0.25), math.log(0.75)] if label else [math.log(0.75), math.log(0.25)] for label in labels]
    return Scored([1 - label for label in labels], 1.0, logprobs=logs), Scored(labels, 1.0, logprobs=logs)


class Model:
    """Stands for a model: counts its loads and the rows that it was asked, and may be stopped after some shards."""

    def __init__(self, stop_after=None):
        self.loads, self.asked, self.left = 0, [], stop_after

    def load(self):
        self.loads += 1

        def ask(rows):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            self.asked += [row["row"] for row in rows]
            return answers(rows)

        return ask


@pytest.fixture(autouse=True)
def small_shards(monkeypatch, tmp_path):
    monkeypatch.setattr(shards, "SHARD_ROWS", 10)
    monkeypatch.chdir(tmp_path)


def run(model, source="in.csv", out="out.csv", depends_on=ADAPTER, columns=None):
    messages = []
    judge = Judge(TASK, model.load, depends_on)
    count = shards.ask_file(judge, source, out, columns, messages.append)
    return count, "".join(messages)


def table(path="out.csv"):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stopped(after, **how):
    model = Model(stop_after=after)
    with pytest.raises(KeyboardInterrupt):
        run(model, **how)
    return model


def test_a_stopped_run_goes_on_after_its_last_whole_shard(tmp_path):
    written("in.csv")
    first = stopped(after=2)
    assert first.asked == list(range(1, 21)) and not (tmp_path / "out.csv").exists()
    second = Model()
    count, messages = run(second)
    assert second.asked == list(range(21, 36)) and count == 35
    assert "Going on after row 20 of 35, with" in messages
    lines = table()
    assert [line["row"] for line in lines] == [str(n) for n in range(1, 36)]
    assert [line["after"] for line in lines] == [TASK.labels[n % 2] for n in range(1, 36)]
    assert lines[3] == {
        "row": "4",
        "before": "yes",
        "before_probability": "0.2500",
        "after": "no",
        "after_probability": "0.7500",
        "text": "text 3",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_the_same_as_in_one_go(tmp_path):
    written("in.csv")
    stopped(after=1)
    run(Model())
    whole = (tmp_path / "out.csv").read_text()
    shown = []
    shards.ask_file(Judge(TASK, Model().load, ADAPTER), "in.csv", write=shown.append)
    assert "".join(shown) == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda: {"depends_on": {"adapter": "two"}},
        lambda: written("in.csv", prefix="other") and {},
        lambda: {"columns": {"text": "other"}},
    ],
    ids=["adapter", "texts", "columns"],
)
def test_what_was_kept_for_something_else_is_not_used(change):
    with open("in.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "other"], *([f"text {i}", f"other {i}"] for i in range(35))])
    stopped(after=2)
    model = Model()
    count, messages = run(model, **change())
    assert model.asked == list(range(1, count + 1)) and "belongs to another" in messages and len(table()) == count


def test_a_file_that_has_grown_is_predicted_from_its_first_new_shard_on():
    written("in.csv")
    stopped(after=2)
    written("in.csv", n=36)
    model = Model()
    assert run(model)[0] == 36 and model.asked == list(range(21, 37))


@pytest.mark.parametrize("change", [lambda line: line.replace(b"yes", b"no"), lambda line: b"[" * 100_000 + b"\n"])
def test_a_shard_that_has_changed_is_asked_again(tmp_path, change):
    written("in.csv")
    stopped(after=3)
    path = tmp_path / ".out.csv.partial" / "predictions.jsonl"
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + change(second) + third)
    model = Model()
    with pytest.warns(files.Damaged, match="line 2 has changed"):
        run(model)
    assert model.asked == list(range(11, 36))
    assert [line["after"] for line in table()] == [TASK.labels[n % 2] for n in range(1, 36)]


def test_rows_that_come_from_a_pipe_go_on_too(tmp_path):
    """No file, no count: rows as an iterator, which a second run hands over again."""

    def rows(n):
        return ({"row": i, "text": f"text {i}"} for i in range(1, n + 1))

    first, second = Model(stop_after=2), Model()
    with pytest.raises(KeyboardInterrupt):
        shards.ask_rows(Judge(TASK, first.load, ADAPTER), rows(35), tmp_path / "out.csv")
    messages = []
    count = shards.ask_rows(Judge(TASK, second.load, ADAPTER), rows(35), tmp_path / "out.csv", messages.append)
    assert count == 35 and second.asked == list(range(21, 36)) and "Going on after row 20, with" in messages[0]
    assert [line["row"] for line in table()] == [str(n) for n in range(1, 36)]


def test_lines_of_a_pipe_go_on_where_they_stopped(tmp_path, capsys):
    """Line n is row n, blank lines too, and no answer is asked twice."""
    lines = b"".join(b"\n" if i in (4, 20) else b"text %d\r\n" % i for i in range(1, 36))
    asked = [i for i in range(1, 36) if i not in (4, 20)]

    def run_lines(model, out="out.csv", write=None):
        judge = Judge(TASK, model.load, ADAPTER)
        return shards.ask_lines(judge, io.BytesIO(lines), out=out, write=write or (lambda text: None))

    first, second = Model(stop_after=2), Model()
    with pytest.raises(KeyboardInterrupt):
        run_lines(first)
    assert run_lines(second) == 35 and first.asked + second.asked == asked and len(first.asked) == 18
    assert "2 of 35 lines are blank, beginning with line 4." in capsys.readouterr().err
    assert [line["row"] for line in table()] == [str(n) for n in range(1, 36)]
    assert [line["after"] for line in table()] == [TASK.labels[n % 2] if n in asked else "" for n in range(1, 36)]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    shown = []
    assert run_lines(Model(), None, shown.append) == 35 and "".join(shown) == (tmp_path / "out.csv").read_text()


def test_answers_to_standard_output_come_while_others_are_asked(monkeypatch):
    monkeypatch.setattr(shards, "STREAMED_ROWS", 10)
    shown, model = [], Model(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        judge = Judge(TASK, model.load, ADAPTER)
        shards.ask_lines(judge, io.BytesIO(b"text\n" * 35), write=shown.append)
    assert len("".join(shown).splitlines()) == 1 + 10


def test_no_model_is_loaded_for_a_bad_row_or_for_nothing(tmp_path, monkeypatch):
    with open(written("in.csv"), "a") as file:
        file.write(f"{'y' * 5000}\n")
    model = Model()
    with pytest.raises(CourseError, match=r"in.csv, row 36: column 'text' has 5,000 characters"):
        run(model)
    assert model.loads == 0 and [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    written("in.csv")
    with monkeypatch.context() as patch:  # stopped when all is answered and only the renaming is left
        patch.setattr(shards.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(Model())
    run(model)
    assert model.loads == 0 and len(table()) == 35


def test_a_file_that_changes_under_our_hands_is_refused(tmp_path):
    written("in.csv")
    model = Model()

    def load():
        ask = model.load()
        written("in.csv", prefix="exchanged")
        return ask

    with pytest.raises(CourseError, match="changed while it was read"):
        shards.ask_file(Judge(TASK, load, ADAPTER), "in.csv", "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_two_commands_do_not_write_one_file(tmp_path):
    written("in.csv")
    program = (
        "import sys\nfrom llmcourse._base import files\nwith files.lock('.out.csv.partial/predictions.jsonl'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(CourseError, match=r"Another command is writing out\.csv"):
            run(Model())
        other.communicate()
    assert run(Model())[0] == 35


def test_the_table_is_safe_in_a_spreadsheet():
    odd = Task("odd", "Sort it.", {"=field": "text"}, ("+1", "-1"))
    rows = [{"row": 1, "=field": "=1+1"}, {"row": 2, "=field": "plain"}]
    text = shards.table_header(odd) + shards.table_lines(odd, rows, *answers(rows))
    cells = list(csv.reader(text.splitlines()))
    assert cells[0][-1] == "'=field" and cells[1] == ["1", "'+1", "0.2500", "'-1", "0.7500", "'=1+1"]
    assert cells[2][-1] == "plain"


@pytest.mark.trust
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_is_bounded_whatever_the_length(tmp_path, measured):
    """With 430 MB in place of 43, DuckDB's buffers grow to their limit, but the rows are never all in memory."""
    program = """
import sys
from llmcourse.predict import Scored, judges, shards
from llmcourse.data.tasks import Task
task = Task("plain", "Sort it.", {"text": "text"}, ("no", "yes"))
shards.SHARD_ROWS = 500
def ask(rows):
    one = Scored([0] * len(rows), 1.0, logprobs=[[-0.1, -2.4]] * len(rows))
    return one, one
n = shards.ask_file(judges.Judge(task, lambda: ask, {}), sys.argv[1], sys.argv[2])
status = open("/proc/self/status").read()
print(n, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""
    peaks = {}
    for n in (30_000, 300_000):
        with open(tmp_path / "in.csv", "w") as file:
            file.write("text\n")
            for i in range(n):
                file.write(f"row {i} {'and what it says ' * 80}\n")
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "in.csv", tmp_path / "out.csv"],
            capture_output=True,
            text=True,
            check=True,
        )
        count, peak = done.stdout.split()
        assert int(count) == n
        peaks[n] = float(peak)
    with open(tmp_path / "out.csv") as file:
        assert sum(1 for _ in file) == 300_001
    measured("long_files", rows=list(peaks), peak_memory_mib=[round(peak) for peak in peaks.values()])
    assert peaks[300_000] < peaks[30_000] + 200, peaks


def test_rows_that_were_cut_before_a_stop_are_counted_too(capsys):
    written("in.csv")  # 35 rows in shards of 10

    def load(stop_after):
        shards_left = iter(range(stop_after))

        def ask(rows):
            if next(shards_left, None) is None:
                raise KeyboardInterrupt
            before, after = answers(rows)
            return before, replace(after, cut_rows=2)

        return ask

    stopping, going_on = (Judge(TASK, partial(load, n), ADAPTER, max_length=100) for n in (2, 9))
    with pytest.raises(KeyboardInterrupt):
        shards.ask_file(stopping, "in.csv", "out.csv")
    assert "cut" not in capsys.readouterr().err
    shards.ask_file(going_on, "in.csv", "out.csv")
    assert "To fit max_length=100 tokens, 8 of 35 rows were cut at the end." in capsys.readouterr().err


def test_predictions_from_before_rows_were_cut_are_not_used():
    """What the log of a stopped run holds depends on the limit, and older versions cut nothing."""
    judge = judges.of_adapter(models.shipped_adapter("sarcasm"))
    assert judge.depends_on["max_length"] == judge.max_length == 512


def test_the_command_goes_on(monkeypatch, capsys, tmp_path):
    """The command stops with 130 and continues when it is repeated, with the adapter's task and the user's columns."""
    with open("in.csv", "w", newline="") as file:
        csv.writer(file).writerows([["body", "above"], *([f"=text {i}", "p"] for i in range(25))])
    model = Model(stop_after=2)
    monkeypatch.setattr(models, "load", lambda name: None)
    ask = model.load()
    monkeypatch.setattr(judges, "before_and_after", lambda loaded, task, folder, rows, check: ask(rows))
    command = ["predict", "--file", "in.csv", "--column", "comment=body", "--column", "parent_comment=above"]
    assert cli.main([*command, "--out", "out.csv"]) == 130
    assert "To resume, run the same command again" in capsys.readouterr().err
    model.left = None
    assert cli.main([*command, "--out", "out.csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Going on after row 20 of 25, with what {Path('.out.csv.partial')} holds.",
        "25 predictions: out.csv",
    ]
    assert model.asked == list(range(1, 26)) and table()[24]["comment"] == "'=text 24"
    assert cli.main(command) == 0  # to standard output, the same table
    assert capsys.readouterr().out == (tmp_path / "out.csv").read_text()


def test_an_adapter_is_checked_once_in_a_run(monkeypatch):
    written("in.csv")
    checks = []
    monkeypatch.setattr(models, "load", lambda name: None)

    def ask(loaded, task, folder, rows, check):
        checks.append((len(rows), check))
        return answers(rows)

    monkeypatch.setattr(judges, "before_and_after", ask)
    for _ in range(2):
        checks.clear()
        assert shards.predict_file(models.shipped_adapter("support"), "in.csv", "out.csv", {"message": "text"}) == 35
        assert checks == [(10, True), (10, False), (10, False), (5, False)]


def test_quotation_marks_of_a_file_mean_what_the_user_says(monkeypatch, capsys):
    Path("in.csv").write_text('text\n"a quote that is never closed\nb\n')
    monkeypatch.setattr(models, "load", lambda name: None)
    monkeypatch.setattr(judges, "before_and_after", lambda loaded, task, folder, rows, check: answers(rows))
    adapter = models.shipped_adapter("support")
    with pytest.raises(CourseError, match="line 2 opens a quotation mark that is never closed"):
        shards.predict_file(adapter, "in.csv", columns={"message": "text"})
    assert shards.predict_file(adapter, "in.csv", "out.csv", {"message": "text"}, quotes="none") == 2
    assert [line["message"] for line in table()] == ['"a quote that is never closed', "b"]
    command = ["predict", "--task", "support", "--file", "in.csv", "--column", "message=text", "--out", "other.csv"]
    assert cli.main(command) == 2 and cli.main([*command, "--quotes", "none"]) == 0
    assert table("other.csv") == table()


def test_the_result_takes_the_place_of_nothing_else(tmp_path):
    """Once the rows were replaced by their predictions, and a folder as --out was noticed only at the end."""
    written("in.csv")
    before = (tmp_path / "in.csv").read_bytes()
    (tmp_path / "results").mkdir()
    (tmp_path / "same.csv").symlink_to("in.csv")
    model = Model()
    for out, message in (
        ("in.csv", "is the file that is read"),
        ("same.csv", "is the file that is read"),
        ("results", "is a folder"),
        (".", "is a folder"),
    ):
        with pytest.raises(CourseError, match=f"--out {out} {message}"):
            run(model, out=out)
    assert model.loads == 0 and (tmp_path / "in.csv").read_bytes() == before
