"""The GPU check's code path, on tiny sizes and the CPU; a GPU is the same but for size."""

import json
import runpy
from pathlib import Path

import bitsandbytes.nn.modules
import pytest

from llmcourse import models
from llmcourse._base import hardware
from llmcourse.models import attention, catalogue

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu_check.py"


def test_gpu_check_on_tiny_sizes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    monkeypatch.setattr(models.loading, "_loaded", None)
    before = hardware.detect, catalogue.base("mistral-7b")
    seen = []
    load = models.load

    def watched(name):
        loaded = load(name)
        seen.append((hardware.detect().dtype, loaded.model.config._attn_implementation, loaded.model.is_loaded_in_4bit))
        return loaded

    monkeypatch.setattr(models, "load", watched)
    main = runpy.run_path(str(SCRIPT))["main"]
    results = main(["--tiny", "--steps", "2", "--prompts", "5", "--out", str(tmp_path / "gpu_check.json")])
    assert seen == [("float16", attention.NO_GQA, True)]  # the T4's choices were taken
    assert (hardware.detect, catalogue.base("mistral-7b")) == before
    assert json.loads((tmp_path / "gpu_check.json").read_text()) == results
    assert {name: run["steps"] for name, run in results["training"].items()} == {
        "talk": 2,
        "thorough": 2,
        "workshop": 2,
    }
    assert all(
        run["tokens_per_second"] > 0 and run["planned_gib"] > 0 and run["notes"] == []
        for run in results["training"].values()
    )
    assert results["scoring"]["rows"] == 5 and "tokens/s" in capsys.readouterr().out


@pytest.mark.skipif(hardware.detect_without_torch().device == "cuda", reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(SystemExit, match="has no GPU"):
        runpy.run_path(str(SCRIPT))["main"]([])
