"""Remove the code that each claim of TRUST.md rests on: the tests of the claim must then fail.

A test that passes without the protection that it is there to guard guards nothing. An entry names a function of the
library and what it does instead. `without/take_out.py` changes it in every process that the tests start; no file is
changed. Whoever moves a protection to another function changes its entry here.
"""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = Path(__file__).parent / "without"
sys.path.insert(0, str(WITHOUT))

import take_out  # noqa: E402

NOTHING = "lambda *_, **__: None"
NEVER = "if False:"


@dataclass(frozen=True)
class Protection:
    """A function of llmcourse, what replaces it, the tests that must notice (test_module or test_module::test_name).

    `instead` is a function; or, with `line`, what takes the place of that text in the function's source.
    """

    function: str
    tests: str
    instead: str = NOTHING
    line: str = ""


QUIET = "test_quietly_wrong::"
REFUSES = QUIET + "test_training_refuses"
LEARNS = "test_finetuning::test_training_that_learns_nothing_or_breaks_down_is_refused"
OVERFLOW = QUIET + "test_numbers_that_overflow_are_refused"
ALONE = "test_rows_alone_are_trained_as_by_one_plain_pass_each"
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
    Protection("training.checks:check_end", REFUSES),
    Protection("training.checks:check_label", REFUSES),
    Protection("training.checks:check_rows", REFUSES, NEVER, "if len(dataset) != len(rows):"),
    Protection("training.checks:check_beginning", REFUSES),
    Protection("training.checks:check_trainable", REFUSES),
    Protection("training.checks:check_learned", f"{REFUSES} {LEARNS}"),
    Protection("training.callbacks:check_finite", LEARNS),
    Protection("training.trainer:check_batch", REFUSES, NEVER, "if bool((mask.diff(dim=1) < 0).any()):"),
    Protection("training.trainer:check_batch", REFUSES, NEVER, "if bool((labels[:, -1] != end).any()):"),
    Protection(
        "predict.encoding:encode_and_cut",
        QUIET + "test_two_beginnings_of_a_prompt_are_refused",
        NEVER,
        "if bos is not None and any(tokens[:2] == [bos, bos] for tokens in prompts):",
    ),
    Protection(
        "predict.encoding:encode_text",
        QUIET + "test_the_padding_side_of_a_tokenizer_changes_nothing",
        "add_special_tokens=not prompt.chat, padding=True)",
        "add_special_tokens=not prompt.chat)",
    ),
    Protection("predict.asking:check_adapter", QUIET + "test_an_adapter_that_is_not_active_is_refused"),
    Protection("predict.engine:refuse_overflow", OVERFLOW, "lambda logits: logits"),
    Protection("models.sharing:obstacle", "test_architectures::" + ALONE, 'lambda config: ""'),
    Protection(
        "predict.engine:_padding_fills_window",
        "test_engine::test_padding_takes_no_place_in_a_window_that_a_long_answer_fills",
        "lambda loaded, longest: False",
    ),
    Protection(
        "predict.asking:_of_different_lengths",
        QUIET + "test_the_adapter_check_looks_at_rows_of_different_lengths",
        "lambda prompt, rows: list(rows[:1])",
    ),
    Protection(
        "experiment.experiment:Experiment._refuse_other_prompt",
        "test_experiment::test_an_adapter_is_asked_as_it_was_trained",
    ),
    Protection("experiment.experiment:Experiment._refuse_leak", "test_experiment::test_leaks_are_refused"),
    Protection(
        "experiment.experiment:Experiment._refuse_trained_example",
        "test_experiment::test_the_example_must_not_be_trained_on",
    ),
    Protection(
        "experiment.experiment:Experiment._refuse_other_rows",
        QUIET + "test_arms_on_different_rows_are_not_compared",
    ),
    # faults
    Protection(
        "_base.files:folder_aside",
        FAULTS + "test_twenty_kills_then_a_clean_run",
        "pass",
        "shutil.rmtree(leftover, ignore_errors=True)",
    ),
    Protection(
        "_base.files:folder_aside",
        f"{FAULTS}test_a_write_that_fails_is_made_good_by_the_next_run"
        " test_embedded::test_a_kill_and_two_processes_leave_one_whole_model",
        "lambda path: (Path(path).mkdir(parents=True, exist_ok=True), (yield Path(path)), seal(path))",
    ),
    Protection(
        "_base.files:find_damage",
        f"test_files::test_a_seal_notices_every_change {CHANGED}",
        NEVER,
        "if sha256_of_file(folder / name) != digest:",
    ),
    Protection(
        "predict.journal:Log.entries",
        FAULTS + "test_a_changed_journal_is_noticed",
        'if entry.pop("check") is None:',
        'if entry.pop("check") != files.short_hash(entry):',
    ),
    Protection("_base.hub:_compare", "test_hub"),
    Protection("_base.hub:verify", "test_network_gone"),
    Protection("_base.files:report_full_disk", FAULTS + "test_a_full_disk", "lambda path: (yield)"),
    Protection(
        "models.embedded:ensure_embedded",
        f"{FAULTS}test_a_disk_too_small_for_the_model {FAULTS}test_a_read_only_cache",
        "except ZeroDivisionError as error:",
        "except OSError as error:",
    ),
    Protection(
        "_base.files:lock",
        FAULTS + "test_two_processes_on_one_cache_and_run",
        "lambda *_, **__: contextlib.nullcontext()",
    ),
    # no line of its own keeps memory level, so that one is put in which does not
    Protection(
        "models.loading:free",
        "test_long_running::test_two_hundred_runs_again",
        'globals().setdefault("_held", []).append(_loaded.model)\n    _loaded = None',
        "_loaded.model, _loaded = _Freed(_loaded.name), None",
    ),
    # hostile input
    Protection(
        "data.csvfiles:CsvFile._check_swallowed",
        "test_csvfiles::test_rows_between_two_quotation_marks_are_noticed",
    ),
    Protection(
        "data.csvfiles:CsvFile._explain",
        "test_csvfiles::test_a_quotation_mark_that_is_never_closed_is_refused",
        "if False:",
        'if "unexpected end" in text or "field larger" in text:',
    ),
    Protection(
        "data.rows:stream",
        ANY_LINES,
        "continue",
        """# leaving it out would shift the numbers of the rows after it
            raise CourseError(f"{file.path}: line {row.number} cannot be read ({row.reason}). Fix or remove it.")""",
    ),
    Protection(
        "data.fileformats:_arrow_errors",
        HOSTILE + "test_any_damage_is_read_or_refused",
        "except ZeroDivisionError as error:",
        "except (pa.ArrowException, OSError) as error:",
    ),
    Protection(
        "data.texts:one_line",
        "test_texts::test_no_text_leaves_its_line_or_becomes_a_control_token",
        "text = str(value)",
        "text = squeeze(str(value))",
    ),
    Protection(
        "data.texts:one_line",
        "test_texts::test_no_text_leaves_its_line_or_becomes_a_control_token",
        "lambda match: match.group(), text)",
        'lambda match: match.group() + " ", text)',
    ),
    Protection(
        "predict.prompts:parse_answer",
        HOSTILE + "test_an_answer_is_a_label_or_none",
        "line):\n        return 0",
        "line):\n        return None",
    ),
    Protection(
        "_base.spreadsheet:guarded",
        "test_spreadsheet::test_cells_are_safe_in_a_spreadsheet_and_come_back",
        "lambda text: text",
    ),
    Protection(
        "data.screen:html",
        "test_hostile_pages::test_nothing_runs_and_nothing_is_fetched",
        'lambda text: f"<bdi>{escape_directions(str(text))}</bdi>"',
    ),
    Protection(
        "data.screen:escape_directions",
        "test_hostile_pages::test_an_override_does_not_turn_its_neighbours",
        "lambda text: text",
    ),
    Protection("models.adapters:check_header", "test_strangers_adapters"),
    Protection("models.adapters:_build", "test_strangers_adapters", NEVER, "if not value.isfinite().all():"),
    Protection(
        "models.adapters:read_config",
        "test_strangers_adapters",
        NEVER,
        "if name not in (*IGNORED, *names) and value and value != defaults.get(name):",
    ),
    Protection(
        "models.adapters:_refuse_link",
        "test_strangers_adapters",
        NEVER,
        "if not path.resolve().is_relative_to(path.parent.resolve()):",
    ),
    Protection(
        "predict.shards:_shards",
        f"test_shards::test_memory_is_bounded_whatever_the_length {LAST_SHARD}",
        "lambda rows, count: iter([list(rows)])",
    ),
    Protection(
        "predict.shards:ask_file",
        "test_shards::test_the_result_takes_the_place_of_nothing_else",
        NEVER,
        "if out is not None and Path(out).exists() and Path(out).samefile(path):",
    ),
    Protection("cli.finetune:_check_out", "test_finetune::test_finetune_evaluate_compare"),
    Protection("predict.shards:_ask_with_log", LAST_SHARD, "if True:", 'if entry is None or entry.get("key") != key:'),
    # several processes
    Protection(
        "training.trainer:LabelTrainer.compute_loss",
        "test_processes::test_two_processes_do_what_one_does",
        "* 1",
        "* self.accelerator.num_processes",
    ),
    Protection(
        "cli.processes:share",
        "test_processes::test_each_row_is_asked_in_one_process",
        "lambda prompts, rows, parts, part: list(rows)",
    ),
    Protection(
        "cli.processes:noticing_the_end",
        f"{KILLED}training_ends_all_and_the_run_goes_on",
        "lambda describe_kept: (yield)",
    ),
    Protection(
        "experiment.store:ArmStore.journal",
        f"{KILLED}evaluation_ends_all_and_no_answer_is_asked_again",
        "pass",
        "journal.answers |= other.answers",
    ),
]
NAMES = [f"{protection.function} {protection.line.strip()[:40]}".strip() for protection in PROTECTIONS]


@pytest.mark.parametrize("protection", PROTECTIONS, ids=NAMES)
def test_each_can_be_taken_out(protection):
    module, _, name = protection.function.partition(":")
    function = take_out.find_function(importlib.import_module(f"llmcourse.{module}"), name)
    if protection.line:
        take_out.compiled(take_out.changed_source(function, protection.line, protection.instead), function)


def run(tests: list[str], without: Protection | None, folder: Path) -> dict[str, set[str]]:
    """Run tests without a protection. Return, for each, the outcomes of its cases: "passed", "failed" or "skipped"."""
    nodes = [
        f"{next((ROOT / 'tests').rglob(module + '.py'))}{'::' * bool(name)}{name}"
        for module, _, name in (test.partition("::") for test in tests)
    ]
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *nodes]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": os.pathsep.join((str(WITHOUT), str(ROOT))), "LLMCOURSE_RECORD": ""}
    if without:
        function = f"llmcourse.{without.function}"
        environment["LLMCOURSE_WITHOUT"] = json.dumps(
            {"function": function, "line": without.line, "instead": without.instead}
        )
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    # 1: some tests failed; a higher code: nothing was run
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    outcomes: dict[str, set[str]] = {test: set() for test in tests}
    for case in ElementTree.parse(report).iter("testcase"):
        module, name = case.get("classname").rsplit(".", 1)[-1], case.get("name").split("[")[0]
        kinds = {part.tag for part in case} & {"failure", "error", "skipped"}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if kinds else "passed"
        for test in {module, f"{module}::{name}"} & set(outcomes):
            outcomes[test].add(outcome)
    assert all(outcomes.values()), (outcomes, done.stdout[-3000:])
    return outcomes


@pytest.mark.protections
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("protection", PROTECTIONS, ids=NAMES)
def test_without_its_protection_a_claim_s_tests_fail(protection, tmp_path):
    outcomes = run(protection.tests.split(), protection, tmp_path)
    if all(kinds == {"skipped"} for kinds in outcomes.values()):
        pytest.skip("its tests are skipped here")
    assert not [test for test, kinds in outcomes.items() if kinds == {"passed"}]


@pytest.mark.protections
def test_with_them_the_tests_pass(tmp_path):
    """So that those above fail for what was taken out."""
    quick = {test for protection in PROTECTIONS for test in protection.tests.split() if "quietly_wrong" in test}
    assert all(kinds == {"passed"} for kinds in run(sorted(quick), None, tmp_path).values())
