"""Each claim of TRUST.md rests on a few lines of code. Here each of them is taken out, in a copy, and the tests of its claim must fail.

A test that passes without what it is there to guard guards nothing. Whoever moves a protection changes its entry here.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("llmcourse", "tools", "tests", "benchmarks", "notebooks", "launch", "pyproject.toml", "README.md", "TRUST.md")


@dataclass(frozen=True)
class Protection:
    """Lines that stand once in a file, what takes their place, and the tests that must notice: test_module or test_module::test_function."""

    file: str
    code: str
    without: str
    tests: str


NEVER = "if False:"
QUIET = "test_quietly_wrong::"
REFUSES = QUIET + "test_training_refuses"
FAULTS = "test_faults::"
CHANGED = " ".join(
    FAULTS + name
    for name in (
        "test_kept_results_that_have_changed_are_noticed",
        "test_a_changed_checkpoint_gives_way_to_the_one_before",
        "test_a_backup_brings_back_what_is_damaged_and_not_what_is_damaged_there",
        "test_a_changed_model_is_noticed",
    )
)
HOSTILE = "test_hostile::"
ANY_LINES = HOSTILE + "test_any_lines_are_read_as_python_reads_them_or_refused"
LAST_SHARD = "test_shards::test_a_stopped_run_goes_on_after_its_last_whole_shard"
KILLED = "test_processes::test_a_process_killed_in_"

PROTECTIONS = [
    # refused rather than quietly wrong
    Protection("training/finetuning.py", "if not learned or learned[-1] != tokenizer.eos_token_id:", NEVER, REFUSES),
    Protection("training/finetuning.py", "if text != wanted:", NEVER, REFUSES),
    Protection("training/finetuning.py", "if len(dataset) != len(rows):", NEVER, REFUSES),
    Protection("training/finetuning.py", "if bos is not None and list(ids[:2]) == [bos, bos]:", NEVER, REFUSES),
    Protection(
        "predict/encoding.py",
        "if bos is not None and any(tokens[:2] == [bos, bos] for tokens in prompts):",
        NEVER,
        QUIET + "test_two_beginnings_of_a_prompt_are_refused",
    ),
    Protection("training/trainer.py", "if bool((mask.diff(dim=1) < 0).any()):", NEVER, REFUSES),
    Protection("training/trainer.py", "if bool((labels[:, -1] != end).any()):", NEVER, REFUSES),
    Protection("training/finetuning.py", "if not run.trainable:", NEVER, REFUSES),
    Protection(
        "training/finetuning.py",
        "zero = [name for name, p in second.items() if not bool(p.detach().abs().max() > 0)]",
        "zero = []",
        f"{REFUSES} test_finetuning::test_training_that_learns_nothing_or_breaks_down_is_refused",
    ),
    Protection(
        "training/finetuning.py",
        "if not math.isfinite(loss):",
        NEVER,
        "test_finetuning::test_training_that_learns_nothing_or_breaks_down_is_refused",
    ),
    Protection(
        "predict/asking.py",
        "if any(not torch.equal(*pair) for pair in zip(after, before, strict=True)):",
        "if True:",
        QUIET + "test_an_adapter_that_is_not_active_is_refused",
    ),
    Protection(
        "predict/asking.py",
        "if any(bool(batch.isnan().any()) for batch in after):",
        NEVER,
        QUIET + "test_numbers_that_overflow_are_refused",
    ),
    Protection(
        "predict/asking.py",
        "if bool(total.isnan().any()):",
        NEVER,
        QUIET + "test_numbers_that_overflow_are_refused",
    ),
    Protection(
        "experiment/experiment.py",
        "if asked != trained or theirs.task.group_column != self.task.group_column:",
        NEVER,
        "test_experiment::test_an_adapter_is_asked_as_it_was_trained",
    ),
    Protection("experiment/experiment.py", "if shared:", NEVER, "test_experiment::test_leaks_are_refused"),
    Protection(
        "experiment/experiment.py",
        "if example and any(",
        "if not example and any(",
        "test_experiment::test_the_example_must_not_be_trained_on",
    ),
    Protection(
        "experiment/experiment.py",
        'if arm.spec["test"] != self._ids["test"]:',
        NEVER,
        QUIET + "test_arms_on_different_rows_are_not_compared",
    ),
    Protection(
        "predict/encoding.py",
        "return tokenizer(texts, add_special_tokens=not prompt.chat).input_ids",
        "return tokenizer(texts, add_special_tokens=not prompt.chat, padding=True).input_ids",
        QUIET + "test_the_padding_side_of_a_tokenizer_changes_nothing",
    ),
    # faults
    Protection(
        "_base/files.py",
        "shutil.rmtree(leftover, ignore_errors=True)",
        "pass",
        FAULTS + "test_twenty_kills_then_a_clean_run",
    ),
    Protection(
        "experiment/experiment.py",
        "with files.folder_aside(arm.folder) as aside:",
        "aside = arm.folder\n        aside.mkdir(parents=True, exist_ok=True)\n        if True:",
        FAULTS + "test_a_write_that_fails_is_made_good_by_the_next_run",
    ),
    Protection(
        "_base/files.py",
        "if sha256_of_file(folder / name) != digest:",
        NEVER,
        f"test_files::test_a_seal_notices_every_change {CHANGED}",
    ),
    Protection(
        "predict/journal.py",
        'if entry.pop("check") != files.short_hash(entry):',
        'if entry.pop("check") is None:',
        FAULTS + "test_a_changed_journal_is_noticed",
    ),
    Protection("_base/hub.py", "if actual != blob.name:", NEVER, "test_hub"),
    Protection(
        "_base/files.py",
        'if full and getattr(error, "filename", None) is None:',
        NEVER,
        FAULTS + "test_a_full_disk",
    ),
    Protection(
        "models/embedded.py",
        "except OSError as error:",
        "except ZeroDivisionError as error:",
        f"{FAULTS}test_a_disk_too_small_for_the_model {FAULTS}test_a_read_only_cache",
    ),
    Protection(
        "_base/files.py",
        'return FileLock(path.parent / f".{path.name}.lock", timeout=timeout_s, is_singleton=True)',
        "return contextlib.nullcontext()",
        FAULTS + "test_two_processes_on_one_cache_and_run",
    ),
    Protection(
        "models/embedded.py",
        "with files.folder_aside(folder) as aside, contextlib.redirect_stderr(io.StringIO()):",
        "aside = folder\n    aside.mkdir(parents=True, exist_ok=True)\n    with contextlib.redirect_stderr(io.StringIO()):",
        "test_embedded::test_a_kill_and_two_processes_leave_one_whole_model",
    ),
    Protection("data/sources.py", "hub.verify(path.parent)", "pass", "test_network_gone"),
    # no line of its own keeps memory level, so that one is put in which does not
    Protection(
        "models/loading.py",
        "_loaded.model, _loaded = _Freed(_loaded.name), None",
        'globals().setdefault("_held", []).append(_loaded.model)\n    _loaded = None',
        "test_long_running::test_two_hundred_runs_again",
    ),
    # hostile input
    Protection(
        "data/fileformats.py",
        "_refuse_lone_returns(path)\n    rejected",
        "pass\n    rejected",
        ANY_LINES + " test_fuzz_cases",
    ),
    Protection(
        "data/rows.py",
        '[(count, *_)] = file.connection.execute(f"SELECT count(*), {lengths} FROM {file.view}").fetchall()',
        'count, *_ = file.connection.execute(f"SELECT count(*), {lengths} FROM {file.view}").fetchone()',
        ANY_LINES,
    ),
    Protection(
        "data/database.py",
        "except (duckdb.Error, RuntimeError, UnicodeError) as error:",
        "except ZeroDivisionError as error:",
        HOSTILE + "test_any_damage_is_read_or_refused",
    ),
    Protection(
        "data/texts.py",
        'text = " ".join(str(value).split())',
        "text = str(value)",
        "test_texts::test_no_text_leaves_its_line_or_becomes_a_control_token",
    ),
    Protection(
        "data/texts.py",
        'lambda match: match.group() + " ", text)',
        "lambda match: match.group(), text)",
        "test_texts::test_no_text_leaves_its_line_or_becomes_a_control_token",
    ),
    Protection(
        "predict/prompts.py",
        "        return None\n    answers = {",
        "        return 0\n    answers = {",
        HOSTILE + "test_an_answer_is_a_label_or_none",
    ),
    Protection(
        "_base/spreadsheet.py",
        'return "\'" + text if _FORMULA.match(text) else text',
        "return text",
        "test_spreadsheet::test_cells_are_safe_in_a_spreadsheet_and_come_back",
    ),
    Protection(
        "data/screen.py",
        "escape(escape_directions(str(text)))",
        "escape_directions(str(text))",
        "test_hostile_pages::test_nothing_runs_and_nothing_is_fetched",
    ),
    Protection(
        "data/screen.py",
        "escape(escape_directions(str(text)))",
        "escape(str(text))",
        "test_hostile_pages::test_an_override_does_not_turn_its_neighbours",
    ),
    Protection(
        "models/adapters.py",
        "check_header(folder / WEIGHTS, expected_shapes(loaded.model, settings))",
        "pass",
        "test_strangers_adapters",
    ),
    Protection("models/adapters.py", "if not value.isfinite().all():", NEVER, "test_strangers_adapters"),
    Protection(
        "models/adapters.py",
        "if name not in (*IGNORED, *names) and value and value != defaults.get(name):",
        NEVER,
        "test_strangers_adapters",
    ),
    Protection(
        "models/adapters.py",
        "if not (folder / part).resolve().is_relative_to(folder.resolve()):",
        NEVER,
        "test_strangers_adapters",
    ),
    Protection(
        "predict/shards.py",
        "while shard := list(islice(rows, SHARD_ROWS)):",
        "while shard := list(rows):",
        f"test_shards::test_memory_is_bounded_whatever_the_length {LAST_SHARD}",
    ),
    Protection(
        "predict/shards.py",
        "if out is not None and Path(out).exists() and Path(out).samefile(path):",
        NEVER,
        "test_shards::test_the_result_takes_the_place_of_nothing_else",
    ),
    Protection("cli/finetune.py", "if others:", NEVER, "test_finetune::test_finetune_evaluate_compare"),
    Protection("predict/shards.py", 'if entry is None or entry.get("key") != key:', "if True:", LAST_SHARD),
    Protection(
        "lessons/recorded/injections.json",
        '"harmless": {\n        "n": 100,\n        "flipped": 44,',
        '"harmless": {\n        "n": 100,\n        "flipped": 43,',
        "test_benchmarks_injections::test_the_results_file_agrees_with_itself",
    ),
    # several processes
    Protection(
        "training/trainer.py",
        "* self.accelerator.num_processes",
        "* 1",
        "test_processes::test_two_processes_do_what_one_does",
    ),
    Protection(
        "_base/processes.py",
        "if count() == 1 or not (isinstance(error, _Told) or _LOST.search(str(error))):",
        "if True:",
        f"{KILLED}training_ends_all_and_the_run_goes_on",
    ),
    Protection(
        "experiment/experiment.py",
        "answers, seconds = processes.from_main(left)",
        "answers, seconds = {}, 0.0",
        f"{KILLED}evaluation_ends_all_and_no_answer_is_asked_again",
    ),
]
NAMES = [f"{protection.file}: {protection.code.strip()[:50]}" for protection in PROTECTIONS]


def test_the_test_of_each_claim_is_tried():
    text = (ROOT / "TRUST.md").read_text(encoding="utf-8").split("## Figures")[0]
    named = set(re.findall(r"`(test_\w+(?:::test_\w+)?)`", text))
    assert named == {test for protection in PROTECTIONS for test in protection.tests.split()}


@pytest.mark.parametrize("protection", PROTECTIONS, ids=NAMES)
def test_each_stands_once_where_it_is_looked_for(protection):
    assert (ROOT / "llmcourse" / protection.file).read_text(encoding="utf-8").count(protection.code) == 1


@pytest.fixture
def copy(tmp_path) -> Path:
    """The course without its tools: what the tests of TRUST.md need."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / "copy" / name)
    return tmp_path / "copy"


def outcomes(copy: Path, tests: list[str]) -> dict[str, set[str]]:
    """What became of each test in the copy: of {"passed", "failed", "skipped"} those that its cases came to."""
    nodes = [
        f"{next((copy / 'tests').rglob(module + '.py')).relative_to(copy)}{'::' * bool(name)}{name}"
        for module, _, name in (t.partition("::") for t in tests)
    ]
    report = copy / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *nodes]
    environment = {**os.environ, "PYTHONPATH": str(copy), "LLMCOURSE_RECORD": "", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), (
        done.stdout[-3000:] + done.stderr[-3000:]
    )  # 1: some failed; others: nothing was run
    found: dict[str, set[str]] = {test: set() for test in tests}
    for case in ElementTree.parse(report).iter("testcase"):
        module, name = case.get("classname").rsplit(".", 1)[-1], case.get("name").split("[")[0]
        kinds = {part.tag for part in case} & {"failure", "error", "skipped"}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if kinds else "passed"
        for test in {module, f"{module}::{name}"} & set(found):
            found[test].add(outcome)
    assert all(found.values()), (found, done.stdout[-3000:])
    return found


@pytest.mark.protections
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("protection", PROTECTIONS, ids=NAMES)
def test_without_its_protection_a_claim_s_tests_fail(protection, copy):
    path = copy / "llmcourse" / protection.file
    path.write_text(path.read_text(encoding="utf-8").replace(protection.code, protection.without), encoding="utf-8")
    found = outcomes(copy, protection.tests.split())
    if all(kinds == {"skipped"} for kinds in found.values()):
        pytest.skip("its tests are skipped here")
    assert not [test for test, kinds in found.items() if kinds == {"passed"}]


@pytest.mark.protections
def test_with_them_the_tests_pass_in_a_copy_too(copy):
    """So that those above fail for the line that was taken out."""
    quick = [test for protection in PROTECTIONS for test in protection.tests.split() if test.startswith(QUIET)]
    assert all(kinds == {"passed"} for kinds in outcomes(copy, sorted(set(quick))).values())
