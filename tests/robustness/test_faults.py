"""Faults: killed processes, changed bytes, a full disk, a cache that cannot be written, two processes on one run.

The outcome that counts: whatever happened before, one clean run more ends with what a run would have that was never
disturbed.
"""

import contextlib
import csv
import ctypes
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import whole_job
from small import ONE_EPOCH, some_rows

from llmcourse import cli, experiment
from llmcourse._base import files
from llmcourse.experiment import Experiment, report, runner
from llmcourse.models import embedded
from llmcourse.predict.journal import Journal
from llmcourse.training import checkpoints, finetuning

JOB = Path(whole_job.__file__)
KILLS = 20
WRITES = {"convert": 6, "train": 30, "evaluate": 12, "write": 4}
"""About as many calls of fsync or rename a phase of the job has."""
LONG = ONE_EPOCH.changed(epochs=6, save_steps=2)  # 24 steps


def start(folder: Path, phase: str | None = None, write: int = 0) -> subprocess.Popen:
    command = [sys.executable, str(JOB), str(folder), *([phase, str(write)] if phase else [])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return out


PASSING = re.compile(r"seconds|date|resumed_from|free|_gib|micro_")
"""What is said of a run and not of its outcome."""


def lasting(value):
    """A JSON value without what passes."""
    if isinstance(value, dict):
        return {name: lasting(part) for name, part in value.items() if not PASSING.search(name)}
    return [lasting(part) for part in value] if isinstance(value, list) else value


def outcome(folder: Path) -> dict[str, object]:
    """What a job leaves, but for dates and times."""
    left = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name in ("arm.json", "llmcourse.json", "results.json"):
            left[name] = lasting(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".csv":
            with open(path, encoding="utf-8", newline="") as file:
                left[name] = [[number(cell) for cell in line] for line in csv.reader(file)]
        elif path.suffix == ".safetensors":
            left[name] = files.sha256_of_file(path)
    return left


def number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def alike(a, b) -> bool:
    """Equal, numbers up to rounding: rows that are asked again share other batches. Weights are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return math.isclose(a, b, abs_tol=1e-5) if isinstance(a, float) else a == b


def nothing_is_left_over(folder: Path) -> None:
    """But for a half-written file of a killed process: the first write after an hour removes it (test_files)."""
    left = [path for path in folder.rglob("*") if not (path.is_file() and path.name.endswith(files.ASIDE))]
    odd = re.compile(rf"damaged-|checkpoint-|.*({re.escape(files.ASIDE)}|\.partial\S*\.jsonl)$")
    assert not [path for path in left if odd.match(path.name)]


@pytest.mark.trust
@pytest.mark.timeout(1500)
def test_twenty_kills_then_a_clean_run(tmp_path, measured):
    """Killed at random: half of them at a random moment, half at a random write of each phase in turn, which a moment
    would seldom meet. A job that was done before its kill is compared too, and another one begun."""
    clean = tmp_path / "clean"
    clock = time.perf_counter()
    finish(start(clean))
    lasts, wanted = time.perf_counter() - clock, outcome(clean)
    luck, kills, met = random.Random(7), 0, []
    for number in range(100):
        folder = tmp_path / f"job{number}"
        while True:
            phase = whole_job.PHASES[kills // 2 % 4] if kills % 2 else None
            share = 0.5 if folder.exists() else 1  # a job that goes on has less to do
            victim = start(folder, phase, luck.randint(1, WRITES[phase]) if phase else 0)
            if not phase:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    victim.wait(luck.uniform(2, share * lasts))
                victim.kill()
            said, errors = victim.communicate(timeout=280)
            if victim.returncode != -signal.SIGKILL:
                assert victim.returncode == 0, errors
                break
            kills += 1
            met.append(said.split()[-1] if said.split() else "start")
            if kills == KILLS:
                break
        finish(start(folder))
        assert alike(outcome(folder), wanted)
        nothing_is_left_over(folder)
        shutil.rmtree(folder)
        if kills == KILLS:
            break
    assert kills == KILLS and set(met) >= set(whole_job.PHASES), met
    during = {"convert": "converting", "train": "training", "evaluate": "evaluating", "write": "writing the report"}
    count = {name: met.count(phase) for phase, name in {"start": "starting", **during}.items()}
    measured("kills", kills=kills, jobs=number + 1, **{"while": count})


@pytest.mark.trust
def test_two_processes_on_one_cache_and_run(tmp_path):
    finish(start(tmp_path / "alone"))
    both = [start(tmp_path / "both") for _ in range(2)]
    for process in both:
        finish(process)
    assert alike(outcome(tmp_path / "both"), outcome(tmp_path / "alone"))
    nothing_is_left_over(tmp_path / "both")


# -- every write may fail ---------------------------------------------------------------------------------------------


def study(loaded, folder: Path) -> Experiment:
    return Experiment(some_rows(), loaded, folder, quiet=True)


def work(loaded, folder: Path) -> Experiment:
    """Each kind of arm, and the report."""
    job = study(loaded, folder)
    job.majority()
    job.generated(job.prompt(0))
    job.scored(job.prompt(2), calibrate=True)
    job.finetuned(LONG)
    report.write(job, folder / "report")
    return job


@pytest.fixture(scope="module")
def undisturbed(make_tiny, tmp_path_factory):
    from llmcourse._base import hardware

    folder = tmp_path_factory.mktemp("undisturbed")
    with hardware.prefer_mkl():
        work(make_tiny(5), folder)
    return outcome(folder)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_a_write_that_fails_is_made_good_by_the_next_run(seed, make_tiny, tmp_path, undisturbed, monkeypatch, products):
    luck, count = random.Random(seed), 0
    last = luck.randint(1, 60)

    def failing(name):
        real = getattr(os, name)

        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == last:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "rename"):
            patch.setattr(os, name, failing(name))
        with pytest.raises(OSError, match="No space left on device"):
            work(make_tiny(5), tmp_path)
    work(make_tiny(5), tmp_path)
    assert alike(outcome(tmp_path), undisturbed)
    nothing_is_left_over(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of some megabytes: a tmpfs, for which one must be root. `small_disk(megabytes)` makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(megabytes: int, how: str = "remount,") -> bool:
        command = ["mount", "-t", "tmpfs", "-o", f"{how}size={megabytes}m", "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True).returncode == 0

    if not shutil.which("mount") or not size(6, how=""):
        pytest.skip("a small disk cannot be mounted here: that takes root")
    yield folder, size
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(small_disk, make_tiny, undisturbed, monkeypatch, capsys, products):
    """Six megabytes hold one checkpoint and not two: training stops and says so; with more room it goes on from the one
    that is whole."""
    disk, size = small_disk
    with pytest.raises(OSError, match="No space left on device") as caught:
        work(make_tiny(5), disk)
    assert "training" in caught.value.filename
    (training,) = [path for path in (disk / "training").iterdir() if path.is_dir()]
    assert [path.name for path in checkpoints.find_checkpoints(training)] == ["checkpoint-2"]

    def full(options):
        raise caught.value

    monkeypatch.setattr(cli.models, "run", full)
    assert cli.main(["models"]) == 2
    assert "No space left on device. Free some space and run the same command again" in capsys.readouterr().err
    size(40)
    done = work(make_tiny(5), disk)
    assert done.arms[-1].training["resumed_from"] == 2
    assert alike(outcome(disk), undisturbed)
    nothing_is_left_over(disk)


@pytest.mark.trust
def test_a_disk_too_small_for_the_model(small_disk, monkeypatch, capsys):
    disk, size = small_disk
    size(64)
    monkeypatch.setenv("LLMCOURSE_CACHE", str(disk))
    with pytest.raises(
        Exception, match=r"The embedded model cannot be kept.*No space left.*600 MB.*LLMCOURSE_CACHE="
    ) as caught:
        embedded.ensure_embedded()
    assert type(caught.value).__name__ == "CourseError"
    assert not [path for path in disk.iterdir() if path.is_dir()]


# -- a cache that cannot be written -----------------------------------------------------------------------------------


def without_roots_power() -> None:
    """In the child: give up root's power to write where the permissions forbid it. Whoever is not root never had it."""
    PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_read_only_cache(tmp_path):
    """Empty, it is explained; with the model in it, it serves."""
    cache = tmp_path / "cache"
    cache.mkdir()
    program = (
        "from llmcourse import CourseError\nfrom llmcourse.models import embedded\n"
        "try:\n    open(embedded.files.cache_dir() / 'x', 'w')\n    print('it can be written')\n"
        "except PermissionError:\n    pass\n"
        "try:\n    print('found', embedded.ensure_embedded().name)\nexcept CourseError as error:\n    print(error)\n"
    )

    def tried() -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "LLMCOURSE_CACHE": str(cache)},
            preexec_fn=without_roots_power,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    model = embedded.ensure_embedded()
    cache.chmod(0o555)
    try:
        said = tried()
        assert "it can be written" not in said
        assert re.search(r"cannot be kept in .*cache: Permission denied.*set LLMCOURSE_CACHE=/another/folder", said)
        cache.chmod(0o755)
        shutil.copytree(model, cache / model.name)
        cache.chmod(0o555)
        assert tried() == f"found {model.name}\n"
    finally:
        cache.chmod(0o755)


# -- changed bytes ----------------------------------------------------------------------------------------------------


def changed(content: bytes, luck: random.Random, way: str) -> bytes:
    place = luck.randrange(len(content))
    if way == "truncated":
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1 << luck.randrange(8)]) + content[place + 1 :]


WAYS = ("truncated", "flipped")
ONE_WAY = ("truncated", pytest.param("flipped", marks=pytest.mark.slow))
"""For tests that take half a minute each."""


@pytest.mark.parametrize("way", ONE_WAY)
def test_kept_results_that_have_changed_are_noticed(way, make_tiny, tmp_path, undisturbed, products):
    """Each file of the arms and of the adapter in turn: set aside, reported, and made again with the same result."""
    job = work(make_tiny(5), tmp_path)
    kept = sorted(
        path
        for kind in ("arms", "adapters")
        for path in (tmp_path / kind).rglob("*")
        if path.is_file() and path.parent.name[0] != "."
    )
    kept = [path for path in kept if not path.name.endswith(".lock")]
    assert len(kept) >= 4 * 3 + 5
    luck = random.Random(way)
    for path in luck.sample(kept, 4):
        path.write_bytes(changed(path.read_bytes(), luck, way))
        # the finetuned arm does not look at its adapter again; whoever evaluates or trains does
        with pytest.warns(
            files.Damaged, match=rf"{path.parent.name} is damaged: .*It was renamed to damaged-{path.parent.name}"
        ):
            again = work(make_tiny(5), tmp_path)
            again.train(LONG)
        shutil.rmtree(path.parent.with_name(f"damaged-{path.parent.name}"))
        assert alike(outcome(tmp_path), undisturbed)
    # in a comparison of what is kept, a damaged arm is left out rather than shown
    (job.arms[0].folder / "predictions.csv").write_bytes(b"row,gold,predicted\n")
    with pytest.warns(files.Damaged, match="The method is left out"):
        found = study(make_tiny(5), tmp_path).find_all()
    assert len(found) == len(job.arms) - 1


@pytest.mark.parametrize("way", ONE_WAY)
def test_a_changed_checkpoint_gives_way_to_the_one_before(way, make_tiny, tmp_path, undisturbed, products):
    job, luck = study(make_tiny(5), tmp_path), random.Random(way)

    def stop(step, steps, loss):
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    real = finetuning.finetune
    with pytest.raises(finetuning.Interrupted), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.finetuning, "finetune", lambda *a: real(*a[:6], stop))
        job.train(LONG)
    (training,) = [path for path in (tmp_path / "training").iterdir() if path.is_dir()]
    newest, before = checkpoints.find_checkpoints(training)
    assert (newest.name, before.name) == ("checkpoint-8", "checkpoint-6")
    path = luck.choice(sorted(path for path in newest.iterdir() if path.is_file()))
    path.write_bytes(changed(path.read_bytes(), luck, way))
    with pytest.warns(files.Damaged, match=r"checkpoint-8 is damaged: .*resumes from the checkpoint before it"):
        done = work(make_tiny(5), tmp_path)
    assert done.arms[-1].training["resumed_from"] == 6
    assert alike(outcome(tmp_path), undisturbed)
    nothing_is_left_over(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_journal_is_noticed(way, tmp_path):
    path, luck = tmp_path / "log", random.Random(way)
    journal = Journal(path)
    for batch in range(5):
        journal.add({batch * 2: "Sarcasm", batch * 2 + 1: "Not Sarcasm"}, 0.5)
    whole = path.read_bytes()
    for _ in range(100):
        content = changed(whole, luck, way)
        path.write_bytes(content)
        pairs = enumerate(zip(content.split(b"\n"), whole.split(b"\n"), strict=False))
        line = content.count(b"\n") if way == "truncated" else next(number for number, (a, b) in pairs if a != b)
        # a line that lost its end is what a kill leaves: expected, and nothing to say
        aloud = (
            contextlib.nullcontext()
            if way == "truncated" or line >= content.count(b"\n")
            else pytest.warns(files.Damaged, match=f"line {line + 1}")
        )
        with aloud:
            found = Journal(path)
        assert found.answers == {row: journal.answers[row] for row in range(2 * line)}
        found.add({99: "Sarcasm"}, 0.5)  # in the place of what was damaged
        assert path.read_bytes().splitlines(keepends=True)[:-1] == whole.splitlines(keepends=True)[:line]


def test_a_backup_brings_back_what_is_damaged_and_not_what_is_damaged_there(make_tiny, tmp_path, monkeypatch, products):
    monkeypatch.setenv("LLMCOURSE_BACKUP", str(tmp_path / "drive"))
    job = study(make_tiny(5), tmp_path / "runs")
    arm, (adapter, _) = job.majority(), job.train(LONG)
    wanted = outcome(tmp_path / "runs")
    for folder, name in ((arm.folder, "predictions.csv"), (adapter, "adapter_model.safetensors")):
        (folder / name).write_bytes(b"lost")
    monkeypatch.setattr(runner.finetuning, "finetune", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(experiment.experiment.baselines, "majority", lambda *_: pytest.fail("asked again"))
    with pytest.warns(files.Damaged) as said:
        again = study(make_tiny(5), tmp_path / "runs")
        again.majority()
        again.train(LONG)
    assert len(said) == 2
    for folder in (arm.folder, adapter):
        shutil.rmtree(folder.with_name(f"damaged-{folder.name}"))
    assert alike(outcome(tmp_path / "runs"), wanted)
    (tmp_path / "drive" / "arms" / arm.folder.name / "arm.json").write_text("{}")
    shutil.rmtree(arm.folder)
    with pytest.warns(files.Damaged, match=r"arm.json has changed. It is not copied back"):
        study(make_tiny(5), tmp_path / "runs")
    assert not arm.folder.exists()
    # answered again, it takes the damaged copy's place
    monkeypatch.undo()
    monkeypatch.setenv("LLMCOURSE_BACKUP", str(tmp_path / "drive"))
    with pytest.warns(files.Damaged, match="It is not copied back"):
        study(make_tiny(5), tmp_path / "runs").majority()
    assert not files.find_damage(tmp_path / "drive" / "arms" / arm.folder.name)


def test_a_changed_model_is_noticed(tmp_path, monkeypatch):
    """The converted model: a byte changed, the end lost, a file missing. It is converted anew."""
    model = embedded.ensure_embedded()
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path))
    copy, done = tmp_path / model.name, []
    shutil.copytree(model, copy)
    monkeypatch.setattr(embedded, "_convert", done.append)
    assert embedded.ensure_embedded() == copy and not done
    luck = random.Random(3)
    with open(copy / "model.safetensors", "r+b") as file:
        file.seek(luck.randrange(538_000_000))
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    with pytest.warns(files.Damaged, match=r"model.safetensors has changed. The model is converted again"):
        embedded.ensure_embedded()
    os.truncate(copy / "model.safetensors", 1000)
    with pytest.warns(files.Damaged, match=r"model.safetensors has changed"):
        embedded.ensure_embedded()
    (copy / "config.json").unlink()
    with pytest.warns(files.Damaged):
        embedded.ensure_embedded()
    assert done == [copy] * 3
    assert json.loads((model / files.SEAL).read_text())["sha256"].keys() >= {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
    }
