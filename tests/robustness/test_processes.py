"""Several processes give what one gives: the same steps, each row asked once, and the death of one ends all and loses
little."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tiny_course
import torch

from llmcourse import CourseError, cli, experiment, models, predict
from llmcourse.cli import processes
from llmcourse.data.tasks import SARCASM
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import Prompt
from llmcourse.training import finetuning, recipes
from llmcourse.training.batches import rows_per_process
from llmcourse.training.checkpoints import last_checkpoint
from llmcourse.training.recipes import Recipe

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(name="test", r=2, alpha=4, epochs=2, batch_rows=8, micro_batch_tokens=300)


@pytest.fixture
def one_of_two(monkeypatch):
    """This process is told that it is one of two: `one_of_two(rank)`. What needs the other one is not there."""

    def be(rank: int) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))

    return be


# -- training --------------------------------------------------------------------------------------------------------


def dealt(lengths, batch_rows, parts, epochs=2):
    """For each step the rows of each process."""
    from transformers.trainer_pt_utils import BatchRebalanceSampler

    samplers = [BatchRebalanceSampler(lengths, batch_rows, parts, 1, rank=r, drop_last=False) for r in range(parts)]
    steps = []
    for epoch in range(epochs):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        steps += zip(*map(list, samplers), strict=True)
    return steps


def test_two_processes_are_dealt_the_steps_of_one():
    lengths = [20 + (37 * i) % 90 for i in range(204)]
    alone, beside = dealt(lengths, 8, 1), dealt(lengths, 8, 2)
    assert [sorted(rows) for (rows,) in alone] == [sorted(first + second) for first, second in beside]
    assert {len(first + second) for first, second in beside} == {8, 204 % 8}


def test_a_step_that_cannot_be_divided_is_refused(one_of_two):
    one_of_two(0)
    with pytest.raises(CourseError, match=r"batch_rows=7 cannot be divided among 2 processes.*batch_rows=6"):
        rows_per_process(RECIPE.changed(batch_rows=7))
    assert rows_per_process(RECIPE) * 2 == RECIPE.batch_rows


def test_gradients_of_two_processes_average_to_those_of_one(tiny, tmp_path, monkeypatch, products):
    """DDP averages over processes what each has added up over its micro-batches: that is the mean over all rows of the
    step."""
    from small import TRAINING_ROWS as ROWS
    from small import trainer_for

    trainer = trainer_for(tiny, tmp_path, RECIPE, ROWS[:8])
    model, data = trainer.model, trainer.train_dataset
    torch.manual_seed(0)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_()

    def gradients(groups, rows=8):
        model.zero_grad()
        for group in groups:
            batch = trainer.data_collator([{k: data[i][k] for k in ("input_ids", "labels")} for i in group])
            trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(rows)).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}

    alone = gradients([range(8)])
    assert int(trainer._get_num_items_in_batch([{"labels": torch.zeros(3, 5)}], "cpu")) == 3
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", property(lambda self: 2))
    monkeypatch.setattr(type(trainer.args), "world_size", property(lambda self: 2))
    monkeypatch.setattr(trainer.accelerator, "gather", lambda rows: torch.stack([rows, torch.tensor(5)]))
    assert int(trainer._get_num_items_in_batch([{"labels": torch.zeros(3, 5)}], "cpu")) == 8
    # three rows in one process, five in the other, in two micro-batches each
    first, second = gradients([[0], [3, 4]]), gradients([[1, 2, 5], [6, 7]])
    for name in alone:
        assert torch.allclose((first[name] + second[name]) / 2, alone[name], atol=1e-6), name
        assert alone[name].abs().max() > 1e-4


# -- evaluation ------------------------------------------------------------------------------------------------------


def test_each_row_is_asked_in_one_process(luck=random.Random(0)):  # noqa: B008
    for _ in range(50):
        beginnings = [[luck.randrange(9)] * luck.randint(1, 20) for _ in range(8)]
        prompts = [
            luck.choice(beginnings) + [luck.randrange(9)] * luck.randint(1, 9) for _ in range(luck.randint(1, 60))
        ]
        rows = luck.sample(range(len(prompts)), luck.randint(0, len(prompts)))
        for count in (1, 2, 3, 5):
            parts = [processes.share(prompts, rows, count, part) for part in range(count)]
            assert sorted(row for part in parts for row in part) == sorted(rows)
            tokens = [sum(len(prompts[row]) for row in part) for part in parts]
            assert not rows or max(tokens) - min(tokens) <= 2 * max(map(len, prompts))
    # what begins alike stays together
    prompts = [[post, post, reply] for reply in range(3) for post in range(4)]
    assert {prompts[row][0] for row in processes.share(prompts, range(12), 2, 0)} == {0, 1}


@pytest.fixture
def rows(bundled):
    few = bundled.train.select(range(40)), bundled.test.select(range(12))
    return type(bundled)(bundled.task, bundled.source, *few, bundled.report)


@pytest.fixture
def asked(monkeypatch):
    """The rows that this process asks, a list for each time."""
    seen, real = [], predict.engine.batches

    def batches(loaded, prompts, rows, new_tokens):
        seen.append(sorted(rows))
        return real(loaded, prompts, rows, new_tokens)

    monkeypatch.setattr(predict.engine, "batches", batches)
    return seen


def test_answers_of_every_process_are_known_to_any_number(tiny, rows, tmp_path, monkeypatch, asked):
    """Two processes left their journals; two others know all of them, and so does one."""
    whole = experiment.Experiment(rows, tiny, tmp_path / "whole", quiet=True).scored(Prompt(SARCASM))
    assert asked == [list(range(12)), [0]]  # the test rows, and the task's example
    again = experiment.Experiment(rows, tiny, tmp_path / "again", quiet=True)
    arm = tmp_path / "again" / "arms" / whole.folder.name
    logprobs = whole.predictions.logprobs
    Journal(arm.with_name(f"{arm.name}.partial.jsonl")).add({index: logprobs[index] for index in (0, 3, 4)}, 1.0)
    Journal(arm.with_name(f"{arm.name}.partial.1.jsonl")).add({index: logprobs[index] for index in (7, 11)}, 2.0)
    journal = again.store.journal(whole.spec, process=1)
    assert set(journal.answers) == {0, 3, 4, 7, 11} and journal.path.name.endswith(".partial.1.jsonl")
    found = again.scored(Prompt(SARCASM))
    assert asked[-2:] == [[1, 2, 5, 6, 8, 9, 10], [0]]
    assert found.predictions.labels == whole.predictions.labels and found.predictions.seconds > 1.8
    assert found.answered["processes"] == 2
    assert not list((tmp_path / "again" / "arms").glob("*.partial*"))


# -- one for all -----------------------------------------------------------------------------------------------------


def test_a_process_alone_pays_nothing():
    program = (
        "import sys\nfrom llmcourse.cli import processes\nwith processes.session('finetune'), processes.main_first():\n"
        "    assert processes.is_main()\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"torch", "accelerate", "transformers"}


def test_what_the_main_process_finds_or_raises_reaches_all(one_of_two, monkeypatch):
    sent = []

    def broadcast(outcome):
        if processes.is_main():
            sent.append(list(outcome))
        return sent[-1]

    monkeypatch.setattr("accelerate.utils.broadcast_object_list", broadcast)

    def never():
        raise AssertionError("the main process does this")

    one_of_two(0)
    assert processes.from_main(lambda: 7) == 7
    one_of_two(1)
    assert processes.from_main(never) == 7
    one_of_two(0)
    with pytest.raises(CourseError, match="no rows"):
        processes.from_main(lambda: (_ for _ in ()).throw(CourseError("no rows")))
    one_of_two(1)
    with pytest.raises(CourseError, match="no rows"):
        processes.from_main(never)


LOST = "[enforce fail at gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:2000"


@pytest.fixture
def sigterm():
    """What SIGTERM does is put back afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_session_prints_once_and_ends_when_another_ends(one_of_two, monkeypatch, capsys, sigterm):
    class State:
        def destroy_process_group(self):
            print("left")

    monkeypatch.setattr(processes, "_join", State)
    for rank, printed in ((0, "hello\nleft\n"), (1, "")):
        one_of_two(rank)
        with processes.session("finetune"):
            print("hello")
        assert capsys.readouterr().out == printed
        with pytest.raises(CourseError, match=r"has ended.*What was finished is kept"), processes.session("finetune"):
            raise RuntimeError(LOST)
        with pytest.raises(CourseError, match="has ended"), processes.session("finetune"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            pytest.fail("SIGTERM of the launcher was not heard")


def test_what_is_wrong_is_said_by_the_first(one_of_two, monkeypatch, capsys):
    """The launcher's store counts the complaints; without a launcher the main process speaks."""
    from torch.distributed import TCPStore

    launcher = TCPStore("127.0.0.1", 0, is_master=True)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(launcher.port))
    for rank in (1, 0):
        one_of_two(rank)
        processes.complain(f"said by {rank}")
    assert capsys.readouterr().err == "\nsaid by 1\n"
    monkeypatch.delenv("MASTER_PORT")
    for rank in (1, 0):
        one_of_two(rank)
        processes.complain(f"said by {rank}")
    assert capsys.readouterr().err == "\nsaid by 0\n"


def test_the_end_of_another_process_says_what_is_kept(one_of_two, sigterm):
    with pytest.raises(RuntimeError, match="gloo"), processes.noticing_the_end(lambda: "never asked"):
        raise RuntimeError(LOST)  # of a process alone it is no business
    one_of_two(1)
    said = r"another of the 2 processes has ended.*Step 3 is kept. Run the same"
    for error in (RuntimeError(LOST), processes._Ended()):
        with pytest.raises(CourseError, match=said), processes.noticing_the_end(lambda: "Step 3 is kept."):
            raise error
    # the launcher's SIGTERM must not come between
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    with pytest.raises(RuntimeError, match="shapes"), processes.noticing_the_end(lambda: "never asked"):
        raise RuntimeError("shapes do not fit")


def test_a_launch_that_starts_one_process_is_refused(monkeypatch, capsys):
    """`accelerate launch --cpu --num_processes 2` leaves these variables, and one process."""
    for name, value in {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["models"]) == 2
    assert "--config_file launch/cpu_2.yaml" in capsys.readouterr().err


def test_memory_that_ends_in_one_process_ends_all(one_of_two):
    one_of_two(0)

    def attempt(recipe, most_tokens):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(CourseError, match=r"with 300 padded tokens at once in each process.*micro_batch_tokens=150"):
        finetuning.fit_memory(attempt, RECIPE, 300, 100, [], "smollm2-135m")


@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.yaml")), ids=lambda path: path.name)
def test_launch_files_are_accelerates(path):
    """Accelerate reads them, knows every key, and starts several processes on one machine."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = load_config_from_file(str(path))
    assert config.num_processes == 2 and config.num_machines == 1 and config.mixed_precision == "no"
    parser = launch_command_parser()
    options = parser.parse_args(["--config_file", str(path), "-m", "llmcourse", "finetune"])
    options, _, _ = _validate_launch_command(options)
    assert options.multi_gpu and not options.use_fsdp and options.module
    assert (ROOT / "launch" / "README.md").read_text(encoding="utf-8").count(f"launch/{path.name}") >= 1


def test_unknown_keys_are_not_read_over(tmp_path):
    """The check above is not blind."""
    from accelerate.commands.config.config_args import load_config_from_file

    text = (ROOT / "launch" / "cpu_2.yaml").read_text(encoding="utf-8")
    (tmp_path / "more.yaml").write_text(text + "num_threads: 2\n")
    with pytest.raises(ValueError, match="num_threads"):
        load_config_from_file(str(tmp_path / "more.yaml"))


def test_what_several_processes_cannot_do_is_refused(one_of_two, monkeypatch, capsys):
    one_of_two(0)
    for command in processes.COMMANDS:
        processes.check(command)
    assert cli.main(["models"]) == 2
    assert "`llmcourse models` works in one process" in capsys.readouterr().err
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(CourseError, match="FSDP is not supported"):
        processes.check("finetune")


# -- two processes ---------------------------------------------------------------------------------------------------

# plain gradient descent: Adam would blow float noise up where a gradient is nearly zero
NUMBERS = recipes.QUICK.changed(r=4, alpha=8, upper_layers=2, epochs=2, batch_rows=8, save_steps=3)
NUMBERS = NUMBERS.changed(optimizer="sgd", learning_rate=1.0, micro_batch_tokens=400)
CHANGED = (
    "r",
    "alpha",
    "upper_layers",
    "epochs",
    "batch_rows",
    "save_steps",
    "optimizer",
    "learning_rate",
    "micro_batch_tokens",
)
TRAIN = [part for name in CHANGED for part in ("--set", f"{name}={getattr(NUMBERS, name)}")]
SOON_S = 60
"""All have ended so long after one was killed. It takes two seconds; the machine may be busy."""


@pytest.fixture(scope="module")
def course(tmp_path_factory, make_tiny):
    """A folder with a tiny model and rows."""
    folder = tmp_path_factory.mktemp("course")
    loaded = make_tiny(0, num_hidden_layers=3)
    loaded.model.save_pretrained(folder / "model")
    loaded.tokenizer.save_pretrained(folder / "model")
    with open(folder / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "comment", "parent_comment"])
        texts = (
            (f"reply {i} " + "really " * (i % 7), f"parent {i // 2} " + "again and " * (i % 5)) for i in range(180)
        )
        writer.writerows([i % 2, *text] for i, text in enumerate(texts))
    return folder


def started(course, count, *arguments, slowly=0.0):
    launch = [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        ROOT / "launch" / "cpu_2.yaml",
        "--num_processes",
        count,
    ]
    tiny = [ROOT / "tests" / "helpers" / "tiny_course.py", "model", *arguments, "--data", "rows.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if slowly:
        environment["SLOWLY"] = str(slowly)
    command = [sys.executable, *map(str, [*launch, *tiny])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=course, env=environment, **pipes)


def in_two(course, *arguments):
    """A command in two processes, to its end: what it printed."""
    process = started(course, 2, *arguments)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def in_one(course, monkeypatch, *arguments):
    """The same in this process."""
    monkeypatch.chdir(course)
    monkeypatch.setattr(models.loading, "_loaded", None)
    monkeypatch.setitem(tiny_course.catalogue.BASES, tiny_course.NAME, None)  # taken out afterwards
    tiny_course.put("model")
    try:
        assert cli.main([*map(str, arguments), "--data", "rows.csv", "--model", tiny_course.NAME]) == 0
    finally:
        models.free()


def kill_one(process, rank, when):
    """SIGKILL to one of the processes as soon as `when()`; returns what the others said, and the seconds until all had
    ended."""
    while not when():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    workers = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        workers[child.environ().get("RANK")] = child
    clock = time.monotonic()
    workers[str(rank)].kill()
    _, err = process.communicate(timeout=SOON_S)
    assert process.returncode != 0 and not any(worker.is_running() for worker in workers.values())
    return err, time.monotonic() - clock


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def same_adapter(a, b):
    a, b = weights(a), weights(b)
    assert set(a) == set(b) and max(value.abs().max() for name, value in a.items() if "lora_B" in name) > 0.05
    return all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)


@pytest.fixture(scope="module")
def trained_alone(course):
    """The adapter that one process trains without a break."""
    with pytest.MonkeyPatch.context() as patch:
        in_one(course, patch, "finetune", *TRAIN, "--runs", "alone", "--out", "alone/mine")
    return course / "alone" / "mine"


def predictions(runs):
    (path,) = runs.glob("arms/*/predictions.csv")
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.trust
@pytest.mark.timeout(600)
def test_two_processes_do_what_one_does(course, trained_alone, monkeypatch):
    """The same adapter, and with it the same answers; files and words come from one process."""
    printed = in_two(course, "finetune", *TRAIN, "--runs", "two", "--out", "two/mine")
    assert same_adapter(trained_alone, course / "two" / "mine")
    card = json.loads((course / "two" / "mine" / "llmcourse.json").read_text(encoding="utf-8"))["training"]
    alone = json.loads((trained_alone / "llmcourse.json").read_text(encoding="utf-8"))["training"]
    assert card["losses"] == pytest.approx(alone["losses"], abs=1e-3)
    assert (card["processes"], alone["processes"]) == (2, 1) and card["steps"] == alone["steps"]
    assert printed.count("Adapter: two/mine") == 1 and printed.count("rows read") == 1
    calibrated = ("--way", "calibrated", "--adapter", "alone/mine", "--runs")
    in_one(course, monkeypatch, "evaluate", *calibrated, "alone")
    printed = in_two(course, "evaluate", *calibrated, "two")
    assert printed.count("95 % interval") == 1
    ours, theirs = predictions(course / "two"), predictions(course / "alone")
    assert [row["row"] for row in ours] == [row["row"] for row in theirs] and len(ours) == 36
    for row, other in zip(ours, theirs, strict=True):
        assert row["predicted"] == other["predicted"]
        assert float(row["logprob Sarcasm"]) == pytest.approx(float(other["logprob Sarcasm"]), abs=1e-4)
    assert not list(course.glob("two/arms/*.partial*"))


@pytest.mark.trust
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_killed_in_training_ends_all_and_the_run_goes_on(course, trained_alone, monkeypatch, victim):
    """With one process after the second of two was killed, with two after the main one."""
    runs = f"killed-{victim}"
    arguments = ("finetune", *TRAIN, "--runs", runs, "--out", f"{runs}/mine")

    def kept():
        return any(last_checkpoint(folder) for folder in course.glob(f"{runs}/training/*"))

    err, seconds = kill_one(started(course, 2, *arguments, slowly=0.2), victim, kept)
    (folder,) = (path for path in course.glob(f"{runs}/training/*") if path.is_dir())
    step = last_checkpoint(folder).name.rsplit("-", 1)[1]
    assert seconds < SOON_S and err.count("llmcourse: ") == 1
    assert f"The checkpoint of step {step} is kept. Run the same command again" in err
    if victim:
        in_one(course, monkeypatch, *arguments)
    else:
        in_two(course, *arguments)
    card = json.loads((course / runs / "mine" / "llmcourse.json").read_text(encoding="utf-8"))["training"]
    assert card["resumed_from"] == int(step) and card["steps"] == len(card["losses"])
    assert same_adapter(trained_alone, course / runs / "mine")


@pytest.mark.trust
@pytest.mark.timeout(600)
def test_a_process_killed_in_evaluation_ends_all_and_no_answer_is_asked_again(course, monkeypatch, asked):
    arguments = ("evaluate", "--way", "scored", "--shots", 0, "--n-train", 20, "--n-test", 120, "--runs")

    def answered():
        return [set(Journal(path).answers) for path in sorted(course.glob("asked/arms/*.partial*.jsonl"))]

    def both_have_answered():
        return len(answered()) == 2 and all(answered())

    err, seconds = kill_one(started(course, 2, *arguments, "asked", slowly=1.0), 0, both_have_answered)
    assert seconds < SOON_S and err.count("llmcourse: ") == 1 and "The answers so far are kept (at least" in err
    main, other = answered()
    assert not main & other and 2 <= len(main | other) < 120
    in_one(course, monkeypatch, *arguments, "asked")
    assert asked[-2:] == [sorted(set(range(120)) - main - other), [0]]  # what is missing, and the task's example
    in_one(course, monkeypatch, *arguments, "at once")
    ours, whole = predictions(course / "asked"), predictions(course / "at once")
    assert [row["predicted"] for row in ours] == [row["predicted"] for row in whole] and len(ours) == 120
