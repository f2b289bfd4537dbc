"""Every architecture of tests/helpers/architectures.py, prompted as one row at a time, trained, saved and merged."""

import copy
from dataclasses import replace

import alone
import architectures
import pytest
import torch

from llmcourse import CourseError, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.models import put_adapter, save_adapter, shapes
from llmcourse.predict import engine
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.training import configs, finetuning
from llmcourse.training.recipes import ALL_LINEAR, Recipe
from llmcourse.training.trainer import LabelTrainer

NAMES = list(architectures.CONFIGS)
ROWS = [
    {
        "row": number + 1,
        "label": number % 2,
        "parent_comment": f"Parent {number // 2} " + "has something to say " * (number // 2),
        "comment": ("how kind of you", "oh great, another delay")[number % 2] + " again" * (number % 5),
    }
    for number in range(16)
]
RECIPE = Recipe(
    "tiny", r=4, alpha=8, epochs=2, learning_rate=1e-2, batch_rows=8, upper_layers=2, target_modules=ALL_LINEAR
)


@pytest.fixture
def make(tokenizer):
    return lambda name, **changes: architectures.make(name, tokenizer, **changes)


@pytest.mark.parametrize("name", [*NAMES, *architectures.ALONE])
def test_prompts_are_scored_and_continued_as_one_row_at_a_time(name, make):
    loaded, rows = make(name), ROWS if name in NAMES else ROWS[:6]
    prompt = Prompt(SARCASM, few_shots(SARCASM, ROWS, 4))
    prompts = predict.encoding.encode(loaded, prompt, rows)
    assert max(map(len, prompts)) > architectures.WINDOW + 20
    texts = [alone.first_line(loaded, tokens, 8) for tokens in prompts]
    with torch.inference_mode():
        for batch in engine.batches(loaded, prompts, range(len(prompts)), 0):
            for row, logits in zip(batch.rows, engine.next_logits(loaded, batch), strict=True):
                assert torch.allclose(logits, alone.next_logits(loaded, prompts[row]), atol=1e-4), row
    generated = predict.generate(loaded, prompt, rows)
    assert [engine.first_line(text) for text in generated.texts] == texts
    labels = [tokens[0] for tokens in predict.encoding.label_tokens(loaded, prompt)]
    logprobs = [alone.next_logits(loaded, tokens).log_softmax(-1)[labels].log_softmax(-1) for tokens in prompts]
    assert predict.score(loaded, prompt, rows).labels == [int(row.argmax()) for row in logprobs]


@pytest.mark.parametrize("name", architectures.mostly_slow(NAMES))
def test_an_adapter_is_trained_saved_loaded_and_merged(name, make, tmp_path):
    loaded = make(name)
    run = finetuning.finetune(loaded, SARCASM, ROWS, RECIPE, tmp_path / "work")
    assert run.losses[-1] < run.losses[0] and run.micro_rows > 1
    check_saved_loaded_and_merged(loaded, run, tmp_path)


@pytest.mark.parametrize("name", architectures.mostly_slow(architectures.ALONE))
def test_rows_alone_are_trained_as_by_one_plain_pass_each(name, make, tmp_path):
    loaded = make(name)
    prompt = configs.training_prompt(SARCASM, RECIPE)
    labels = predict.encoding.label_tokens(loaded, prompt)
    losses = []
    for row, start in zip(ROWS, predict.encoding.encode(loaded, prompt, ROWS), strict=True):
        taught = [*labels[row["label"]], loaded.tokenizer.eos_token_id]
        at = alone.logprobs(loaded, start + taught)[len(start) - 1 : -1]
        losses.append(-float(at[range(len(taught)), taught].mean()))
    recipe = RECIPE.changed(target_modules=architectures.ALONE[name][1], batch_rows=len(ROWS), epochs=3)
    run = finetuning.finetune(loaded, SARCASM, ROWS, recipe, tmp_path / "work")
    assert run.losses[0] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert run.losses[-1] < run.losses[0] and run.micro_rows == 1
    check_saved_loaded_and_merged(loaded, run, tmp_path)


def check_saved_loaded_and_merged(loaded, run, folder):
    """The trained adapter changes the model, and gives the same when it is saved and loaded, or merged."""
    prompt = configs.training_prompt(SARCASM, RECIPE)
    prompts = predict.encoding.encode(loaded, prompt, ROWS[:3])
    trained = torch.stack([alone.next_logits(loaded, tokens) for tokens in prompts])
    card = {"task": SARCASM.as_dict(), "prompt": {"instruction": False, "fallback": True, "chat": False}}
    card |= {"training": run.as_dict(), "groups": [], "spec": {}}
    save_adapter(loaded, folder / "adapter", card, "read me")
    loaded.drop_adapter()
    untrained = torch.stack([alone.next_logits(loaded, tokens) for tokens in prompts])
    assert (untrained - trained).abs().max() > 0.01
    put_adapter(loaded, folder / "adapter")
    assert torch.equal(torch.stack([alone.next_logits(loaded, tokens) for tokens in prompts]), trained)
    loaded.model = loaded.model.merge_and_unload()
    assert torch.allclose(torch.stack([alone.next_logits(loaded, tokens) for tokens in prompts]), trained, atol=1e-4)


@pytest.mark.parametrize("name", architectures.mostly_slow(NAMES))
def test_frozen_layers_change_nothing(name, make, tmp_path, monkeypatch):
    adapters = []
    for freeze in (True, False):
        loaded = make(
            name, **(dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0) if name == "gpt2" else {})
        )
        if not freeze:
            monkeypatch.setattr(LabelTrainer, "freeze_below", lambda self, layers: None)
        finetuning.finetune(loaded, SARCASM, ROWS, RECIPE.changed(optimizer="sgd"), tmp_path / str(freeze))
        adapters.append({name: p.detach() for name, p in loaded.model.named_parameters() if "lora_" in name})
    assert adapters[0] and adapters[0].keys() == adapters[1].keys()
    for key, value in adapters[0].items():
        assert torch.allclose(value, adapters[1][key], atol=1e-5), key


@pytest.mark.parametrize("name", NAMES)
def test_the_shape_is_that_of_the_real_modules(name, make):
    from peft import get_peft_model

    loaded = make(name)
    shape = shapes.shape_of(loaded.model.config)
    assert shape.parameters == sum(p.numel() for p in loaded.model.parameters())
    assert shape.layers == 3 and shape.hidden == 64 and shape.vocabulary == len(loaded.tokenizer)
    with torch.inference_mode():
        cache = loaded.model(torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values
    assert {layer.keys.shape[1] for layer in cache.layers} == {shape.kv_heads}
    kept = [states.nbytes for layer in cache.layers for states in (layer.keys, layer.values)]
    assert sum(kept) == 3 * shape.kv_bytes("float32") == 6 * shape.kv_bytes("float16")
    assert shape.attention_width == 64 and shape.gated == (
        shape.intermediate == 96 and "gpt_neox" not in name and "starcoder2" not in name
    )
    model = get_peft_model(loaded.model, configs.lora_config(RECIPE.changed(upper_layers=None), loaded.model.config))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == RECIPE.r * shape.layers * sum(map(sum, shape.matrices.values()))
    assert set(shape.targets(ALL_LINEAR)) == set(shape.matrices)


def test_a_padding_token_without_an_embedding_is_not_used(make, tokenizer, tmp_path):
    padded = copy.deepcopy(tokenizer)
    padded.add_special_tokens({"pad_token": "<padding>"})
    assert padded.pad_token_id == len(tokenizer)
    losses, texts = [], []
    for other in (tokenizer, padded):
        loaded = architectures.make("llama", other, vocab_size=len(tokenizer))
        texts.append(predict.generate(loaded, Prompt(SARCASM), ROWS).texts)
        losses.append(finetuning.finetune(loaded, SARCASM, ROWS, RECIPE, tmp_path / str(len(other))).losses)
    assert texts[0] == texts[1] and losses[0] == losses[1]


def test_a_matrix_that_the_model_does_not_have_is_named(make):
    shape = replace(shapes.shape_of(make("gpt2").model.config), matrices={"in_proj": (8, 8)})
    with pytest.raises(CourseError, match=r"no matrix that the course knows as o_proj. It has in_proj. Leave it out"):
        shape.targets(ALL_LINEAR)
    with pytest.raises(CourseError, match=r'--set "target_modules=\(\'k_proj\', \'up_proj\'\)"'):
        shape.targets(["k_proj", "down_proj", "up_proj"])
    with pytest.raises(CourseError, match=r"A layer of gpt2 has no matrix .* as o_proj. It has in_proj. Take another"):
        shape.targets(["o_proj"])


@pytest.mark.parametrize("name", architectures.ALONE)
def test_the_shape_of_a_model_whose_layers_differ(name, make):
    loaded = make(name)
    shape = shapes.shape_of(loaded.model.config)
    assert shape.parameters == sum(p.numel() for p in loaded.model.parameters()) and shape.layers == 3
    with torch.inference_mode():
        out = loaded.model(torch.tensor([[5, 6, 7]]), use_cache=True)
    layers = getattr(out, "past_key_values", None) or out.cache_params
    states = [getattr(layer, name, None) for layer in layers.layers for name in ("keys", "values")]
    assert sum(part.nbytes for part in states if part is not None) == 3 * shape.kv_bytes("float32")
    assert set(shape.targets(architectures.ALONE[name][1])) <= set(shape.matrices)


def test_an_adapter_on_experts_is_refused_before_training(make, tmp_path):
    loaded = make("qwen3_next")
    with pytest.raises(CourseError, match=r"experts \(down_proj, gate_up_proj\).*--set \"target_modules=\('q_proj'"):
        finetuning.finetune(loaded, SARCASM, ROWS, RECIPE, tmp_path)
    assert not loaded.has_adapter
