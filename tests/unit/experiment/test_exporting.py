"""A merged model answers as the adapter on its base, in plain transformers, and what cannot be merged is refused."""

import json
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import architectures
import pytest
import torch
from peft import get_peft_model
from small import ONE_EPOCH, some_rows
from test_model_card import card_of, code_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmcourse import SARCASM, CourseError, Prompt, Task, data, models, predict
from llmcourse._base import files
from llmcourse.experiment.exporting import export
from llmcourse.experiment.model_card import modelfile
from llmcourse.models import adapters, catalogue, merging
from llmcourse.training import configs

RECIPE = ONE_EPOCH.changed(r=4, alpha=8, max_length=120)
ROWS = list(some_rows().test)


def random_adapter(loaded, folder):
    """Write an adapter with random weights, which is large enough to change every answer."""
    loaded.model = get_peft_model(loaded.model, configs.lora_config(RECIPE, loaded.model.config))
    torch.manual_seed(1)
    for name, parameter in loaded.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    card = card_of(SARCASM, loaded.base, max_length=120, instruction=False)
    adapters.save_adapter(loaded, folder, {**card, "groups": []}, "")
    loaded.drop_adapter()
    return folder


@pytest.fixture
def made(tokenizer, tmp_path, monkeypatch):
    """Makes a base in a folder and an adapter for it: `made("gpt2")` -> (folder of the base, folder of the adapter)."""
    monkeypatch.setattr(models.loading, "_loaded", None)

    def make(name, dtype=torch.float32, **changes):
        base = tmp_path / "base"
        architectures.make(name, tokenizer, **changes).model.to(dtype).save_pretrained(base)
        tokenizer.save_pretrained(base)
        return base, random_adapter(models.load(str(base)), tmp_path / "adapter")

    yield make
    models.free()


def plain(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return model, AutoTokenizer.from_pretrained(folder)


# -- the same model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama, tied", "gpt2", "phi3", "gemma3_text", "qwen3"])
def test_a_merged_model_computes_what_the_adapter_does(name, made):
    base, adapter = made(name)
    exported = export(adapter, base.with_name("out"), ROWS, "float32", str(base))
    assert (exported.rows, exported.other_texts) == (8, 0) and not files.find_damage(exported.folder)
    model, tokenizer = plain(exported.folder)
    loaded = models.load(str(base))
    card = models.put_adapter(loaded, adapter)
    inputs = tokenizer(Prompt.from_card(card).text(ROWS[0]), return_tensors="pt")
    with torch.inference_mode():
        merged, apart = model(**inputs).logits, loaded.model(**inputs).logits
        with loaded.without_adapter():
            without = loaded.model(**inputs).logits
    torch.testing.assert_close(merged, apart, atol=1e-3, rtol=1e-3)
    assert (merged - without).abs().max() > 100 * (merged - apart).abs().max()


@pytest.mark.slow
def test_the_embedded_model_answers_in_plain_transformers_as_with_the_adapter(embedded_model, tmp_path, monkeypatch):
    """In float32, by the code of its README, in a process that cannot import the course."""
    adapter, rows = models.shipped_adapter("sarcasm"), list(data.load(SARCASM).test)[:20]
    exported = export(adapter, tmp_path / "merged", rows, "float32")
    assert (exported.rows, exported.other_labels, exported.other_texts) == (20, 0, 0)
    card = models.put_adapter(embedded_model, adapter)
    expected = [
        SARCASM.labels[label] for label in predict.generate(embedded_model, Prompt.from_card(card), rows).labels
    ]
    embedded_model.drop_adapter()
    assert len(set(expected)) == 2
    files.write_json(tmp_path / "rows.json", [{column: row[column] for column in SARCASM.fields} for row in rows])
    readme = (exported.folder / "README.md").read_text(encoding="utf-8")
    program = "import json, sys\nsys.modules['llmcourse'] = None\n" + "".join(code_of(readme))
    program += "print(json.dumps([classify(row) for row in json.load(open('../rows.json'))]))\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=exported.folder, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == expected, done.stderr


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_16_bits_change_is_counted(dtype, made, monkeypatch):
    base, adapter = made("llama")
    texts = iter([["Sarcasm", "Sarcasm", " Sarcasm"], ["Sarcasm", "Not Sarcasm", "Sarcasm"]])
    monkeypatch.setattr("llmcourse.experiment.exporting._texts", lambda *_: next(texts))
    exported = export(adapter, base.with_name("out"), ROWS[:3], dtype, str(base))
    assert exported.describe() == (
        "Of 3 answers, 1 have another label than the adapter's on its base, and 2 have another text."
    )
    readme = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "of 3 answers, 1 have another label" in readme and f"in {dtype}" in readme
    model, _ = plain(exported.folder)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    exact = {name: value.float() for name, value in merged_by_hand(base, adapter).items()}
    for name, value in model.state_dict().items():
        assert torch.equal(value, exact[name].to(value.dtype)), name


def merged_by_hand(base, adapter):
    """W + BA * alpha / r in float32."""
    from safetensors.torch import load_file

    weights, added = load_file(base / "model.safetensors"), load_file(adapter / adapters.WEIGHTS)
    for name, a in added.items():
        if ".lora_A." in name:
            target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            weights[target] = weights[target] + 2.0 * (added[name.replace("lora_A", "lora_B")] @ a)
    return weights


@pytest.mark.parametrize(("published", "usual"), [("bfloat16", "bfloat16"), ("float32", "float16")])
def test_the_usual_type_is_that_of_the_base(published, usual, made):
    base, adapter = made("llama", getattr(torch, published))
    assert export(adapter, base.with_name("out"), dtype=None, model=str(base)).dtype == usual


def test_a_value_that_float16_cannot_hold_is_refused_and_nothing_stays(made):
    base, adapter = made("llama")
    path = base / "model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    weights["model.norm.weight"][0] = 1e5
    save_file(weights, path, metadata={"format": "pt"})
    card = json.loads((adapter / adapters.ADAPTER_MARK).read_text(encoding="utf-8"))
    card["base"] |= models.loading.identity_of(catalogue.base(str(base)))
    files.write_json(adapter / adapters.ADAPTER_MARK, card)
    files.seal(adapter)
    with pytest.raises(CourseError, match=r"norm.weight does not fit float16. Use --dtype bfloat16"):
        export(adapter, base.with_name("out"), dtype="float16", model=str(base))
    assert not base.with_name("out").exists()


# -- what the folder holds ---------------------------------------------------------------------------------------------


def test_the_folder_is_complete_and_names_no_path_of_this_machine(made, tokenizer, tmp_path):
    base, adapter = made("llama")
    folder = export(adapter, base.with_name("out"), ROWS, "float32", str(base)).folder
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "chat_template.jinja",
        "complete.json",
        "config.json",
        "generation_config.json",
        "llmcourse.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    model, theirs = plain(folder)
    settings = model.generation_config
    longest = max(len(tokenizer(" " + label).input_ids) for label in SARCASM.labels)
    assert (settings.do_sample, settings.max_new_tokens) == (False, longest + predict.SPARE_TOKENS)
    assert (settings.eos_token_id, settings.pad_token_id) == (2, 2)
    assert theirs.chat_template == tokenizer.chat_template and theirs("a <|im_end|> b") == tokenizer("a <|im_end|> b")
    for path in folder.iterdir():
        assert str(tmp_path) not in path.read_bytes().decode("utf-8", "ignore"), path.name
    card = json.loads((folder / "llmcourse.json").read_text(encoding="utf-8"))
    assert card["export"]["compared"] == 8 and card["task"] == SARCASM.as_dict()


# -- llama.cpp and Ollama ----------------------------------------------------------------------------------------------


def test_gguf_and_a_modelfile_are_in_the_folder(made, tokenizer):
    base, adapter = made("llama, tied")
    folder = export(adapter, base.with_name("out"), ROWS, "float32", str(base), gguf=True).folder
    whole, _ = plain(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    theirs = model.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in whole.state_dict().items())
    assert (folder / "Modelfile").read_text(encoding="utf-8") == (
        'FROM ./model.gguf\nTEMPLATE """{{ .Prompt }}\nCategory:"""\nPARAMETER temperature 0\nPARAMETER num_predict 8\n'
    )
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "llama-cli -m model.gguf" in readme and "`comment: {parent_comment} reply: {comment}`" in readme


def as_go_reads_it(template, prompt):
    """A template of Go with nothing in it but texts in quotation marks and the user's message."""
    parts = re.split(r'\{\{ ("(?:[^"\\]|\\.)*"|\.Prompt) \}\}', template)
    assert not any("{" in part for part in parts[::2])
    return "".join(
        part if place % 2 == 0 else prompt if part == ".Prompt" else json.loads(part)
        for place, part in enumerate(parts)
    )


@pytest.mark.parametrize("instruction", ["Sort.", '{{ .System }} """ {{{ "', '"""""{', "\\n {% x %} \\\\"])
def test_a_modelfile_makes_the_prompt_of_training(instruction):
    one = Task("made", instruction, {"text": 'te"{xt'}, ("A", "B"), answer_name='{"')
    two = Task("made", instruction, {"a": "x", "b": "y"}, ("A", "B"))
    for task, message in ((one, "the text"), (two, "x: the\ny: text")):
        row = {"text": "the text", "a": "the", "b": "text"}
        written = modelfile(Prompt(task), "model.gguf", 5)
        assert written.count('"""') == 2
        template = written.split('"""')[1]
        assert as_go_reads_it(template, message) == Prompt(task).text(row)


def test_gguf_of_another_architecture_is_refused_before_the_weights(made, no_loading):
    base, adapter = made("qwen3")
    with pytest.raises(CourseError, match="--gguf writes models of the architecture llama, and this is qwen3"):
        export(adapter, base.with_name("out"), model=str(base), gguf=True)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_loading(monkeypatch):
    """Loading a model fails the test."""

    def fail(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(models.loading, "load_whole", fail)


def test_an_existing_folder_is_refused(tmp_path, no_loading):
    with pytest.raises(CourseError, match="exists already"):
        export(models.shipped_adapter("sarcasm"), tmp_path)


def test_a_small_disk_is_refused(tmp_path, no_loading, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**27))
    with pytest.raises(CourseError, match=r"needs 0\.26 GiB on the disk, and .* has 0\.12 GiB free"):
        export(models.shipped_adapter("sarcasm"), tmp_path / "deep" / "out")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**29))
    with pytest.raises(AssertionError):  # it is large enough
        export(models.shipped_adapter("sarcasm"), tmp_path / "out")


def test_a_small_memory_is_refused(tmp_path, no_loading, monkeypatch):
    memory = SimpleNamespace(available=2**28)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    for dtype in ("float32", "float16"):  # the adapter was trained in float32
        with pytest.raises(CourseError, match=r"need 0\.50 GiB of memory in float32, and 0\.25 GiB .* more memory\.$"):
            export(models.shipped_adapter("sarcasm"), tmp_path / "out", dtype=dtype)
    memory.available = 2**30
    with pytest.raises(AssertionError):  # it is large enough
        export(models.shipped_adapter("sarcasm"), tmp_path / "out")
    trained = {"name": "mistralai/Mistral-7B-v0.1", "commit": catalogue.base("mistral-7b").revision, "weights": "nf4"}
    adapter = adapter_on(trained, tmp_path / "adapter")
    message = r"mistral-7b need 26\.98 GiB of memory in float32, .* --dtype float16 needs half as much\.$"
    with pytest.raises(CourseError, match=message):
        export(adapter, tmp_path / "out", dtype="float32")
    with pytest.raises(CourseError, match=r"need 13\.49 GiB of memory in bfloat16, .* more memory\.$"):
        export(adapter, tmp_path / "out", dtype="bfloat16")


def adapter_on(base, folder):
    """Copy the shipped adapter with another base on its card."""
    shutil.copytree(models.shipped_adapter("sarcasm"), folder)
    card = json.loads((folder / adapters.ADAPTER_MARK).read_text(encoding="utf-8"))
    files.write_json(folder / adapters.ADAPTER_MARK, {**card, "base": base})
    files.seal(folder)
    return folder


def test_another_base_is_refused(tmp_path, no_loading, made):
    base, adapter = made("llama")
    for model in ("smollm2-135m", "smollm2-360m"):
        with pytest.raises(CourseError, match="belongs to another base model: it was trained on base@sha256"):
            export(adapter, tmp_path / "out", model=model)
    with pytest.raises(
        CourseError, match=r"belongs to another base model: it was trained on Smol.*this is base@sha256"
    ):
        export(models.shipped_adapter("sarcasm"), tmp_path / "out", model=str(base))
    with pytest.raises(CourseError, match=r"trained on a local folder\. Say where it is: --model PATH/base"):
        export(adapter, tmp_path / "out")


def test_an_adapter_of_another_commit_is_merged_into_that_commit(tmp_path):
    base = {"name": "Qwen/Qwen3-0.6B-Base", "commit": "a" * 40, "weights": "float32"}
    plan = merging.plan(adapter_on(base, tmp_path / "adapter"), "float16")
    assert (plan.base.repo, plan.base.revision, plan.note) == (base["name"], "a" * 40, "")


def test_an_adapter_of_a_copy_in_4_bits_is_merged_into_the_original(tmp_path, monkeypatch):
    copy = catalogue.base("mistral-7b-4bit")
    trained = {"name": copy.repo, "commit": copy.revision, "weights": "nf4"}
    adapter = adapter_on(trained, tmp_path / "adapter")
    plan = merging.plan(adapter, "float16")
    assert plan.base == catalogue.base("mistral-7b") and "a copy in 4 bits. It is merged into mistralai" in plan.note
    with pytest.raises(CourseError, match=r"must be merged into 16 bits. Name the original"):
        merging.plan(adapter, "float16", "mistral-7b-4bit")
    for check in ("refuse_small_disk", "refuse_small_memory"):
        monkeypatch.setattr(merging, check, lambda *_: None)
    with pytest.raises(
        CourseError, match=r"mistralai/Mistral-7B-v0.1 is not in the cache, and the hub cannot be asked"
    ):
        export(adapter, tmp_path / "out", dtype="float16")


def test_a_base_that_was_in_4_bits_is_merged_as_it_was_before(tmp_path):
    trained = {"name": "mistralai/Mistral-7B-v0.1", "commit": catalogue.base("mistral-7b").revision, "weights": "nf4"}
    plan = merging.plan(adapter_on(trained, tmp_path / "adapter"), "bfloat16")
    assert plan.base == catalogue.base("mistral-7b") and "trained on the base in 4 bits" in plan.note
