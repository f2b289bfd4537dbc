"""How much memory a finetuning run needs, before anything is downloaded: weights, adapter, optimiser, activations,
logits.

Arithmetic on `models.shapes`: after Rajbhandari et al. 2020 (ZeRO, arXiv:1910.02054, section 3) for
what lasts through the run, and Korthikanti et al. 2022 (arXiv:2205.05198, section 4) for what the backward pass keeps.
tests/unit/training/test_planner.py compares the parts with bytes that were allocated and with torch's own count.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from llmcourse.models.catalogue import BASES, Base, base
from llmcourse.training.recipes import Recipe

GIB = 2**30
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}

CONTEXT_GIB = 0.45
"""What CUDA's context and cuBLAS take on the GPU before the first tensor."""

T4_GIB = 14.74
"""What torch shows of a T4's 16 GB (measured publicly, e.g. in TRL's notebooks)."""

T4_TFLOPS = 4.9
"""What a T4 makes of its 65 in QLoRA training: Mistral-7B took 1.1 s a row of about 200 tokens in Unsloth's public
notebook, and Hugging Face's own loop is 1.56 times slower (huggingface/blog, unsloth-trl.md). Not measured by us."""

SHARE = 0.8
"""How much of a GPU's memory a micro-batch may fill by the planner. The rest is for what it leaves out: gaps between
blocks of memory, other programs, and its own error of up to a quarter of the activations."""

BLOCK = 64
"""Weights that share one absmax in NF4; bitsandbytes' default."""
NESTED_BLOCK = 256
"""Absmax values that share one scale in double quantisation."""


@dataclass(frozen=True)
class Plan:
    """The memory of a run by component, in bytes."""

    base: str
    recipe: Recipe
    rows: int
    """Rows at once (the micro-batch)."""
    length: int
    """Padded tokens a row."""
    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def gib(self) -> float:
        return self.total / GIB

    def fits(self, gpu_gib: float) -> bool:
        return self.gib <= gpu_gib

    def table(self) -> str:
        """Return the components in GiB, largest first, as text."""
        lines = [f"{self.base}, recipe {self.recipe.name}: {self.rows} rows of {self.length} tokens at once"]
        for name, size in sorted(self.parts.items(), key=lambda part: -part[1]):
            lines.append(f"  {size / GIB:6.2f} GiB  {name}")
        return "\n".join([*lines, f"  {self.gib:6.2f} GiB  in all"])


def plan(
    model: Base, recipe: Recipe, rows: int, length: int, dtype: str = "float16", nf4: bool = True, cuda: bool = True
) -> Plan:
    """Return what a training step of `rows` rows of `length` padded tokens needs at its peak.

    `dtype` is the type of everything that is not quantised. `nf4` quantises the layers' matrices, and adds the buffer
    into which one of them is dequantised. `cuda` adds the context that only a GPU has.
    """
    parts = {
        "weights": weights(model, dtype, nf4),
        "adapter": 4 * adapter_parameters(model, recipe),
        "gradients of the adapter": 4 * adapter_parameters(model, recipe),
        "optimiser": optimiser(model, recipe),
        "activations": activations(model, recipe, rows, length, dtype, nf4),
        "logits, or a layer's gradients": passing(model, recipe, rows, length, dtype, nf4),
    }
    if cuda:
        parts["CUDA context"] = int(CONTEXT_GIB * GIB)
    if nf4:
        largest = max(a * b for a, b in model.shape.matrices.values())
        parts["dequantised matrix"] = largest * BYTES[dtype]
    return Plan(model.name, recipe, rows, length, parts)


def plan_full(model: Base, rows: int, length: int, dtype: str = "float16", checkpointing: bool = False) -> Plan:
    """Return what a step of full finetuning with Adam needs on a GPU: every parameter is trained, none is quantised.

    In 16 bits, each parameter needs 16 bytes through the run: 2 for the weight, 2 for its gradient, and in float32 a
    copy of the weight and Adam's two moments (Rajbhandari et al. 2020, section 3.1). In float32 no copy is needed,
    which gives 16 again.
    """
    # a matrix that learns keeps its input, as one with an adapter does; the adapter of rank 1 itself is a rounding
    # error
    learns = Recipe("full", r=1, alpha=1, checkpointing=checkpointing)
    size = BYTES[dtype]
    parts = {
        "weights": model.shape.parameters * size,
        "gradients": model.shape.parameters * size,
        "optimiser": model.shape.parameters * (16 - 2 * size),
        "activations": activations(model, learns, rows, length, dtype),
        "logits, or a layer's gradients": passing(model, learns, rows, length, dtype),
        "CUDA context": int(CONTEXT_GIB * GIB),
    }
    return Plan(model.name, learns, rows, length, parts)


def weights(model: Base, dtype: str, nf4: bool = True) -> int:
    """Return the bytes of the base model's weights and quantisation constants."""
    if not nf4:
        return model.shape.parameters * BYTES[dtype]
    total = model.shape.other_parameters * BYTES[dtype]
    for a, b in model.shape.matrices.values():
        blocks = math.ceil(a * b / BLOCK)
        # half a byte for each weight, a byte for each block, a float32 for 256 blocks, and the tables of 16 and 256
        # levels
        total += model.shape.layers * (
            math.ceil(a * b / 2) + blocks + 4 * math.ceil(blocks / NESTED_BLOCK) + 4 * (16 + 256 + 1)
        )
    return total


def adapter_parameters(model: Base, recipe: Recipe) -> int:
    """Return the trained parameters: r x (inputs + outputs) for each adapted matrix."""
    return sum(a + b for a, b in adapter_shapes(model, recipe))


def adapter_shapes(model: Base, recipe: Recipe) -> list[tuple[int, int]]:
    """Return the sizes of the two matrices, (A, B), for every adapted matrix of the model."""
    layers = len(recipe.adapted_layers(model.shape.layers))
    sizes = [model.shape.matrices[name] for name in model.shape.targets(recipe.target_modules)]
    return [(recipe.r * inputs, recipe.r * outputs) for outputs, inputs in sizes] * layers


def optimiser(model: Base, recipe: Recipe) -> int:
    """Return the bytes of Adam's two moments: float32, or 8 bits and a scale for 256 values (arXiv:2110.02861)."""
    total = 0
    for size in (size for pair in adapter_shapes(model, recipe) for size in pair):
        # bitsandbytes keeps tensors of fewer than 4,096 values in 32 bits
        eight_bits = "8bit" in recipe.optimizer and size >= 4096
        total += 2 * (size + 4 * math.ceil(size / 256)) if eight_bits else 8 * size
    return total


def activations(model: Base, recipe: Recipe, rows: int, length: int, dtype: str = "float16", nf4: bool = True) -> int:
    """Return the bytes that the forward pass keeps for the backward pass, with an attention kernel that keeps no
    scores."""
    tokens, size = rows * length, BYTES[dtype]
    layers = len(recipe.adapted_layers(model.shape.layers))
    one = tokens * _kept_by_a_layer(model, recipe, size, shared=nf4 or size == 4)
    if recipe.checkpointing:
        # the input of every layer, and one layer in full while it is computed again
        return layers * tokens * model.shape.hidden * size + one
    return layers * one


def passing(model: Base, recipe: Recipe, rows: int, length: int, dtype: str = "float16", nf4: bool = True) -> int:
    """Return the bytes that come and go at the peak: the end of the model with the loss, or one layer's gradients."""
    tokens, size = rows * length, BYTES[dtype]
    # the last norm works in float32, as does the gradient that comes back through it
    end = logits(model, rows, dtype) + tokens * model.shape.hidden * (4 + 2 * size)
    # gradients of gate, up and their product; PEFT's float32 copy of an input where nothing is quantised
    layer = tokens * model.shape.intermediate * (3 * size + (4 if size < 4 and not nf4 else 0))
    return max(end, layer)


def _kept_by_a_layer(model: Base, recipe: Recipe, size: int, shared: bool) -> int:
    """Return the bytes for each token that one layer keeps for the backward pass; a number has `size` bytes.

    `shared`: adapters that read the same input keep one copy of it. In mixed precision PEFT makes a copy for each
    adapter on a matrix that is not quantised.
    """
    shape, wanted = model.shape, set(recipe.target_modules)
    inputs = [shape.matrices[name][1] for name in shape.targets(recipe.target_modules)]
    # both norms compute in float32 and keep what came in
    norms = 2 * shape.hidden * 4
    # queries, keys and values repeated for all heads, and what attention gives, which is also what o_proj reads
    attention = 4 * shape.attention_width
    # gate (if there is one), its activation, and up; a frozen matrix keeps nothing
    block = (3 if shape.gated else 2) * shape.intermediate
    masks = 0
    if recipe.dropout:
        # each adapter's input with zeros in it, and a mask of a byte a number
        kept, masks = sum(inputs), sum(inputs)
    elif not shared:
        kept = sum(inputs)
    else:
        kept = sum(
            shape.hidden for group in ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}) if group & wanted
        )
        kept += shape.intermediate if "down_proj" in wanted else 0
    return norms + size * (attention + block + kept + recipe.r * len(inputs)) + masks


def logits(model: Base, rows: int, dtype: str = "float16", labelled: int = 5) -> int:
    """Return the bytes of the logits at the labelled positions: in the model's dtype, in float32, and gradients."""
    return rows * labelled * model.shape.vocabulary * (2 * BYTES[dtype] + 2 * 4)


def training_minutes(model: Base, recipe: Recipe, rows: int, length: int, tflops: float = T4_TFLOPS) -> float:
    """Return the minutes to train on `rows` rows of `length` padded tokens.

    Each parameter and token costs 4 floating-point operations: 2 forward and 2 for the gradient of the activations.
    With checkpointing it is 6, because the activations are computed again. Frozen weights need no gradient.
    """
    operations = (6 if recipe.checkpointing else 4) * model.shape.linear_parameters
    return recipe.epochs * rows * length * operations / (tflops * 1e12) / 60


def asking_minutes(model: Base, rows: int, length: int, tflops: float = T4_TFLOPS) -> float:
    """Return the minutes to score `rows` rows, each with `length` tokens of its own."""
    return rows * length * 2 * model.shape.linear_parameters / (tflops * 1e12) / 60


def largest_micro_batch(model: Base, recipe: Recipe, length: int, gpu_gib: float, **how: Any) -> int:
    """Return the most rows at once that fit and that divide the recipe's batch; 0 if not even one fits."""
    sizes = [n for n in range(recipe.batch_rows, 0, -1) if recipe.batch_rows % n == 0]
    return next((n for n in sizes if plan(model, recipe, n, length, **how).fits(gpu_gib)), 0)


def micro_batch_tokens(model: Base, recipe: Recipe, gpu_gib: float, **how: Any) -> int:
    """Return the most padded tokens at once with which a step fills no more than `SHARE` of the GPU; 0 if none fits."""

    def exceeds(tokens: int) -> bool:
        return not plan(model, recipe, 1, tokens, **how).fits(SHARE * gpu_gib)

    return bisect_left(range(1, 2**20), True, key=exceeds)


def advice(name: str, recipe: Recipe, length: int, gpu_gib: float = T4_GIB) -> str:
    """Return what to change for a run to fit, in the order of least harm, with the plan of one row."""
    model = base(name)
    one = plan(model, recipe.changed(checkpointing=True), 1, length).table()
    half = max(length // 2, 32)
    if recipe.checkpointing and largest_micro_batch(model, recipe, length, gpu_gib):
        busy = "another program may hold the GPU, and nvidia-smi names it"
        return f"By the planner it fits {gpu_gib:.1f} GiB: {busy}. One row needs:\n{one}"
    for text, values, tokens in (
        *([] if recipe.checkpointing else [("checkpointing=True", {}, length)]),
        (f"max_length={half}", {}, half),
        (f"r={max(recipe.r // 4, 1)}", {"r": max(recipe.r // 4, 1)}, length),
    ):
        if largest_micro_batch(model, recipe.changed(checkpointing=True, **values), tokens, gpu_gib):
            return f"By the planner {text} lets it fit {gpu_gib:.1f} GiB. One row needs:\n{one}"
    billions = round(model.shape.parameters / 1e9, 2)
    smaller = [b.name for b in sorted(BASES.values(), key=lambda b: -b.billions) if b.billions < billions]
    fits = (n for n in smaller if largest_micro_batch(base(n), recipe.changed(checkpointing=True), length, gpu_gib))
    other = next(fits, "no model")
    return f"By the planner no change of the recipe fits {gpu_gib:.1f} GiB; {other} would. One row needs:\n{one}"
