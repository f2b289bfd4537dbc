"""The GPU check, on tiny sizes and the CPU; a GPU's are the same steps with larger numbers."""

import json

import gpu_check
import pytest
from gpu import attention, setting

from llmcourse import CourseError, data, models, setup
from llmcourse._base import files, hardware
from llmcourse.data.tasks import SARCASM
from llmcourse.models import attention as kernels
from llmcourse.models import catalogue, embedded
from llmcourse.setup import gears
from llmcourse.training.trainer import LabelTrainer


def replaced():
    """Return what the steps replace for a while."""
    bases, gear = dict(catalogue.BASES), dict(gears.GEARS)
    functions = hardware.detect, embedded.gguf_path, data.load_first, setup.check_machine, LabelTrainer.compute_loss
    return bases, gear, functions


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_step_runs_on_tiny_sizes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models.loading, "_loaded", None)
    before = replaced()
    assert gpu_check.main(["--tiny", "--out", str(tmp_path)]) == 0, capsys.readouterr().out
    assert replaced() == before
    results = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in gpu_check.STEPS}
    assert all(step["passed"] and step["tiny"] and not step["problems"] for step in results.values())
    measured = {name: step["measured"] for name, step in results.items()}
    assert all(not any(kernel["nan"].values()) for kernel in measured["attention"].values() if kernel["available"])
    assert set(measured["answers"]) == {"float16", "bfloat16", "nf4"}
    # rounding is seen, so it is the other number type that computed
    assert all(0 < kind["beside the CPU"]["mean_difference"] < 0.2 for kind in measured["answers"].values())
    assert all(training["steps"] == 2 for training in measured["quick"].values())
    model = measured["mistral"]["model"]
    assert (model["matrices_in_4_bits"], model["attention"], model["numbers"]) == (14, kernels.NO_GQA, "torch.float16")
    assert {measured["mistral"][name]["steps"] for name in ("workshop", "talk", "thorough")} == {2}
    ladder = measured["mistral"]["memory for one row"]
    assert ladder["micro_rows"] == 1 and len(ladder["notes"]) == 3
    assert measured["mistral"]["passes"]["pass_in_tokens"] > 0
    assert all(len(ways["rows_per_second"]) == 4 for ways in measured["prompts"].values())
    assert all(notebook["cells"] >= 20 for notebook in measured["notebooks"].values())


def test_a_step_that_fails_is_recorded_and_the_next_one_runs(tmp_path, monkeypatch, capsys):
    here = setting.Setting(tmp_path, tmp_path, setting.TINY, hardware.detect())

    def broken(kernel):
        def try_kernel(*of):
            if kernel == "NaN":
                return {"available": True, "nan": {"output": 3}, "error": 0.0}
            raise RuntimeError("misaligned address")

        return try_kernel

    monkeypatch.setattr(attention, "try_kernel", broken("NaN"))
    assert not gpu_check.run_step("attention", here, tmp_path)
    step = json.loads((tmp_path / "attention.json").read_text())
    assert (
        not step["passed"] and "float16, 8 tokens, as the course: NaN or infinity in {'output': 3}" in step["problems"]
    )
    assert not any(attention.LEFT_OUT in problem for problem in step["problems"])  # the course does not use it
    assert step["measured"][f"float16, 8 tokens, {attention.LEFT_OUT}"]["problems"]
    monkeypatch.setattr(attention, "try_kernel", broken("error"))
    assert not gpu_check.run_step("attention", here, tmp_path)
    step = json.loads((tmp_path / "attention.json").read_text())
    assert len(step["problems"]) == 16 and "RuntimeError: misaligned address" in step["problems"][0]
    # the folder has no answers of a CPU: the step ends at once, with where
    assert not gpu_check.run_step("answers", here, tmp_path)
    assert "cpu.json" in json.loads((tmp_path / "answers.json").read_text())["problems"][0]
    assert capsys.readouterr().out.count("FAILED") == 3
    ran = []
    monkeypatch.setattr(gpu_check, "run_step", lambda name, *_: ran.append(name) or name != "quick")
    monkeypatch.setattr(setting, "prepare", lambda folder, sizes: None)
    monkeypatch.setattr(setting, "join_parts", lambda folder, target: target)
    assert gpu_check.main(["--tiny"]) == 1 and tuple(ran) == gpu_check.STEPS
    assert gpu_check.main(["--tiny", "--only", "answers", "prompts"]) == 0 and ran[-2:] == ["answers", "prompts"]


def test_the_embedded_models_file_comes_in_parts(tmp_path, monkeypatch):
    """Two parts of at most 60 MB, joined and compared with the hash that the course knows."""
    size = embedded.gguf_path().stat().st_size
    assert setting.PART_BYTES == 60e6 < size < 2 * setting.PART_BYTES
    whole = tmp_path / "model.gguf"
    whole.write_bytes(bytes(range(250)) * 40)
    monkeypatch.setattr(embedded, "gguf_path", lambda: whole)
    monkeypatch.setattr(embedded, "SHA256", files.sha256_of_file(whole))
    monkeypatch.setattr(setting, "PART_BYTES", 6_000)
    folder = tmp_path / "input"
    setting.write_parts(folder)
    assert [part.stat().st_size for part in sorted(folder.iterdir())] == [6_000, 4_000]
    assert setting.join_parts(folder, tmp_path / "joined").read_bytes() == whole.read_bytes()
    (folder / f"{embedded.NAME}.2").unlink()
    with pytest.raises(CourseError, match=rf"not all parts of the embedded model \({embedded.NAME}\.1\)"):
        setting.join_parts(folder, tmp_path / "joined")


def test_answers_about_other_rows_are_refused(tmp_path):
    here = setting.Setting(tmp_path, tmp_path, setting.TINY, hardware.detect())
    files.write_json(tmp_path / setting.ANSWERS, {"test": "another", "rows": 3})
    with pytest.raises(CourseError, match="prepared with another corpus"):
        here.answers()
    files.write_json(tmp_path / setting.ANSWERS, {"test": data.load(SARCASM).test_id, "rows": 3})
    assert here.answers()["rows"] == 3


def test_missing_packages_are_listed_at_once(monkeypatch):
    real = gpu_check.metadata.version

    def version(name):
        if name in ("peft", "trl"):
            raise gpu_check.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(gpu_check.metadata, "version", version)
    with pytest.raises(SystemExit, match=r"2 Python packages are missing.*\n +pip install 'peft>=[^']*' 'trl>=[^']*'$"):
        gpu_check.main(["--tiny"])


@pytest.mark.skipif(hardware.detect_without_torch().device == "cuda", reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="has no GPU"):
        gpu_check.main([str(tmp_path)])
    with pytest.raises(SystemExit):
        gpu_check.main([])
