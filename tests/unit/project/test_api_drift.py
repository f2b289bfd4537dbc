"""The course calls nothing that the installed libraries do not know, and the check that says so is not blind.

Each planted mistake below is a keyword or a name with which a published notebook broke when a library moved on (see
`api_drift`), or a typo that **kwargs would swallow. All of this is read, not run: also cells that need a GPU.
"""

import inspect
import json
from pathlib import Path

import api_drift
import pytest

ROOT = Path(__file__).parents[3]
KINDS = ("notebooks/*.ipynb", "llmcourse/**/*.py", "tools/*.py", "benchmarks/**/*.py")
FILES = sorted(path for kind in KINDS for path in ROOT.glob(kind))

# what is wrong, the code with it, and what stands in its place when it is right
MISTAKES = [
    ("tokenizer", "from trl import SFTTrainer\nSFTTrainer(model=m, tokenizer=t)", "processing_class"),
    ("max_seq_length", "import trl\ntrl.SFTTrainer(m, max_seq_length=512)", "args"),
    ("max_seq_length", "from trl import SFTConfig as Config\nConfig(max_seq_length=512)", "max_length"),
    ("dataset_text_field", "from trl import SFTTrainer\nSFTTrainer(m, dataset_text_field='text')", "train_dataset"),
    ("warmup_ratio", "from transformers import TrainingArguments\nTrainingArguments(warmup_ratio=0.3)", "warmup_steps"),
    ("overwrite_output_dir", "import transformers as t\nt.TrainingArguments(overwrite_output_dir=1)", "output_dir"),
    ("evaluation_strategy", "def f():\n    from trl import SFTConfig\n    SFTConfig(evaluation_strategy='no')", "eval_strategy"),
    ("group_by_length", "from trl import SFTConfig\nmine = {'group_by_length': 1}\nSFTConfig(**mine)", "train_sampling_strategy"),
    ("no_cuda", "from trl import SFTConfig\nmine = dict(no_cuda=True)\nSFTConfig('runs', **mine)", "use_cpu"),
    ("load_in_4bit", "from transformers import AutoModelForCausalLM as A\nA.from_pretrained(n, load_in_4bit=1)", "quantization_config"),
    ("torch_dtype", "from transformers import AutoModelForCausalLM as A\nA.from_pretrained(n, torch_dtype='auto')", "dtype"),
    ("torch_dtype", "import transformers\ntransformers.MistralForCausalLM.from_pretrained(n, torch_dtype=t)", "dtype"),
    ("use_auth_token", "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained(n, use_auth_token=t)", "token"),
    ("paddding_side", "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained(n, paddding_side='left')", "padding_side"),
    ("bnb_4bit_use_double_qant", "from transformers import BitsAndBytesConfig as B\nB(bnb_4bit_use_double_qant=True)", "bnb_4bit_use_double_quant"),
    ("lora_aplha", "from peft import LoraConfig\nLoraConfig(r=8, lora_aplha=32)", "lora_alpha"),
    ("target_module", "import functools, peft\nfunctools.partial(peft.LoraConfig, target_module=[])", "target_modules"),
    ("is_trainabel", "from peft import PeftModel\nPeftModel.from_pretrained(m, n, is_trainabel=True)", "is_trainable"),
    ("use_gradient_checkpoint", "import peft\npeft.prepare_model_for_kbit_training(m, use_gradient_checkpoint=1)", "use_gradient_checkpointing"),
    ("max_new_token", "loaded.model.generate(**tokens, max_new_token=4)", "max_new_tokens"),
    ("temprature", "from transformers import GenerationConfig\nGenerationConfig(temprature=1.0)", "temperature"),
    ("num_logits_to_keep", "model(ids, num_logits_to_keep=1)", "logits_to_keep"),
    ("add_special_token", "loaded.tokenizer(texts, add_special_token=False)", "add_special_tokens"),
    ("add_generation_promt", "tokenizer.apply_chat_template(m, add_generation_promt=True)", "add_generation_prompt"),
    ("resume_from", "from trl import SFTTrainer\ntrainer = SFTTrainer(m)\ntrainer.train(resume_from=c)", "resume_from_checkpoint"),
    ("resume_from", "trainer.train(resume_from=c)", "resume_from_checkpoint"),
    ("tokenizer", "import trl\nclass Mine(trl.SFTTrainer):\n    x = 1\nMine(m, tokenizer=t)", "processing_class"),
    ("tokenizer", "import trl\nclass Mine(trl.SFTTrainer):\n    def __init__(self):\n        super().__init__(m, tokenizer=t)", "processing_class"),
    ("tokenizer", "from llmcourse.training.trainer import LabelTrainer\nLabelTrainer(m, tokenizer=t)", "processing_class"),
    ("hiden_size", "from transformers import LlamaConfig\nLlamaConfig(hiden_size=32)", "hidden_size"),
    ("label_smooth", "import torch\ntorch.nn.functional.cross_entropy(a, b, label_smooth=0.1)", "label_smoothing"),
    ("dims", "import torch\ntorch.cat(parts, dims=1)", "dim"),
    ("split_name", "from datasets import load_dataset\nload_dataset('csv', data_files=f, split_name='train')", "split"),
    ("DataCollatorForCompletionOnlyLM", "from trl import DataCollatorForCompletionOnlyLM", "SFTConfig"),
    ("setup_chat_format", "import trl\ntrl.setup_chat_format(m, t)", "clone_chat_template"),
    ("prepare_model_for_int8_training", "from peft import prepare_model_for_int8_training as p", "prepare_model_for_kbit_training"),
    ("deepspeed", "import transformers.deepspeed", "modeling_utils"),
]  # fmt: skip


def problems_in(tmp_path, code: str) -> list[str]:
    (tmp_path / "code.py").write_text(code)
    return api_drift.Reader(tmp_path / "code.py").problems


def test_files_of_every_kind_are_read():
    assert all(any(ROOT.glob(kind)) for kind in KINDS)
    assert {path.parent.name for path in FILES} >= {
        "training",
        "widgets",
        "fromscratch",
        "tools",
        "benchmarks",
        "notebooks",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_course_calls_what_is_there(path):
    assert not (found := api_drift.Reader(path).problems), "\n".join(found)


@pytest.mark.parametrize(("wrong", "code", "right"), MISTAKES)
def test_mistakes_are_found_and_nothing_else(tmp_path, wrong, code, right):
    (problem,) = problems_in(tmp_path, code)
    line = code[: code.index(wrong)].count("\n") + 1
    assert wrong in problem and "instead: " in problem
    assert f"code.py line {line}" in problem or "**" in code
    assert problems_in(tmp_path, code.replace(wrong, right)) == []


def test_cells_that_are_never_run_are_read(tmp_path):
    cells = [
        "import torch\n!nvidia-smi\nfrom trl import SFTConfig\ntorch?",
        "if False:\n    %pip install trl\n    SFTConfig(max_seq_length=1)",
        "%%time\nSFTConfig(warmup_ratio=1)",
        "%time config = SFTConfig(no_cuda=True)",
        "gpus = !nvidia-smi\nif torch.cuda.is_available():\n    SFTConfig(group_by_length=True)",
        "%%bash\nSFTConfig(ignored=",
    ]
    saved = [{"cell_type": "code", "source": cell.splitlines(keepends=True), "outputs": []} for cell in cells]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "%"}, *saved]}))
    found = api_drift.Reader(tmp_path / "a.ipynb").problems
    places = ["cell 2 line 3", "cell 3 line 2", "cell 4 line 1", "cell 5 line 3"]
    keywords = ["max_seq_length", "warmup_ratio", "no_cuda", "group_by_length"]
    for problem, place, keyword in zip(found, places, keywords, strict=True):
        assert f"a.ipynb {place}: SFTConfig({keyword}=) is not taken; instead: " in problem


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    from trl import gone\nexcept ImportError:\n    gone = None",
        "from elsewhere import SFTTrainer\nSFTTrainer(tokenizer=t)",
        "from trl import SFTConfig\ndef f(SFTConfig):\n    SFTConfig(max_seq_length=1)",
        "class Study:\n    def train(self): ...\n    def go(self):\n        self.train(name='x')",
        "import peft\ndef f(mine: peft.LoraConfig):\n    mine.save_pretrained('folder', auto_mapping_dict={})",
        "from dataclasses import dataclass\nimport trl\n@dataclass\nclass Mine(trl.SFTTrainer):\n    x: int\nMine(x=1)",
        "from trl import SFTTrainer\nclass Mine(SFTTrainer):\n    def __init__(self, x): ...\nMine(x=1)",
        "from peft import PeftModel\nPeftModel(m, c).__class__.forward",
        "import torch\ntorch.zeros(2, dtype=torch.float64, device='cpu').sum(dim=0)\ntorch.sum(x, axis=0)",
    ],
)
def test_no_false_alarm(tmp_path, code):
    assert problems_in(tmp_path, code) == []


def test_the_calls_that_matter_are_understood():
    """A name that is not followed is not checked, and nothing would tell."""
    checked = set().union(*(api_drift.Reader(path).checked for path in FILES))
    matter = "SFTConfig LoraConfig LabelTrainer AutoModelForCausalLM.from_pretrained loaded.model.generate trainer.train model"
    assert set(matter.split()) <= checked


HOMES = ("transformers", "transformers.models.auto.auto_factory", "peft", "peft.config", "datasets", "accelerate")


@pytest.mark.parametrize("name", sorted(api_drift.FORWARDS))
def test_forwards_is_still_needed_and_true(name):
    """Each function of the table is there and still ends in **kwargs, and what those go to is there as well."""
    (home, *_) = [home for home in HOMES if hasattr(api_drift.find(home), name.split(".")[0])]
    function = api_drift.find(f"{home}.{name}")
    if name != "PreTrainedConfig":  # whose signature hides that it takes more
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
        assert inspect.Parameter.VAR_KEYWORD in kinds
    for place in api_drift.FORWARDS[name].split():
        assert api_drift.find(place)


def test_methods_are_there():
    for places in api_drift.METHODS.values():
        for place in places.split():
            names, whole = api_drift.accepted(api_drift.find(place))
            assert names and whole


def test_what_from_pretrained_takes_is_read_from_its_source():
    from transformers import AutoModelForCausalLM

    names, whole = api_drift.accepted(AutoModelForCausalLM.from_pretrained)
    assert whole
    assert names >= {"dtype", "device_map", "quantization_config", "attn_implementation", "revision", "token"}
    assert names >= {"local_files_only", "use_safetensors", "max_memory", "trust_remote_code", "use_cache", "gguf_file"}
    assert not names & {"torch_dtype", "load_in_4bit", "low_cpu_mem_usage", "use_auth_token"}


def test_unknown_keywords_are_refused_or_lost_at_run_time(tiny):
    """What the table calls closed is: the mistakes that it finds would fail, or silently do nothing."""
    import torch
    from transformers import BitsAndBytesConfig

    with pytest.raises(ValueError, match="max_new_token"):
        tiny.model.generate(torch.ones(1, 2, dtype=torch.long), max_new_token=1)
    lost = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_qant=True)
    assert not lost.bnb_4bit_use_double_quant and "bnb_4bit_use_double_qant" not in lost.to_dict()
    with pytest.raises(TypeError, match="load_in_4bit"):
        type(tiny.model).from_pretrained(None, config=tiny.model.config, state_dict={}, load_in_4bit=True)
