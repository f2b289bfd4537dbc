"""What the tests share: a tiny random model, made in a second, and the embedded model, loaded once."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("LLMCOURSE_DTYPE", "float32")  # or models in folders compute in what this processor is fast in

import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import small

from llmcourse import models
from llmcourse._base import hardware
from llmcourse.data import tasks
from llmcourse.models import catalogue

SARCASM = tasks.SARCASM


@pytest.fixture(scope="session")
def tokenizer():
    return small.tokenizer()


@pytest.fixture(scope="session")
def make_tiny(tokenizer):
    """Makes a random Llama with 2 layers and the embedded model's tokenizer."""
    return partial(small.tiny_model, tokenizer)


@pytest.fixture
def tiny(make_tiny):
    return make_tiny()


@pytest.fixture
def embedded_model():
    """The embedded model. It is loaded once, and again only after a test that has loaded another model."""
    return models.load()


@pytest.fixture(scope="session")
def bundled():
    from llmcourse import data

    return data.load(SARCASM)


T4 = hardware.Hardware(
    "cpu", "Tesla T4", (7, 5), cores=2, ram_gib=12.7, gpu_gib=14.74, gpu_free_gib=14.3, disk_free_gib=70
)
"""A T4 as `hardware` would describe it, but for the device: what follows from it runs on the CPU."""


@pytest.fixture
def t4(monkeypatch):
    """The machine is a T4, as far as the library knows."""
    import bitsandbytes.nn.modules

    monkeypatch.setattr(hardware, "detect", lambda: T4)
    monkeypatch.delenv("LLMCOURSE_DTYPE")
    # tiny models take the place of large ones, which are in 4 bits on a T4
    monkeypatch.setattr(models.loading, "SHARE_OF_16_BITS", 0.0)
    # on some CPUs bitsandbytes repacks 4-bit weights at the first inference, and cannot train them any more
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    return T4


@pytest.fixture
def hub(monkeypatch, tmp_path_factory, tokenizer):
    """Gives tiny random models of the catalogue's architectures the place of the real ones: `hub("mistral-7b")` -> its
    folder."""
    monkeypatch.setattr(models.loading, "_loaded", None)

    def put(name: str, prequantised: bool = False, **changes):
        import torch
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        tiny = small.shrunk(name, vocab_size=len(tokenizer), max_position_embeddings=2048, **changes)
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        config = models.config_of(tiny)
        config.initializer_range = 0.1
        made = AutoModelForCausalLM.from_config(config)
        made.save_pretrained(folder)
        if prequantised:  # as strangers do it: in bfloat16
            nf4 = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
            made = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=nf4)
            made.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        monkeypatch.setitem(
            catalogue.BASES, name, replace(tiny, repo=str(folder), revision=None, prequantised=prequantised)
        )
        return folder

    yield put
    models.free()


@pytest.fixture(scope="session")
def course_wheel(tmp_path_factory):
    """A wheel of the course as it is now, built without a network, from a copy without an old build folder."""
    root = Path(__file__).parents[1]
    tree, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "constraints-colab.txt"):
        shutil.copy(root / name, tree / name)
    shutil.copytree(root / "llmcourse", tree / "llmcourse", ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=tree, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture
def products():
    """Matrix products as torch has them by itself, whatever another test's model has set: for what is compared to
    rounding."""
    with hardware.prefer_mkl():
        yield


@pytest.fixture
def measured():
    """Keeps what a test measured for TRUST.md: `measured("kills", count=20)`, in benchmarks/results/trust/, if
    LLMCOURSE_RECORD is set."""

    def keep(name: str, **figures) -> None:
        from llmcourse._base import files

        print(name, figures)
        if os.environ.get("LLMCOURSE_RECORD"):
            folder = Path(__file__).parents[1] / "benchmarks" / "results" / "trust"
            files.write_json(folder / f"{name}.json", {"date": hardware.now(), "figures": figures})

    return keep
