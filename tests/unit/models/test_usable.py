"""What cannot be loaded is refused before weights are downloaded, with what to do instead."""

import json
import shutil
from collections import namedtuple

import architectures
import pytest

from llmcourse import CourseError, models, predict
from llmcourse._base import hub as hub_module
from llmcourse.data.tasks import SARCASM
from llmcourse.models import catalogue, put_adapter, save_adapter, usable
from llmcourse.predict.prompts import Prompt
from llmcourse.training import finetuning
from llmcourse.training.recipes import Recipe

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
ROWS = [
    {"row": n, "label": n % 2, "parent_comment": f"parent {n // 2}", "comment": f"reply {n} " * (1 + n % 3)}
    for n in range(8)
]


def repository(config, sizes=None):
    return usable.Repository("someone/model", "someone/model", config, sizes or {"model.safetensors": 1000})


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        {"model_type": "llama"},
        {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "auto_map": {"AutoConfig": "x.Y"}},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        {**LLAMA, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]},
        {"model_type": "mamba", "architectures": ["MambaForCausalLM"]},
        {"model_type": "jamba", "architectures": ["JambaForCausalLM"]},
    ],
    ids=str,
)
def test_causal_language_models_are_accepted(config):
    usable.refuse_unusable(repository(config))


REFUSED = {
    "an encoder": (
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        "is a BertForMaskedLM, which",
    ),
    "an embedding model": ({"model_type": "bert", "architectures": ["BertModel"]}, "is a BertModel"),
    "an encoder without a class": ({"model_type": "roberta"}, "is of type 'roberta', which the course does not load"),
    "an encoder with a head that generates": (
        {"model_type": "bert", "architectures": ["BertLMHeadModel"]},
        "is of type 'bert', which the course does not load. Take a decoder-only language model",
    ),
    "a type that we could not test": (
        {"model_type": "xlstm", "architectures": ["xLSTMForCausalLM"]},
        "is of type 'xlstm', which the course does not load",
    ),
    "a classifier": ({**LLAMA, "architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
    "an encoder-decoder": (
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
        "is an encoder-decoder model",
    ),
    "a vision-language model": (
        {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {}},
        "reads more than text",
    ),
    "remote code": (
        {"model_type": "stranger", "auto_map": {"AutoModelForCausalLM": "code.Model"}},
        "needs Python code from its repository",
    ),
    "an unknown architecture": (
        {"model_type": "llama9"},
        "does not know the architecture 'llama9' .* pip install",
    ),
    "another quantisation": ({**LLAMA, "quantization_config": {"quant_method": "gptq"}}, "is quantised with gptq"),
    "no model_type": ({"hidden_size": 8}, "has no model_type"),
    "a model_type of another type": ({"model_type": 3}, "has no model_type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_models_are_refused(name):
    config, message = REFUSED[name]
    with pytest.raises(CourseError, match=message):
        usable.refuse_unusable(repository(config))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["pytorch_model.bin"], "has its weights only as pytorch_model.bin. Only safetensors are read"),
        (["onnx/model.onnx"], r"only as onnx/model.onnx"),
        (["original/model.safetensors"], "has no weights"),
        (["README.md"], "has no weights"),
    ],
)
def test_a_repository_without_safetensors_is_refused(files, message):
    with pytest.raises(CourseError, match=message):
        usable.refuse_unusable(repository(LLAMA, dict.fromkeys(files, 10)))


def test_a_disk_that_is_too_small_is_named_before_the_download(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 2 * 2**30))
    sizes = {"model-00001.safetensors": 2**30, "model-00002.safetensors": 2**30, "original/big.pth": 9 * 2**30}
    with pytest.raises(CourseError, match=r"needs 2.0 GiB on the disk, and .* has 2.0 GiB free.*HF_HOME"):
        usable.refuse_unusable(repository(LLAMA, sizes))
    monkeypatch.setattr(hub_module, "cached_gib", lambda repo: 1.0)  # an interrupted download
    usable.refuse_unusable(repository(LLAMA, sizes))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["adapter_config.json"], "is an adapter, not a model.*--adapter FOLDER"),
        (["model.gguf"], "has no config.json.*GGUF files are for llama.cpp"),
        (["notes.txt"], "has no config.json"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(files, message, tmp_path):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(CourseError, match=message):
        models.load(f"{tmp_path}/")


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{ nothing")
    with pytest.raises(CourseError, match=r"config.json of .* cannot be read"):
        models.load(f"{tmp_path}/")


@pytest.fixture
def folder(tmp_path, tokenizer, monkeypatch):
    """A tiny model of another architecture in a folder, as someone would bring it."""
    monkeypatch.setattr(models.loading, "_loaded", None)  # or it would free the model that other tests share
    loaded = architectures.make("gpt_neox", tokenizer)
    loaded.model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    yield tmp_path / "theirs"
    models.free()


def test_a_folder_is_loaded_and_its_adapter_belongs_to_its_content(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = models.load("./theirs")
    assert models.load(str(folder)) is loaded
    before = predict.score(loaded, Prompt(SARCASM), ROWS)
    recipe = Recipe("tiny", r=2, epochs=1, batch_rows=4, learning_rate=1e-2)
    run = finetuning.finetune(loaded, SARCASM, ROWS, recipe, tmp_path / "work")
    card = {"task": SARCASM.as_dict(), "prompt": {"instruction": False, "fallback": True, "chat": False}}
    save_adapter(loaded, tmp_path / "adapter", card | {"training": run.as_dict(), "groups": [], "spec": {}}, "read me")
    assert "theirs" in (tmp_path / "adapter" / "adapter_config.json").read_text() and str(tmp_path) not in "".join(
        path.read_text() for path in (tmp_path / "adapter").glob("*.json")
    )
    # the same model in another place takes the adapter
    models.free()
    shutil.copytree(folder, tmp_path / "elsewhere" / "theirs")
    moved = models.load("./elsewhere/theirs")
    assert predict.score(moved, Prompt(SARCASM), ROWS).logprobs == before.logprobs
    put_adapter(moved, tmp_path / "adapter")
    # a model with other weights under the same name does not
    models.free()
    torch_file = folder / "model.safetensors"
    content = bytearray(torch_file.read_bytes())
    content[-1] ^= 1
    torch_file.write_bytes(content)
    with pytest.raises(CourseError, match="belongs to another base model"):
        put_adapter(models.load("./theirs"), tmp_path / "adapter")


def test_a_shape_is_read_from_a_folder(folder):
    base = catalogue.base(str(folder))
    assert base.shape.architecture == "gpt_neox" and base.shape.targets(["q_proj"]) == ["query_key_value"]


def test_a_folders_files_are_listed_with_their_sizes(folder):
    config = json.loads((folder / "config.json").read_text())
    sizes = hub_module.file_sizes(str(folder), None)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(sizes)
    usable.refuse_unusable(usable.Repository("theirs", str(folder), config, sizes))
