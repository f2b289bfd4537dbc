"""The planner's arithmetic against bytes that were really allocated, and against torch's own count of activations."""

import contextlib

import pytest
import torch
from small import on_meta, shrunk
from transformers import AutoConfig

from llmcourse import CourseError, models
from llmcourse.models import catalogue
from llmcourse.training import configs, planner
from llmcourse.training.recipes import ALL_LINEAR, TALK, THOROUGH, WORKSHOP, Recipe

RECIPE = Recipe("plan", r=8, alpha=16)
NAMES = ("smollm2-135m", "mistral-7b", "llama-3-8b", "phi-3-mini", "qwen3-4b")


def test_the_published_counts():
    """Mistral-7B at r=8 over seven matrices: 20,971,520; the models' sizes as their cards give them."""
    assert planner.adapter_parameters(catalogue.base("mistral-7b"), TALK) == 20_971_520
    billions = {name: round(catalogue.base(name).shape.parameters / 1e9, 2) for name in NAMES}
    assert billions == {
        "smollm2-135m": 0.13,
        "mistral-7b": 7.24,
        "llama-3-8b": 8.03,
        "phi-3-mini": 3.82,
        "qwen3-4b": 4.02,
    }


@pytest.mark.parametrize("name", ["mistral-7b", "phi-3-mini"])
def test_nf4_weights_within_5_percent_of_what_is_allocated(name, tmp_path):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    small = shrunk(name, hidden_size=256, intermediate_size=640, head_dim=64, vocab_size=2000)
    AutoModelForCausalLM.from_config(models.config_of(small)).save_pretrained(tmp_path)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    made = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float16, quantization_config=nf4)
    allocated = 0
    for parameter in made.parameters():
        allocated += parameter.untyped_storage().nbytes()
        state = getattr(parameter, "quant_state", None)
        if state:
            kept = (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
            allocated += sum(tensor.untyped_storage().nbytes() for tensor in kept)
    assert planner.weights(small, "float16") == pytest.approx(allocated, rel=0.05)


@pytest.mark.parametrize("optimizer", ["adamw_torch", "paged_adamw_8bit"])
def test_adapter_and_optimiser_within_5_percent_of_what_is_allocated(optimizer):
    import bitsandbytes
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    small = shrunk("mistral-7b", hidden_size=256, intermediate_size=640, head_dim=64, vocab_size=100)
    recipe = RECIPE.changed(r=16, optimizer=optimizer)
    made = AutoModelForCausalLM.from_config(models.config_of(small))
    made = get_peft_model(made, configs.lora_config(recipe, made.config))
    trained = [p for p in made.parameters() if p.requires_grad]
    assert 4 * planner.adapter_parameters(small, recipe) == sum(p.untyped_storage().nbytes() for p in trained)
    adam = {"adamw_torch": torch.optim.AdamW, "paged_adamw_8bit": bitsandbytes.optim.PagedAdamW8bit}[optimizer](trained)
    for p in trained:
        p.grad = torch.ones_like(p)
    adam.step()
    seen, allocated = set(), 0
    for state in adam.state.values():
        for name, value in state.items():
            # the tables of 256 levels are shared by all tensors
            if torch.is_tensor(value) and not name.startswith("qmap") and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                allocated += value.untyped_storage().nbytes()
    assert planner.optimiser(small, recipe) == pytest.approx(allocated, rel=0.05)


def test_full_finetuning_is_sixteen_bytes_a_parameter():
    """Weights, gradients and Adam's moments as torch allocates them in float32; by arithmetic in 16 bits."""
    from transformers import AutoModelForCausalLM

    small = shrunk("mistral-7b", intermediate_size=160)
    made = AutoModelForCausalLM.from_config(models.config_of(small))
    adam = torch.optim.AdamW(made.parameters())
    made(torch.ones(1, 4, dtype=torch.long), labels=torch.ones(1, 4, dtype=torch.long)).loss.backward()
    adam.step()
    lasting = [t for p in made.parameters() for t in (p, p.grad, *adam.state[p].values())]
    allocated = sum(tensor.untyped_storage().nbytes() for tensor in lasting)
    for dtype in ("float32", "float16"):
        parts = planner.plan_full(small, 1, 16, dtype).parts
        assert sum(parts[n] for n in ("weights", "gradients", "optimiser")) == pytest.approx(allocated, rel=0.001)
    mistral = planner.plan_full(catalogue.base("mistral-7b"), 1, 256)
    assert mistral.gib > 16 * 7.24e9 / planner.GIB and not mistral.fits(80)
    assert (
        planner.plan_full(catalogue.base("mistral-7b"), 4, 256, checkpointing=True).gib
        < planner.plan_full(catalogue.base("mistral-7b"), 4, 256).gib
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"checkpointing": True}, {"target_modules": ("q_proj", "v_proj")}, {"upper_layers": 2}, {"dropout": 0.05}],
    ids=str,
)
@pytest.mark.parametrize("name", ["mistral-7b", "phi-3-mini", "qwen3-4b"])
def test_activations_within_25_percent_of_torchs_count(name, changes, dtype):
    """Real widths, three layers, tensors without numbers. With dropout in float32 only: on a CPU its mask has the size
    of a number."""
    if changes.get("dropout") and dtype != "float32":
        pytest.skip("a CPU keeps dropout's mask in full precision, a GPU in a byte")
    model, recipe = catalogue.base(name).resized(num_hidden_layers=3), RECIPE.changed(**changes)
    counted = activations_by_torch(model, recipe, rows=4, length=256, dtype=dtype)
    how = {"rows": 4, "length": 256, "dtype": dtype, "nf4": False}
    planned = planner.activations(model, recipe, **how) + planner.passing(model, recipe, **how)
    assert planned == pytest.approx(counted, rel=0.25)


def activations_by_torch(model, recipe, rows, length, dtype) -> int:
    """Peak bytes of activations and temporaries in one step, by torch's MemTracker under FakeTensorMode."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType
    from torch.nn.attention import SDPBackend, sdpa_kernel

    class Tracker(MemTracker):
        """MemTracker hooks every parameter's gradient; a frozen one has none."""

        def _track_module_params_and_buffers(self, module, install_grad_hooks=True):
            class Trained:
                def parameters(self):
                    return (p for p in module.parameters() if p.requires_grad)

                def buffers(self):
                    return module.buffers()

            return super()._track_module_params_and_buffers(Trained(), install_grad_hooks)

    made = on_meta(model, recipe)
    if recipe.checkpointing:
        made.gradient_checkpointing_enable()
        made.enable_input_require_grads()
    made.train()
    mixed = torch.autocast("cpu", dtype=torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()
    with FakeTensorMode():
        for module in made.modules():
            for name, p in list(module._parameters.items()):
                if p is not None:
                    kind = torch.float32 if p.requires_grad else getattr(torch, dtype)
                    module._parameters[name] = torch.nn.Parameter(torch.empty(p.shape, dtype=kind), p.requires_grad)
            for name, b in list(module._buffers.items()):
                module._buffers[name] = torch.empty(b.shape, dtype=b.dtype)
        ids = torch.zeros(rows, length, dtype=torch.long)
        tracker = Tracker()
        tracker.track_external(*[p for p in made.parameters() if not p.requires_grad])
        # a kernel that keeps no scores, as a GPU's; mixed precision as the trainer's
        with tracker, sdpa_kernel(SDPBackend.FLASH_ATTENTION), mixed:
            logits = made(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=5).logits
            targets = torch.zeros(rows * 5, dtype=torch.long)
            torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets).backward()
        (peak,) = tracker.get_tracker_snapshot("peak").values()
    return peak[_MemRefType.ACT] + peak[_MemRefType.TEMP]


def test_a_plan_adds_up_and_says_what_fits():
    model = catalogue.base("mistral-7b")
    plan = planner.plan(model, TALK.changed(checkpointing=True), rows=1, length=512)
    assert plan.total == sum(plan.parts.values()) and plan.fits(planner.T4_GIB)
    assert 4.1e9 < plan.parts["weights"] < 4.2e9  # the file of the 4-bit model has 4.13 GB
    for part, size in plan.parts.items():
        assert f"{size / 2**30:6.2f} GiB  {part}" in plan.table()
    assert not planner.plan(model, TALK, rows=8, length=512).fits(planner.T4_GIB)
    more = planner.plan(model, TALK, rows=2, length=512).parts
    less = planner.plan(model, TALK.changed(checkpointing=True), rows=2, length=512).parts
    assert less["activations"] < 0.2 * more["activations"] and less["weights"] == more["weights"]


def test_prompting_counts_the_keys_and_values_of_a_full_batch():
    """Mistral-7B keeps 128 KiB for a token in 16 bits: 32 layers, key and value, 8 heads of 128 numbers."""
    model = catalogue.base("mistral-7b")
    assert model.shape.kv_bytes("float16") == 32 * 2 * 8 * 128 * 2 == model.shape.kv_bytes("float32") // 2
    kept = planner.prompting(model) - planner.weights(model, "float16") - int(planner.CONTEXT_GIB * planner.GIB)
    assert kept == 6144 * 128 * 1024
    # gemma-3 has layers with a window, which is not counted
    assert catalogue.base("gemma-3-1b").shape.kv_bytes("float16") == 26 * 2 * 1 * 256 * 2


def test_largest_micro_batch_is_the_largest():
    model, recipe = catalogue.base("mistral-7b"), RECIPE.changed(target_modules=ALL_LINEAR)
    for length in (64, 128, 512, 2048):
        rows = planner.largest_micro_batch(model, recipe, length, planner.T4_GIB)
        assert rows == 0 or planner.plan(model, recipe, rows, length).fits(planner.T4_GIB)
        larger = [n for n in range(rows + 1, 17) if 16 % n == 0]
        assert not larger or not planner.plan(model, recipe, larger[0], length).fits(planner.T4_GIB)
    assert planner.largest_micro_batch(model, recipe, 64, planner.T4_GIB) > planner.largest_micro_batch(
        model, recipe, 512, planner.T4_GIB
    )


def test_a_larger_gpu_gets_larger_micro_batches():
    """On a T4 four or more rows of 256 tokens, on a data-centre GPU all eight of 512."""
    model = catalogue.base("mistral-7b")
    tokens = [planner.micro_batch_tokens(model, WORKSHOP, gib) for gib in (planner.T4_GIB, 22.0, 79.0)]
    assert 1000 < tokens[0] < 1300 and tokens[0] < tokens[1] < tokens[2]
    assert tokens[2] > THOROUGH.batch_rows * THOROUGH.max_length
    for most, gib in zip(tokens, (planner.T4_GIB, 22.0, 79.0), strict=True):
        assert planner.plan(model, WORKSHOP, 1, most).fits(0.8 * gib)
        assert not planner.plan(model, WORKSHOP, 1, most + 1).fits(0.8 * gib)
    assert planner.micro_batch_tokens(model, WORKSHOP, 4.0) == 0


def test_advice_is_true(tmp_path):
    model, recipe = catalogue.base("mistral-7b"), RECIPE
    assert "checkpointing=True lets it fit" in planner.advice("mistral-7b", recipe, 2048)
    assert planner.largest_micro_batch(model, recipe.changed(checkpointing=True), 2048, planner.T4_GIB) > 0
    assert "no change of the recipe fits 3.0 GiB; llama-3.2-3b would" in planner.advice(
        "mistral-7b", recipe, 512, gpu_gib=3.0
    )
    # what was tried already is no advice
    tried = recipe.changed(checkpointing=True)
    assert "max_length=1024 lets it fit 5.5 GiB" in planner.advice("mistral-7b", tried, 2048, gpu_gib=5.5)
    assert "another program may hold the GPU" in planner.advice("mistral-7b", tried, 2048)
    mamba = tmp_path / "mamba"
    AutoConfig.for_model("mamba", num_hidden_layers=2).save_pretrained(mamba)
    assert planner.advice(str(mamba), tried, 512).endswith("Try max_length=256, or a smaller r.")
    with pytest.raises(CourseError, match="no model named 'gpt-4'"):
        planner.advice("gpt-4", recipe, 512)
