"""What is known to fail on a Colab T4, handled one by one.

Nobody here has a T4: the machine is faked (compute capability 7.5, on the CPU), the models are tiny and random, NF4 is
real. Each finding has a check and the one place that handles it. Every check is run twice: as things are it must pass,
and with its handling switched off it must fail, so that no check can pass for another reason. Canaries tell when a
library has mended its side: then the handling may go.
"""

import pytest
import torch

from llmcourse import CourseError, models, predict
from llmcourse._base import hardware
from llmcourse.data.tasks import SARCASM
from llmcourse.models import attention, catalogue
from llmcourse.training import configs, finetuning, planner, recipes
from llmcourse.training.batches import MOST_TOKENS
from llmcourse.training.recipes import QUICK, TALK, THOROUGH, Recipe
from llmcourse.training.trainer import LabelTrainer

RECIPE = Recipe("t4-test", r=4, alpha=8, epochs=1, batch_rows=4, learning_rate=1e-2, optimizer="paged_adamw_8bit")
ROWS = [{"parent_comment": f"Bus {i} is late", "comment": "Great! " * (1 + i % 3), "label": i % 2} for i in range(8)]


# -- the checks: each takes a loader of a tiny Mistral and a folder, and fails if the T4 would
# --------------------------


def lm_head_is_refused(load, folder):
    """TRL computes the loss from lm_head.weight: an adapter there would not be trained (and since 1.16 it raises)."""
    with pytest.raises(CourseError, match="Leave it out of target_modules"):
        finetuning.finetune(load(), SARCASM, ROWS, RECIPE.changed(target_modules=("q_proj", "lm_head")), folder)


def training_is_in_float16(load, folder):
    """SFTConfig left alone takes bfloat16, because torch calls it supported where it is emulated."""
    config = configs.sft_config(RECIPE, folder)
    assert (config.fp16, config.bf16) == (True, False)


def adapters_are_trained_in_float32(load, folder):
    """TRL casts them to bfloat16 when it is built, and float16's gradient scaler cannot unscale those."""
    kinds = set()

    def look(step, steps, loss):
        kinds.update(p.dtype for p in loaded.model.parameters() if p.requires_grad)

    loaded = load()
    model = loaded.model
    finetuning.finetune(loaded, SARCASM, ROWS, RECIPE, folder, progress=look)
    assert {p.dtype for n, p in model.named_parameters() if "lora_" in n} | kinds == {torch.float32}


def loss_needs_no_triton(load, folder):
    """TRL's fused loss runs Triton kernels on a GPU, which have failed to compile for sm_75."""
    import trl.trainer.sft_trainer as trl_trainer

    def fused(self, *args, **kwargs):
        raise AssertionError("TRL's fused loss was called")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trl_trainer.SFTTrainer, "compute_loss", fused)
        finetuning.finetune(load(), SARCASM, ROWS, RECIPE, folder)


def attention_takes_no_grouped_queries(load, folder):
    """enable_gqa leaves a T4 with the kernel that keeps all scores in float32."""
    asked = []
    real = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        asked.append(kwargs.get("enable_gqa", False))
        return real(*args, **kwargs)

    loaded = load()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
        loaded.model(torch.arange(20)[None] + 5)  # one row, no padding: no mask
    assert asked and not any(asked)


def everything_computes_in_float16(load, folder):
    """bitsandbytes' fused NF4 product is tuned for float16 on a T4; its default is float32, a stranger's checkpoint
    says bfloat16."""
    model = load().model
    four_bits = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    assert len(four_bits) == 14
    for module in four_bits:
        state = module.weight.quant_state
        assert (module.compute_dtype, state.dtype, state.quant_type, state.nested) == (
            torch.float16,
            torch.float16,
            "nf4",
            True,
        )
    others = {p.dtype for p in model.parameters() if type(p).__name__ != "Params4bit"}
    assert others == {torch.float16} and model(torch.arange(9)[None]).logits.dtype == torch.float16


# -- how each handling is switched off ---------------------------------------------------------------------------------


def without_refusal(patch):
    patch.setattr(recipes, "ALL_LINEAR", (*recipes.ALL_LINEAR, "lm_head"))


def dtype_as_torch_answers_on_a_t4(patch):
    patch.setattr(hardware.Hardware, "dtype", property(lambda self: "bfloat16"))


def without_recast(patch):
    patch.setattr(finetuning, "full_precision_adapter", lambda model: None)


def with_trls_loss(patch):
    patch.delattr(LabelTrainer, "compute_loss")


def with_transformers_attention(patch):
    patch.setattr(attention, "choose", lambda machine: "sdpa")


def with_default_quantisation(patch):
    from transformers import BitsAndBytesConfig

    patch.setattr(models.loading, "quantization_config", lambda config, dtype: BitsAndBytesConfig(load_in_4bit=True))


def without_settling(patch):
    patch.setattr(models.loading, "settle_dtype", lambda model, dtype: model)


FINDINGS = [
    # finding of the notes, check, handling switched off, whether the checkpoint is already quantised
    ("0.1 lm_head", lm_head_is_refused, without_refusal, False),
    ("0.2 bf16 picked", training_is_in_float16, dtype_as_torch_answers_on_a_t4, False),
    ("0.3 adapters in bf16", adapters_are_trained_in_float32, without_recast, False),
    ("0.4 Triton", loss_needs_no_triton, with_trls_loss, False),
    ("0.5 grouped queries", attention_takes_no_grouped_queries, with_transformers_attention, False),
    ("0.7 fp16 compute", everything_computes_in_float16, with_default_quantisation, False),
    ("0.7 fp16, quantised by others", everything_computes_in_float16, without_settling, True),
]
"""Finding 0.6, Colab's torchao, is handled before anything is imported: tests/unit/setup/test_firstcell.py and
tests/unit/setup/test_preflight.py."""


@pytest.mark.parametrize("switched_off", [False, True], ids=["handled", "switched off"])
@pytest.mark.parametrize(("check", "off", "prequantised"), [f[1:] for f in FINDINGS], ids=[f[0] for f in FINDINGS])
def test_finding(check, off, prequantised, switched_off, hub, t4, tmp_path, monkeypatch):
    hub("mistral-7b", prequantised)
    if switched_off:
        off(monkeypatch)
        with pytest.raises((AssertionError, pytest.fail.Exception, CourseError)):
            check(lambda: models.load("mistral-7b"), tmp_path)
    else:
        check(lambda: models.load("mistral-7b"), tmp_path)


# -- canaries: each shows that the library still does it
# ----------------------------------------------------------------


def test_canary_trl_refuses_lm_head(tiny, tmp_path):
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTTrainer

    with pytest.raises(ValueError, match="lm_head"):
        SFTTrainer(
            model=tiny.model,
            args=configs.sft_config(QUICK, tmp_path),
            train_dataset=Dataset.from_list([{"prompt": "a", "completion": " b"}]),
            processing_class=tiny.tokenizer,
            peft_config=LoraConfig(target_modules=["lm_head"]),
        )


def test_canary_sftconfig_takes_bf16_unasked(tmp_path):
    from trl import SFTConfig

    assert SFTConfig(output_dir=str(tmp_path), use_cpu=True).bf16 is True, (
        "TRL no longer takes bf16: sft_config may say less"
    )


def test_canary_trl_casts_adapters_to_bf16(hub, t4, tmp_path, monkeypatch):
    hub("mistral-7b")
    seen = []
    monkeypatch.setattr(
        finetuning,
        "full_precision_adapter",
        lambda model: seen.extend(p.dtype for n, p in model.named_parameters() if "lora_" in n),
    )
    finetuning.finetune(models.load("mistral-7b"), SARCASM, ROWS, RECIPE, tmp_path)
    assert set(seen) == {torch.bfloat16}, "TRL leaves the adapters alone now: full_precision_adapter may go"


def test_canary_transformers_groups_queries_without_looking_at_the_gpu():
    from transformers.integrations.sdpa_attention import use_gqa_in_sdpa

    key = torch.zeros(1, 2, 4, 8)
    assert use_gqa_in_sdpa(None, key, key), "transformers looks at the GPU now: attention.without_gqa may go"


def test_canary_a_checkpoints_own_quantisation_wins(hub, t4):
    folder = hub("mistral-7b", prequantised=True)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float16, quantization_config=models.quantization_config()
    )
    kinds = {m.compute_dtype for m in model.modules() if type(m).__name__ == "Linear4bit"}
    assert kinds == {torch.bfloat16}, "the caller's settings win now: settle_dtype may go"


# -- models
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mistral-7b", "llama-3-8b", "phi-3-mini", "qwen3-4b"])
def test_each_architecture_learns_in_nf4(name, hub, t4, tmp_path):
    """A training run in 4 bits touches every matrix that the talk adapted, and lowers the loss; the base stays as it
    was."""
    hub(name)
    loaded = models.load(name)
    four_bits = {n: m.weight.data.clone() for n, m in loaded.model.named_modules() if type(m).__name__ == "Linear4bit"}
    run = finetuning.finetune(
        loaded, SARCASM, ROWS, TALK.changed(epochs=6, learning_rate=2e-2, batch_rows=4, dropout=0.0), tmp_path
    )
    adapted = {n.split(".")[-4] for n, p in loaded.model.named_parameters() if "lora_B" in n and p.abs().max() > 0}
    assert adapted == set(catalogue.base(name).shape.matrices) and run.losses[-1] < run.losses[0]
    prompt = configs.training_prompt(SARCASM, TALK)
    tuned = predict.score(loaded, prompt, ROWS).logprobs
    with loaded.without_adapter():
        switched_off = predict.score(loaded, prompt, ROWS).logprobs
    loaded.drop_adapter()
    assert predict.score(loaded, prompt, ROWS).logprobs == switched_off != tuned
    after = {n: m.weight.data for n, m in loaded.model.named_modules() if type(m).__name__ == "Linear4bit"}
    assert all(torch.equal(four_bits[n], after[n]) for n in four_bits)


@pytest.mark.parametrize("name", ["mistral-7b", "phi-3-mini", "qwen3-4b"])
def test_attention_without_gqa_is_the_same_attention(name, hub, t4):
    hub(name)
    loaded = models.load(name)
    assert loaded.model.config._attn_implementation == attention.NO_GQA
    ids = torch.arange(24).view(2, 12) + 7
    mask = torch.ones_like(ids)
    padded = mask.clone()
    padded[0, :5] = 0
    with torch.inference_mode():
        ours = [loaded.model(ids[:1]).logits, loaded.model(ids, attention_mask=padded).logits]
        loaded.model.set_attn_implementation("sdpa")
        theirs = [loaded.model(ids[:1]).logits, loaded.model(ids, attention_mask=padded).logits]
    assert torch.allclose(ours[0], theirs[0], atol=2e-3) and torch.allclose(ours[1][1], theirs[1][1], atol=2e-3)


# -- when memory does not suffice
# ----------------------------------------------------------------------------------------


def out_of_memory_above(rows: int, patch, checkpointing_helps: bool = False, after: int = 0):
    """Training steps with more than `rows` rows at once fail as a GPU does, from the step `after` on."""
    real = LabelTrainer.compute_loss

    def compute(self, model, inputs, *args, **kwargs):
        too_many = len(inputs["labels"]) > rows and not (checkpointing_helps and self.args.gradient_checkpointing)
        if self.model.training and too_many and self.state.global_step >= after:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, model, inputs, *args, **kwargs)

    patch.setattr(LabelTrainer, "compute_loss", compute)


@pytest.mark.parametrize("after", [0, 3])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(make_tiny, tmp_path, monkeypatch, after):
    """The adapter is the one that a larger GPU would have trained; what was done is said."""
    recipe = RECIPE.changed(epochs=3, optimizer="sgd", learning_rate=1.0, save_steps=2)
    adapters, notes = [], []
    for rows in (100, 1):
        with monkeypatch.context() as patch:
            out_of_memory_above(rows, patch, after=after)
            loaded = make_tiny(3)
            run = finetuning.finetune(loaded, SARCASM, ROWS, recipe, tmp_path / str(rows))
        assert (run.micro_rows, run.checkpointing, run.steps, len(run.losses)) == (min(rows, 4), False, 6, 6)
        notes.append(run.notes)
        adapters.append({n: p.detach().clone() for n, p in loaded.model.named_parameters() if "lora_" in n})
    assert not notes[0] and all(note.startswith("Out of GPU memory: at most ") for note in notes[1])
    assert run.resumed_from == (2 if after else 0)
    assert all(torch.allclose(adapters[0][n], adapters[1][n], atol=1e-4) for n in adapters[0])


def test_then_activations_are_recomputed(make_tiny, tmp_path, monkeypatch):
    out_of_memory_above(0, monkeypatch, checkpointing_helps=True)
    loaded = make_tiny(3)
    run = finetuning.finetune(loaded, SARCASM, ROWS, RECIPE, tmp_path)
    assert (run.micro_rows, run.checkpointing) == (4, True)
    assert run.notes[-1] == "Out of GPU memory with one row at once: activations are recomputed (checkpointing)."
    recomputing = [module for module in loaded.model.modules() if getattr(module, "gradient_checkpointing", False)]
    assert not recomputing  # another run on the same model starts without it


def test_then_the_planner_is_asked(make_tiny, tmp_path, monkeypatch):
    out_of_memory_above(0, monkeypatch)
    loaded = make_tiny(3)
    loaded.name = "mistral-7b"
    with pytest.raises(CourseError, match=r"(?s)Not even one row .* By the planner .* GiB  in all"):
        finetuning.finetune(loaded, SARCASM, ROWS, RECIPE, tmp_path)
    assert not loaded.has_adapter


@pytest.mark.parametrize("gpu_gib", [4.0, 14.74, 79.0])
def test_the_gpus_memory_decides_how_much_goes_through_at_once(gpu_gib, make_tiny, monkeypatch):
    """Unless the recipe does. A GPU that is too small by the planner is tried all the same, one row at once."""
    machine = hardware.Hardware("cpu", "a GPU", (8, 0), cores=2, ram_gib=12, gpu_gib=gpu_gib)
    monkeypatch.setattr(hardware, "detect", lambda: machine)
    loaded = make_tiny()
    loaded.name, loaded.model.is_loaded_in_4bit = "mistral-7b", True
    planned = planner.micro_batch_tokens(catalogue.base("mistral-7b"), THOROUGH, gpu_gib, dtype="bfloat16")
    assert finetuning._most_tokens(loaded, THOROUGH, 512) == {4.0: 512, 14.74: planned, 79.0: 8 * 512}[gpu_gib]
    assert finetuning._most_tokens(loaded, THOROUGH.changed(micro_batch_tokens=600), 512) == 600
    loaded.name = "a model of one's own"
    assert finetuning._most_tokens(loaded, THOROUGH, 512) == MOST_TOKENS
    with pytest.raises(CourseError, match=r"row of 512 tokens does not fit.*--set micro_batch_tokens=512"):
        finetuning._most_tokens(loaded, THOROUGH.changed(micro_batch_tokens=500), 512)


def test_other_errors_are_not_taken_for_it(make_tiny, tmp_path, monkeypatch):
    def broken(self, *args, **kwargs):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(LabelTrainer, "compute_loss", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        finetuning.finetune(make_tiny(3), SARCASM, ROWS, RECIPE, tmp_path)


# -- the whole demo
# -------------------------------------------------------------------------------------------------------


def test_the_demo_in_the_t4_gear_is_the_demo_of_the_cpu(hub, t4, tmp_path, monkeypatch, capsys):
    """Same command, same arms, same report: only what `hardware` says of the machine is another."""
    import json

    from llmcourse import cli

    hub("mistral-7b-4bit", prequantised=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(hardware.GEAR_VARIABLE, "cpu")  # --gear goes before it
    lines = [
        "comment,parent_comment,label",
        *(f"Reply {i} is {'so ' * (i % 4)}nice,Parent {i},{i % 2}" for i in range(80)),
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    short = ["--data", "rows.csv", "--n-train", "16", "--n-test", "20"]
    assert cli.main(["demo", "--gear", "t4", *short, "--record"]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "demo-t4.json").read_text())
    assert "gear t4, nf4" in printed and "Recorded: demo-t4.json" in printed
    assert (
        results["gear"] == "t4"
        and results["machine"]["capability"] == [7, 5]
        and results["recipe"]["name"] == "workshop"
    )
    kinds = [arm["kind"] for arm in results["arms"]]
    assert kinds == ["baseline"] * 3 + ["prompted"] * 6 + ["baseline", "finetuned"]
    assert {arm["n"] for arm in results["arms"]} == {20}
    assert results["model"]["weights"] == "nf4" and results["arms"][-1]["trained_parameters"] > 0
