"""One model at a time, and a stand-in where the hub refuses."""

import gc
import warnings
from dataclasses import replace

import pytest
import torch
from small import ONE_EPOCH, TRAINING_ROWS

from llmcourse import CourseError, models, predict
from llmcourse._base import hardware
from llmcourse._base.errors import CourseWarning
from llmcourse._base.hub import Access
from llmcourse.data.tasks import SARCASM
from llmcourse.models import catalogue, loading
from llmcourse.predict.prompts import Prompt
from llmcourse.training import finetuning


def test_another_model_takes_the_place_of_the_first(hub, t4):
    """Live tensors are counted: the first model leaves, even while somebody holds it, and says so when it is used."""
    hub("mistral-7b", hidden_size=128)
    hub("phi-3-mini")
    first = models.load("mistral-7b")
    assert models.load("mistral-7b") is first
    width = first.model.config.hidden_size
    assert live_tensors_of(width) > 5
    second = models.load("phi-3-mini")
    assert live_tensors_of(width) == 0 and second.model.config.hidden_size == 64
    with pytest.raises(CourseError, match=r"mistral-7b was freed .* models.load\('mistral-7b'\)"):
        predict.score(first, Prompt(SARCASM), TRAINING_ROWS[:1])


def live_tensors_of(width: int) -> int:
    gc.collect()
    found = 0
    for thing in gc.get_objects():
        if isinstance(thing, torch.nn.Parameter) and width in thing.shape:
            found += 1
    return found


def test_a_gate_gives_way_to_the_stand_in(hub, t4, monkeypatch):
    """Whether the hub hands a model out is asked when it is loaded; if not, the ungated 4-bit copy takes its place,
    aloud."""
    hub("mistral-7b-4bit", prequantised=True)

    def answers(answer, cached=False):
        access = Access(answer, cached)
        monkeypatch.setattr("llmcourse._base.hub.find_access", lambda *args: access)

    answers("closed")
    loaded = models.load("mistral-7b")
    assert "asks for an account" in loaded.note and catalogue.base("mistral-7b-4bit").repo in loaded.note
    assert loaded.base["name"] == catalogue.base("mistral-7b-4bit").repo and loaded.base["weights"] == "nf4"
    model = loaded.model
    named_by_adapters = models.catalogue.of_adapter(loaded.base)
    assert named_by_adapters == "mistral-7b-4bit" and models.load(named_by_adapters) is loaded
    assert models.load("mistral-7b") is loaded and loaded.model is model
    models.free()
    answers("silent")
    assert "is not in the cache, and the hub cannot be asked" in models.load("mistral-7b").note
    models.free()
    answers("silent", cached=True)
    assert models.loading._refusal(catalogue.base("mistral-7b")) == ""  # what is there is loaded
    answers("closed")
    monkeypatch.setitem(catalogue.BASES, "mistral-7b", replace(catalogue.base("mistral-7b"), stand_in=None))
    with pytest.raises(CourseError, match="accept its conditions on https:"):
        models.load("mistral-7b")


def test_a_stand_in_that_was_loaded_first_is_not_loaded_again(hub, t4, monkeypatch):
    """The 4-bit copy is in memory under its own name, and then the gated model is wanted."""
    hub("mistral-7b-4bit", prequantised=True)
    gated = catalogue.base("mistral-7b").repo
    monkeypatch.setattr(
        "llmcourse._base.hub.find_access", lambda repo, *args: Access("closed" if repo == gated else "open")
    )
    loaded = models.load("mistral-7b-4bit")
    model, base = loaded.model, dict(loaded.base)
    assert loaded.note == ""
    again = models.load("mistral-7b")
    assert again is loaded and again.model is model and again.base == base
    assert again.name == "mistral-7b" and "asks for an account" in again.note
    assert models.load("mistral-7b-4bit") is loaded and loaded.model is model


def test_a_refusal_leaves_the_model_in_memory(hub, t4, monkeypatch):
    hub("phi-3-mini")
    loaded = models.load("phi-3-mini")
    monkeypatch.setattr("llmcourse._base.hub.find_access", lambda *args: Access("closed"))
    monkeypatch.setitem(catalogue.BASES, "mistral-7b", replace(catalogue.base("mistral-7b"), stand_in=None))
    with pytest.raises(CourseError, match="accept its conditions on https:"):
        models.load("mistral-7b")
    assert models.load("phi-3-mini") is loaded


def test_a_model_that_cannot_be_read_says_so(hub, t4):
    folder = hub("mistral-7b")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CourseError, match="cannot be loaded"):
        models.load("mistral-7b")
    with pytest.raises(CourseError, match="no model named 'gpt-5'"):
        models.load("gpt-5")


@pytest.mark.parametrize("capability", [None, (7, 5), (9, 0)])
@pytest.mark.parametrize("way", ["load", "load embedded", "from_hub", "embedded_in_nf4"])
def test_on_a_gpu_no_model_comes_without_cudnn_switched_off(way, capability, hub, monkeypatch):
    """cuDNN's attention gave NaN for rows padded on the left. A CPU keeps torch's setting."""
    hub("mistral-7b")
    ways = {
        "load": lambda: models.load("mistral-7b"),
        "load embedded": models.load,
        "from_hub": lambda: models.from_hub(catalogue.base("mistral-7b")),
        "embedded_in_nf4": models.embedded_in_nf4,
    }
    machine = replace(hardware.detect(), capability=capability, gpu_gib=14.7 if capability else None)
    monkeypatch.setattr(hardware, "detect", lambda: machine)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        ways[way]()
        assert torch.backends.cuda.cudnn_sdp_enabled() == (capability is None)
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


GPUS = {"T4": (14.74, (7, 5)), "A100 40 GB": (39.4, (8, 0)), "H100": (79.1, (9, 0))}


@pytest.mark.parametrize(
    ("name", "in_nf4"),
    [
        ("smollm2-360m", []),
        ("qwen3-1.7b", []),
        ("smollm3-3b", ["T4"]),
        ("mistral-7b", ["T4", "A100 40 GB"]),
    ],
)
def test_models_that_are_large_for_a_gpu_are_in_4_bits(name, in_nf4):
    machines = {
        gpu: replace(hardware.detect(), capability=capability, gpu_gib=gib) for gpu, (gib, capability) in GPUS.items()
    }
    base = catalogue.base(name)
    assert [gpu for gpu, machine in machines.items() if loading.in_4_bits(base, machine)] == in_nf4
    assert not loading.in_4_bits(base, replace(hardware.detect(), capability=None, gpu_gib=None))


def test_a_model_that_fits_a_gpu_is_loaded_in_16_bits(hub, t4, monkeypatch):
    monkeypatch.setattr(loading, "SHARE_OF_16_BITS", 1 / 3)
    hub("mistral-7b")
    loaded = models.load("mistral-7b")
    assert loaded.base["weights"] == "float16" and not getattr(loaded.model, "is_loaded_in_4bit", False)


def test_a_hub_model_is_in_bfloat16_where_the_processor_is_fast_in_it(hub, monkeypatch):
    monkeypatch.delenv("LLMCOURSE_DTYPE")
    hub("mistral-7b")
    for speedup, dtype in ((1.2, torch.float32), (1.4, torch.bfloat16)):
        monkeypatch.setattr(hardware, "bfloat16_speedup", lambda speedup=speedup: speedup)
        monkeypatch.setattr(loading, "_loaded", None)
        loaded = models.load("mistral-7b")
        assert loaded.model.dtype == dtype and loaded.base["weights"] == str(dtype).removeprefix("torch.")
        rows = [{"parent_comment": "So?", "comment": "Great.", "label": 1}] * 2
        assert len(predict.score(loaded, Prompt(SARCASM), rows).labels) == 2
    monkeypatch.setattr(loading, "_loaded", None)
    assert models.load().model.dtype == torch.float32  # the same numbers for everyone
    monkeypatch.setattr(loading, "_loaded", None)
    monkeypatch.setenv("LLMCOURSE_DTYPE", "float32")
    assert models.load("mistral-7b").model.dtype == torch.float32
    monkeypatch.setenv("LLMCOURSE_DTYPE", "float8")
    with pytest.raises(CourseError, match=r"LLMCOURSE_DTYPE=float8 is not a type\. Use float32, float16, bfloat16"):
        hardware.hub_dtype(hardware.detect())


def test_an_adapter_trained_in_bfloat16_is_used_in_float32_with_a_warning(hub, monkeypatch, tmp_path):
    monkeypatch.delenv("LLMCOURSE_DTYPE")
    monkeypatch.setattr(hardware, "bfloat16_speedup", lambda: 2.0)
    hub("mistral-7b")
    loaded = models.load("mistral-7b")
    rows = [{"parent_comment": f"So {i}?", "comment": "Great.", "label": i % 2} for i in range(8)]
    run = finetuning.finetune(loaded, SARCASM, rows, ONE_EPOCH.changed(micro_batch_tokens=900), tmp_path / "work")
    assert all(p.dtype == torch.float32 for name, p in loaded.model.named_parameters() if "lora_" in name)
    card = {"task": SARCASM.as_dict(), "prompt": {"instruction": False, "fallback": True, "chat": False}}
    card |= {"training": run.as_dict(), "groups": [], "spec": {}}
    models.save_adapter(loaded, tmp_path / "adapter", card, "read me")
    assert models.read_card(tmp_path / "adapter")["base"]["weights"] == "bfloat16"
    with warnings.catch_warnings():
        warnings.simplefilter("error", CourseWarning)
        models.put_adapter(loaded, tmp_path / "adapter")
    monkeypatch.setenv("LLMCOURSE_DTYPE", "float32")
    monkeypatch.setattr(loading, "_loaded", None)
    with pytest.warns(CourseWarning, match="trained on weights in bfloat16, and here they are in float32"):
        models.put_adapter(models.load("mistral-7b"), tmp_path / "adapter")


def test_the_speed_of_bfloat16_is_measured():
    hardware.bfloat16_speedup.cache_clear()
    assert 0.01 < hardware.bfloat16_speedup() < 100
