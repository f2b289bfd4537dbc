"""Each architecture of tests/helpers/architectures.py in NF4: loaded from a folder, scored, trained, saved and loaded.

bitsandbytes has 4-bit kernels for a CPU. The machine is a T4 as far as the library knows, but computes in float32, so
that results can be compared to rounding.
"""

import math
import re

import alone
import architectures
import pytest
import torch

from llmcourse import models, predict
from llmcourse._base import hardware
from llmcourse.data.tasks import SARCASM
from llmcourse.models import put_adapter, save_adapter, shapes, sharing
from llmcourse.models.loading import LoadedModel
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.training import finetuning
from llmcourse.training.recipes import ALL_LINEAR, Recipe

ROWS = [
    {"row": n + 1, "label": n % 2, "parent_comment": f"Parent {n // 2} said " + "so " * n, "comment": "yes " * (1 + n)}
    for n in range(6)
]
RECIPE = Recipe("tiny", r=4, epochs=2, learning_rate=1e-2, batch_rows=3, target_modules=ALL_LINEAR)
NAMES = architectures.mostly_slow(
    [*architectures.CONFIGS, *architectures.ALONE],
    ("falcon", "gemma3_text", "gpt2", "phi3", "mamba", "granitemoehybrid"),
)
NOT_QUANTISED = [name for name in architectures.CONFIGS if name.startswith("falcon")]
"""Falcon's layers are of a class of their own, which bitsandbytes leaves in 16 bits."""
PARTLY = {"mamba": 56, "mamba2": 67, "falcon_h1": 85, "granitemoehybrid": 24, "jamba": 44, "qwen3_next": 48}
"""The percentage of the layers' weights in 4 bits, where experts or what kernels read stay in 16 bits."""


@pytest.fixture
def folder(request, tokenizer, tmp_path, t4, monkeypatch):
    """One of the architectures in a folder, on a machine that loads it in NF4."""
    monkeypatch.setattr(models.loading, "_loaded", None)  # or it would free the model that other tests share
    monkeypatch.setattr(hardware.Hardware, "dtype", property(lambda self: "float32"))
    loaded = architectures.make(request.param, tokenizer)
    loaded.model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    yield tmp_path / "theirs"
    models.free()


def plain(folder, tokenizer):
    """The same folder in NF4, as plain transformers loads it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=models.quantization_config(AutoConfig.from_pretrained(folder))
    )
    return LoadedModel("plain", {}, model.eval(), tokenizer)


def four_bit_weights(model) -> int:
    return sum(math.prod(p.quant_state.shape) for p in model.parameters() if getattr(p, "quant_state", None))


def in_4_bits(model) -> set[str]:
    return {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if type(part).__name__ == "Linear4bit"}


@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_an_architecture_in_nf4(folder, request, tokenizer, tmp_path):
    name = request.node.callspec.params["folder"]
    # 1. Loaded
    loaded = models.load(str(folder))
    shape = shapes.shape_of(loaded.model.config)
    quantised = name not in NOT_QUANTISED
    assert loaded.base["weights"] == ("nf4" if quantised else "float32")
    matrices = {path.rsplit(".", 1)[-1] for path in shape.matrices}
    kept = shapes.READ_BY_KERNELS if sharing.keeps_state(loaded.model.config) else ()
    assert in_4_bits(loaded.model) == (matrices - {*kept} if quantised else set())
    assert shape.nf4_parameters == four_bit_weights(loaded.model)
    share = re.search(r"(\d+)% are in 4 bits. The others stay in 16 bits", loaded.note)
    assert (int(share[1]) if share else 100) == (PARTLY.get(name, 100) if quantised else 0)
    # 2. Scored as by plain transformers, one row at a time
    other = plain(folder, tokenizer)
    assert in_4_bits(other.model) == in_4_bits(loaded.model)
    prompt = Prompt(SARCASM, few_shots(SARCASM, ROWS, 2))
    labels = predict.encoding.label_tokens(loaded, prompt)
    scored = predict.score(loaded, prompt, ROWS)
    for start, logprobs in zip(predict.encoding.encode(loaded, prompt, ROWS), scored.logprobs, strict=True):
        assert logprobs == pytest.approx(alone.label_logprobs(other, start, labels), abs=1e-4)
    # 3. Trained, saved and loaded
    _, targets = architectures.ALONE.get(name, ({}, ALL_LINEAR))
    run = finetuning.finetune(loaded, SARCASM, ROWS, RECIPE.changed(target_modules=targets), tmp_path / "work")
    adapted = {path.split(".")[-4] for path, p in loaded.model.named_parameters() if "lora_B" in path and p.abs().max()}
    assert adapted == {path.rsplit(".", 1)[-1] for path in shape.targets(targets)} and run.losses[-1] < run.losses[0]
    tuned = predict.score(loaded, Prompt(SARCASM), ROWS).logprobs
    card = {"task": SARCASM.as_dict(), "prompt": {"instruction": False, "fallback": True, "chat": False}}
    save_adapter(loaded, tmp_path / "adapter", card | {"training": run.as_dict(), "groups": [], "spec": {}}, "read me")
    again = models.load(str(folder))
    assert again is loaded and predict.score(again, Prompt(SARCASM), ROWS).logprobs != tuned
    put_adapter(again, tmp_path / "adapter")
    assert predict.score(again, Prompt(SARCASM), ROWS).logprobs == tuned
