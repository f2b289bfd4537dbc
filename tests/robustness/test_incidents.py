"""What users of other courses and libraries complained about, and the tests that keep it from happening here.

Each incident is a kind of failure seen in public threads. The table names the tests; that they exist is tested below, so that a
test which is renamed or deleted is missed.
"""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent

INCIDENTS = {
    "the notebook broke when Colab's image changed (unsloth#504, colabtools#5465)": (
        "test_firstcell.test_on_colab_the_least_is_installed",
        "test_package.test_colab_pins_lie_in_the_ranges_too",
        "test_workflows.test_pushes_run_the_tests_and_weeks_the_newest",
    ),
    "numpy was swapped under a live kernel (colabtools#5115)": (
        "test_preflight.test_each_incident_is_seen_with_its_remedy",
        "test_firstcell.test_torch_and_numpy_are_never_installed",
    ),
    "an argument of TRL or transformers was removed (course#1171, trl#2290)": (
        "test_api_drift.test_mistakes_are_found_and_nothing_else",
        "test_recipes.test_removed_arguments_are_removed",
    ),
    "out of memory in training, after 17 minutes (ludwig#3583)": (
        "test_t4.test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch",
        "test_planner.test_largest_micro_batch_is_the_largest",
    ),
    "out of memory when merging, or in main memory when loading (LLaVA#496)": (
        "test_incidents.test_nothing_is_merged_and_no_pickle_is_loaded",
        "test_preflight.test_each_incident_is_seen_with_its_remedy",
    ),
    "bfloat16 on a T4 (unsloth#501, Soup#425)": (
        "test_t4.test_finding",
        "test_hardware.test_dtype_and_gear_go_by_capability",
    ),
    "the model never stops (trl#696, FineTuningLLMs#5)": ("test_finetune.test_loss_is_on_label_and_end_of_text_only",),
    "the answer was not found in the tokens, so nothing was learned (trl#1920)": (
        "test_finetune.test_loss_is_on_label_and_end_of_text_only",
        "test_finetune.test_long_rows_lose_text_never_the_label",
    ),
    "batches answered otherwise than single rows (transformers#25790)": (
        "test_predict.test_generated_text_equals_one_row_at_a_time",
        "test_predict.test_scores_equal_the_naive_way",
    ),
    "LoRA did nothing (peft#793)": (
        "test_finetune.test_training_that_learns_nothing_or_breaks_down_is_refused",
        "test_t4.test_each_architecture_learns_in_nf4",
    ),
    "a gated model (llm2vec#130)": (
        "test_t4.test_a_gate_gives_way_to_the_stand_in",
        "test_preflight.test_the_hub_is_understood",
    ),
    "the data set is gone (llm_engineering#652)": ("test_incidents.test_a_source_that_is_gone_gives_way_to_the_next",),
    "no GPU (bitsandbytes#252)": ("test_readme.test_the_demo_did_what_the_course_says",),
    "a helper module is missing in Colab (nlp-with-transformers#143)": (
        "test_firstcell.test_the_cell_sets_up_a_new_environment",
    ),
    "numbers differ from the text (rasbt#1020)": ("test_readme.test_the_measured_part_is_the_results_file",),
    "'Invalid Notebook' on GitHub (agents-course#419)": ("test_notebooks.test_saved_notebooks_are_normal",),
    "the session was lost (kohya-colab#134)": (
        "test_journal.test_what_a_session_leaves_on_a_drive_comes_back",
        "test_finetune.test_a_killed_run_goes_on",
    ),
    "too slow for a demo (wandb/examples#127)": (
        "test_hardware.test_the_workshop_trains_within_12_minutes_by_the_planners_estimate",
    ),
    "the badge points elsewhere (fastbook#309)": ("test_firstcell.test_origin_says_it_everywhere_and_can_be_changed",),
    "nbval compares what changes (nbval#56)": ("test_notebooks.test_nbval_compares_marked_cells",),
    "Colab's torchao makes PEFT raise (unslothai/notebooks#258)": (
        "test_preflight.test_each_incident_is_seen_with_its_remedy",
        "test_firstcell.test_the_cell_sets_up_a_new_environment",
    ),
}


@pytest.mark.parametrize("incident", INCIDENTS)
def test_each_incident_has_its_tests(incident):
    for name in INCIDENTS[incident]:
        module, test = name.split(".")
        tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_nothing_is_merged_and_no_pickle_is_loaded():
    """Merging a 7B model needs it in 16 bits, which no T4 holds; strangers' pickles run code."""
    forbidden = ("merge_and_unload", "trust_remote_code", "pickle.load", "weights_only=False")
    for path in (HERE.parent / "llmcourse").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in forbidden if word in text], path.name
    assert "use_safetensors=True" in (HERE.parents[1] / "llmcourse" / "models" / "loading.py").read_text(
        encoding="utf-8"
    )


def test_a_source_that_is_gone_gives_way_to_the_next(monkeypatch):
    from llmcourse import CourseError, data
    from llmcourse.data.tasks import SARCASM

    def gone(fetch, place, other):
        raise CourseError(f"{place} does not answer")

    monkeypatch.setattr(data, "_download", gone)
    rows = data.load_first(SARCASM, ["hub", "bundled"], n_train=10, n_test=10)
    assert rows.source == "bundled" and len(rows.train) == 10
    with pytest.raises(CourseError, match="the hub does not answer"):
        data.load_first(SARCASM, ["hub"])
