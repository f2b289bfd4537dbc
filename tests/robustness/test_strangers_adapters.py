"""A stranger's adapter: plain LoRA in safetensors that fits the base, or a refusal that says why; nothing is built,
nothing runs."""

import json
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llmcourse import CourseError, cli, models
from llmcourse._base import files
from llmcourse.data.tasks import SARCASM
from llmcourse.models import adapters
from llmcourse.models.adapters import ADAPTER_MARK, CONFIG, WEIGHTS
from llmcourse.predict.prompts import Prompt

R = 2


@pytest.fixture(scope="session")
def original(make_tiny, tmp_path_factory):
    """A good adapter on the tiny model, and the model."""
    from peft import LoraConfig, get_peft_model

    loaded = make_tiny()
    config = LoraConfig(r=R, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    loaded.model = get_peft_model(loaded.model, config)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    prompt = {"instruction": False, "fallback": True, "chat": False}
    card = {"task": SARCASM.as_dict(), "prompt": prompt, "training": {"seconds": 1.0}, "groups": ["a"], "spec": {}}
    folder = models.save_adapter(loaded, tmp_path_factory.mktemp("made") / "adapter", card, "# A card")
    loaded.drop_adapter()
    return loaded, folder


@pytest.fixture
def stranger(original, tmp_path):
    """A copy to spoil, without the seal that would notice: a stranger leaves it out, or makes his own."""
    loaded, folder = original
    copy = tmp_path / "stranger"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(files.SEAL))
    return loaded, copy


def said(folder, name=CONFIG, **changes):
    """Change what a JSON file of the adapter says."""
    value = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps(value))


def rewritten(folder, change):
    weights = load_file(folder / WEIGHTS)
    save_file({key: value.contiguous() for key, value in change(dict(weights)).items()}, folder / WEIGHTS)


def first(weights, part):
    return next(key for key in weights if part in key)


def refused(loaded, folder, message):
    """Refused with this message, and the model is as it was: no layer of PEFT was made."""
    with pytest.raises(CourseError, match=message) as error:
        models.put_adapter(loaded, folder)
    assert str(folder) in str(error.value)
    assert not loaded.has_adapter and not any("lora" in name for name, _ in loaded.model.named_modules())


def test_a_good_one_is_laid_on(stranger):
    loaded, folder = stranger
    (folder / "adapter_model.bin").write_bytes(b"never read")
    try:
        card = models.put_adapter(loaded, folder)
        kept = load_file(folder / WEIGHTS)
        for key, parameter in loaded.model.named_parameters():
            if "lora_" in key:
                assert torch.equal(parameter, kept[key.replace(".default", "")])
        assert adapters.task_of(card).labels == SARCASM.labels and Prompt(SARCASM, **card["prompt"])
    finally:
        loaded.drop_adapter()


CONFIGS = {
    "not LoRA": ({"peft_type": "IA3"}, "peft_type='IA3'"),
    "another task": ({"task_type": "SEQ_CLS"}, "task_type='SEQ_CLS'"),
    "a class to import": ({"auto_mapping": {"base_model_class": "os", "parent_library": "os"}}, "auto_mapping"),
    "whole matrices": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "a pattern": ({"target_modules": "(a+)+$"}, "target_modules='"),
    "a pattern in a list": ({"target_modules": [".*"]}, "target_modules="),
    "a path": ({"target_modules": ["../q_proj"]}, "target_modules="),
    "no such matrix": ({"target_modules": ["q_proj", "nope"]}, "the matrix 'nope', which the model does not have"),
    "the output matrix": ({"target_modules": ["q_proj", "lm_head"]}, "the matrix 'lm_head'"),
    "a norm": ({"target_modules": ["input_layernorm"]}, "the matrix 'input_layernorm'"),
    "a rank pattern": ({"rank_pattern": {"(a+)+$": 10**9}}, "rank_pattern"),
    "an alpha pattern": ({"alpha_pattern": {"q_proj": 1e30}}, "alpha_pattern"),
    "an enormous rank": ({"r": 10**12}, "r=1000000000000"),
    "a rank with 400 digits": ({"r": 10**400}, "r=1000"),
    "a rank of some millions": (
        {"r": 10**8},
        r"is \(2, 32\); by its config and the model it would be \(100000000, 32\)",
    ),
    "a rank of a million": ({"r": 1_000_000}, r"it would be \(1000000, 32\)"),
    "no rank": ({"r": 0}, "r=0"),
    "half a rank": ({"r": 2.5}, "r=2.5"),
    "true": ({"r": True}, "r=True"),
    "a rank in words": ({"r": "8"}, "r='8'"),
    "true for alpha": ({"lora_alpha": True}, "lora_alpha=True"),
    "a negative layer": ({"layers_to_transform": [-1]}, "layers_to_transform="),
    "no layers": ({"layers_to_transform": []}, "layers_to_transform="),
    "no matrices": ({"target_modules": []}, "target_modules="),
    "not a number": ({"lora_alpha": float("nan")}, "JSON"),
    "a dropout of 1": ({"lora_dropout": 1}, "lora_dropout=1"),
    "a layer that is not there": ({"layers_to_transform": [7]}, "the layer 7, which the model does not have"),
    "fewer layers": ({"layers_to_transform": [1]}, "have 'base_model.model.model.layers.0"),
    "fewer matrices": ({"target_modules": ["q_proj"]}, "have 'base_model"),
    "more matrices": ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "lack 'base_model"),
    "layers by a pattern": ({"layers_pattern": "(a+)+"}, "layers_pattern"),
    "PiSSA, which changes the base": ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    "DoRA": ({"use_dora": True}, "use_dora"),
    "a bias": ({"bias": "all"}, "bias='all'"),
    "a file to read": ({"megatron_core": "os.path"}, "megatron_core"),
    "replicated layers": ({"layer_replication": [[0, 2], [0, 2]]}, "layer_replication"),
    "what PEFT does not know": ({"from_the_future": {"run": "me"}}, "from_the_future"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_asks_for_more_is_refused(case, stranger):
    changes, message = CONFIGS[case]
    said(stranger[1], **changes)
    refused(*stranger, message)


WEIGHT = {
    "another shape": (lambda w: w | {(k := first(w, "lora_A")): torch.zeros(R + 1, w[k].shape[1])}, r"is \(3, 32\)"),
    "turned": (lambda w: w | {(k := first(w, "lora_B")): w[k].T}, "by its config and the model it would be"),
    "one too many": (lambda w: w | {"base_model.model.lm_head.weight": torch.zeros(2, 2)}, "have 'base_model.model.lm"),
    "one too few": (lambda w: {k: v for k, v in w.items() if k != first(w, "lora_A")}, "lack 'base_model"),
    "another name": (lambda w: {k.replace("layers.0", "layers.9"): v for k, v in w.items()}, "unlike its config"),
    "not a number": (lambda w: w | {(k := first(w, "lora_A")): torch.full_like(w[k], torch.nan)}, "not a number"),
    "endless": (lambda w: w | {(k := first(w, "lora_B")): torch.full_like(w[k], torch.inf)}, "not a number"),
    "integers": (lambda w: {k: v.int() for k, v in w.items()}, "of type I32; F32, F16, BF16 are read"),
    "complex numbers": (lambda w: {k: v.to(torch.complex64) for k, v in w.items()}, "of type"),
    "nothing": (lambda w: {}, "lack 'base_model"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHT)
def test_weights_that_do_not_fit_are_refused(case, stranger):
    change, message = WEIGHT[case]
    rewritten(stranger[1], change)
    refused(*stranger, message)


def test_an_enormous_rank_allocates_nothing(stranger):
    """Its tensors would be announced, too, in a header that a file of a few bytes can hold: the file's length gives it
    away."""
    loaded, folder = stranger
    said(folder, r=1_000_000)
    names = list(load_file(folder / WEIGHTS))
    header = {
        name: {
            "dtype": "F32",
            "shape": [1_000_000, 32] if "_A" in name else [32, 1_000_000],
            "data_offsets": [0, 128_000_000],
        }
        for name in names
    }
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text)
    refused(loaded, folder, "cannot be loaded")


class Runs:
    """Pickled, it runs a command when it is read."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def test_a_pickle_is_never_read(stranger, tmp_path):
    loaded, folder = stranger
    ran = tmp_path / "ran"
    bomb = pickle.dumps(Runs(ran))
    for name in ("adapter_model.bin", "training_args.bin", "pytorch_model.bin"):
        (folder / name).write_bytes(bomb)
    models.put_adapter(loaded, folder)
    loaded.drop_adapter()
    (folder / WEIGHTS).write_bytes(bomb)
    refused(loaded, folder, "cannot be loaded")
    (folder / WEIGHTS).unlink()
    refused(loaded, folder, r"only as adapter_model\.bin, a pickle")
    assert not ran.exists()


@pytest.mark.parametrize("part", [CONFIG, WEIGHTS, ADAPTER_MARK])
def test_no_link_leads_out_of_the_folder(part, stranger, tmp_path):
    loaded, folder = stranger
    (tmp_path / "secret").write_bytes((folder / part).read_bytes())
    (folder / part).unlink()
    (folder / part).symlink_to(tmp_path / "secret")
    refused(loaded, folder, "link to a file outside")


CARDS = {
    "a base without a name": ({"base": {"sha256": "x"}}, "'base' must be a model's name"),
    "a training in words": ({"training": "long"}, "'training' must be facts"),
    "no words for a base": ({"base": {"name": 1}}, "'base' must be a model's name and hash"),
    "a base that is none": ({"base": ["tiny"]}, "'base' must be .* and is \\['tiny'\\]"),
    "a prompt with shots": (
        {"prompt": {"shots": [{"label": 0}]}},
        "'prompt' must be true or false for instruction, fallback and chat",
    ),
    "a prompt of words": (
        {"prompt": {"chat": "yes"}},
        "'prompt' must be true or false for instruction, fallback and chat",
    ),
    "another setting of the prompt": ({"prompt": {"shots": True}}, "'prompt' must be true or false"),
    "a recipe in words": ({"recipe": "quick"}, "'recipe' must be a recipe's numbers"),
    "a length in words": ({"recipe": {"max_length": "512"}}, "'recipe' must be .* a whole number for max_length"),
    "a length below nothing": ({"recipe": {"max_length": -1}}, "'recipe' must be"),
    "true for a length": ({"recipe": {"max_length": True}}, "'recipe' must be"),
    "groups of numbers": ({"groups": [1]}, "'groups' must be a list of hashes"),
    "one label": ({"task": SARCASM.as_dict() | {"labels": ["Sarcasm"]}}, "two or more"),
    "labels in a text": ({"task": SARCASM.as_dict() | {"labels": "ab"}}, "labels="),
    "a source": ({"task": SARCASM.as_dict() | {"sources": {"kaggle": "x"}}}, "sources="),
    "a download": ({"task": SARCASM.as_dict() | {"hub": ["a/b", "c", "d"]}}, "hub="),
    "a name that is a path": ({"task": SARCASM.as_dict() | {"name": "../../x"}}, "name="),
    "a column of numbers": ({"task": SARCASM.as_dict() | {"fields": {"a": 1}}}, "fields.a=1"),
    "a fallback outside": ({"task": SARCASM.as_dict() | {"fallback": 9}}, "fallback="),
    "no task": ({"task": {}}, "'name' is missing"),
    "half a character": ({"task": SARCASM.as_dict() | {"instruction": "\ud800"}}, "surrogates not allowed"),
}


@pytest.mark.parametrize("case", CARDS)
def test_a_card_that_says_what_no_card_says_is_refused(case, stranger):
    changes, message = CARDS[case]
    said(stranger[1], ADAPTER_MARK, **changes)
    refused(*stranger, message)


@pytest.mark.parametrize("chat", [True, False, "turns"])
def test_a_card_names_each_way_of_chatting(chat, stranger):
    said(stranger[1], ADAPTER_MARK, prompt={"chat": chat})
    assert Prompt.from_card(models.read_card(stranger[1])).chat == chat


@pytest.mark.parametrize("field", ["base", "task", "prompt", "training", "groups", "spec"])
def test_a_card_that_lacks_something_is_refused(field, stranger):
    loaded, folder = stranger
    card = json.loads((folder / ADAPTER_MARK).read_text())
    del card[field]
    (folder / ADAPTER_MARK).write_text(json.dumps(card))
    refused(loaded, folder, f"does not say '{field}'")


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b"\xff", b'{"task": NaN}'])
@pytest.mark.parametrize("part", [CONFIG, ADAPTER_MARK])
def test_a_card_or_config_of_other_bytes_is_refused(part, content, stranger):
    loaded, folder = stranger
    (folder / part).write_bytes(content)
    refused(loaded, folder, r"cannot be read|cannot be loaded")


@pytest.mark.parametrize("part", [CONFIG, ADAPTER_MARK])
def test_a_card_or_config_may_not_be_of_any_size(part, stranger, monkeypatch):
    monkeypatch.setitem(adapters.MAX_BYTES, part, 100)
    refused(*stranger, "bytes, at most 100 are read")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([CONFIG, WEIGHTS, ADAPTER_MARK]), st.floats(0, 1), st.integers(0, 9), st.binary(max_size=9))
def test_any_damage_is_laid_on_whole_or_refused(original, tmp_path, part, start, length, put):
    loaded, folder = original
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    content = (folder / part).read_bytes()
    at = int(start * len(content))
    (copy / part).write_bytes(content[:at] + put + content[at + length :])
    try:
        models.put_adapter(loaded, copy)
        assert all(p.isfinite().all() for name, p in loaded.model.named_parameters() if "lora_" in name)
    except CourseError:
        assert not loaded.has_adapter
    finally:
        loaded.drop_adapter()


def test_the_command_says_it_too(stranger, capsys, monkeypatch):
    loaded, folder = stranger
    monkeypatch.setattr(models, "load", lambda name: loaded)
    monkeypatch.setattr(models, "base_of", lambda adapter, model: "tiny")
    said(folder, rank_pattern={".*": 4096})
    assert cli.main(["predict", "a text", "--adapter", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "rank_pattern" in error and "Traceback" not in error


def test_reading_a_card_needs_neither_torch_nor_peft(original):
    program = (
        "import sys\nfrom llmcourse.models import adapters\nadapters.read_card(sys.argv[1])\n"
        "assert not {'torch', 'peft', 'pickle5'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, original[1]], check=True)
