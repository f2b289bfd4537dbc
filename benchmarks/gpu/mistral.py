"""(d) A random Mistral-7B in NF4, trained in a T4's memory: bytes beside the planner's, milliseconds a pass, skipped
steps, and what happens when memory runs out.

The model is made on the GPU, a layer at a time, so nothing of it lies on a disk. A newer GPU cannot prove that a T4's
kernels work. It proves memory, number types and the code path.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu.setting import T4, Findings, Setting, capped, pretend, synchronise
from llmcourse import data, models
from llmcourse._base import hardware
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel, attention, catalogue, embedded
from llmcourse.models.catalogue import Base
from llmcourse.models.loading import project_rows_at_once, settle_dtype
from llmcourse.training import finetuning, planner
from llmcourse.training.recipes import TALK, THOROUGH, WORKSHOP, Recipe
from llmcourse.training.trainer import LabelTrainer, answer_logits, lm_losses

NAME = "mistral-7b"
SPARE = 1.15
"""How much more than the planner's bytes are allowed where one row must just fit."""


def run(setting: Setting, findings: Findings) -> None:
    """Train in a T4's memory, time passes, and take memory away."""
    rows = long_rows(list(data.load(SARCASM).train), 8 * setting.sizes.steps)
    t4_gib = planner.T4_GIB - planner.CONTEXT_GIB  # what torch can allocate
    with stand_in(setting) as model:
        with findings.part("model") as measured:
            measured.update(describe(model, setting))
            matrices = measured["matrices_in_4_bits"], 7 * model.base.shape.layers
            findings.check(matrices[0] == matrices[1], f"{matrices[0]} of {matrices[1]} matrices are in 4 bits")
        for recipe in (WORKSHOP, TALK, THOROUGH):
            with findings.part(recipe.name) as measured, capped(setting, t4_gib):
                measured.update(train(setting, model, once(setting, recipe), rows))
                findings.check(not ran_out(measured), f"{recipe.name}: the planner allowed too much: {measured}")
        with findings.part("passes") as measured:
            measured.update(time_passes(setting, model))
        for name, limit in limits(setting, model).items():
            with findings.part(name) as measured, limit.imposed(setting):
                measured.update(train(setting, model, limit.recipe, rows))
                ended = ran_out(measured) and measured["checkpointing"] == limit.checkpointing
                findings.check(ended, f"{name}: it ended otherwise: {measured}")


@dataclass(frozen=True)
class StandIn:
    """A random model, and the shape that the planner plans with."""

    base: Base
    loaded: LoadedModel
    seconds: float
    """How long it took to make."""


@contextlib.contextmanager
def stand_in(setting: Setting) -> Iterator[StandIn]:
    """Inside the block, the catalogue's Mistral-7B has the shape of a random one, and the machine is a T4."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded.ensure_embedded())
    before = catalogue.base(NAME)
    base = before.resized(vocab_size=len(tokenizer), **setting.sizes.shape)
    with pretend(setting, T4):
        catalogue.BASES[NAME] = base
        try:
            start = time.perf_counter()
            network = random_in_nf4(base)
            synchronise(setting)
            identity = {"name": "random", "commit": "local", "weights": "nf4"}
            yield StandIn(base, LoadedModel(NAME, identity, network, tokenizer), time.perf_counter() - start)
        finally:
            catalogue.BASES[NAME] = before


def random_in_nf4(base: Base) -> Any:
    """Return a random model of this shape with its layers' matrices in NF4, as `models.from_hub` would load it.

    One layer at a time is made in 16 bits and quantised.
    """
    import torch
    from transformers import AutoModelForCausalLM

    machine = hardware.detect()
    attention.leave_out_cudnn(machine)
    config, before = models.config_of(base), torch.get_default_dtype()
    config.dtype = getattr(torch, machine.dtype)
    torch.set_default_dtype(config.dtype)
    torch.manual_seed(0)
    try:
        with torch.device(machine.device):
            config.num_hidden_layers = 1
            model = AutoModelForCausalLM.from_config(config)
            model.set_attn_implementation(attention.choose(machine))
            kind, layers = type(model.model.layers[0]), torch.nn.ModuleList()
            model.config.num_hidden_layers = base.shape.layers
            for number in range(base.shape.layers):
                layers.append(in_nf4(kind(model.config, number), machine.device))
        model.model.layers = layers
    finally:
        torch.set_default_dtype(before)
    model.is_loaded_in_4bit = True
    return project_rows_at_once(settle_dtype(model, getattr(torch, machine.dtype))).eval().requires_grad_(False)


def in_nf4(layer: Any, device: str) -> Any:
    """Quantise every matrix of a layer, in place."""
    from bitsandbytes.nn import Linear4bit, Params4bit
    from torch import nn

    for module in list(layer.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                matrix = Linear4bit(child.in_features, child.out_features, bias=False, quant_type="nf4", device="meta")
                weight = child.weight.data
                matrix.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
                setattr(module, name, matrix.to(device))
    return layer


def describe(model: StandIn, setting: Setting) -> dict[str, Any]:
    """Return what the model is, and its size as the planner has it and as the GPU does."""
    import torch

    network = model.loaded.model
    allocated = torch.cuda.memory_allocated() / 2**30 if setting.cuda else None
    return {
        "parameters": model.base.shape.parameters,
        "matrices_in_4_bits": sum(type(part).__name__ == "Params4bit" for part in network.parameters()),
        "numbers": str(network.get_input_embeddings().weight.dtype),
        "attention": network.config._attn_implementation,
        "seconds_to_make": round(model.seconds, 1),
        "planned_gib": round(planner.weights(model.base, "float16") / 2**30, 3),
        "allocated_gib": allocated and round(allocated, 3),
    }


def long_rows(rows: Sequence[Mapping], count: int) -> list[dict]:
    """Return rows whose texts are longer than any recipe's max_length, so that micro-batches are as full as can be."""
    texts = [" ".join(str(row["comment"]) for row in rows[n : n + 60]) for n in range(count)]
    return [{**rows[n], "comment": text[:3500]} for n, text in enumerate(texts)]


def once(setting: Setting, recipe: Recipe) -> Recipe:
    """Return the recipe for one epoch, with rows no longer than the check's sizes allow."""
    return recipe.changed(epochs=1, max_length=min(recipe.max_length, setting.sizes.max_length))


def train(setting: Setting, model: StandIn, recipe: Recipe, rows: Sequence[Mapping]) -> dict[str, Any]:
    """Train, and return what was measured beside what was planned. The adapter stays on the model."""
    import torch

    few = rows[: setting.sizes.steps * recipe.batch_rows]
    if setting.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    folder = setting.work / f"{recipe.name}-{time.time_ns()}"
    run = finetuning.finetune(model.loaded, SARCASM, few, recipe, folder)
    peaks = {}
    if setting.cuda:
        peaks = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    length = -(-run.micro_tokens // run.micro_rows)
    plan = planner.plan(model.base, recipe.changed(checkpointing=run.checkpointing), run.micro_rows, length)
    planned = plan.total - plan.parts["CUDA context"]  # which torch does not allocate
    return {
        "steps": run.steps,
        "skipped_steps": run.skipped_steps,
        "losses_are_finite": all(abs(loss) < float("inf") for loss in run.losses),
        "micro_rows": run.micro_rows,
        "micro_tokens": run.micro_tokens,
        "checkpointing": run.checkpointing,
        "notes": run.notes,
        "ms_per_step": round(1000 * run.seconds / run.steps, 1),
        "planned_gib": round(planned / 2**30, 3),
        **{f"{name}_gib": round(peak / 2**30, 3) for name, peak in peaks.items()},
        **{f"{name}_over_planned": round(peak / planned, 3) for name, peak in peaks.items()},
    }


def ran_out(measured: Mapping[str, Any]) -> bool:
    """Return whether memory ran out in a training, so that less had to go through the model at once."""
    return any(note.startswith("Out of GPU memory") for note in measured["notes"])


def time_passes(setting: Setting, model: StandIn) -> dict[str, Any]:
    """Time passes forwards and backwards, and return what a token costs, and a pass besides (see `batches`)."""
    import numpy
    import torch

    network, took = model.loaded.model.train(), {}
    try:
        for rows, length in setting.sizes.passes:
            ids = torch.randint(5, 1000, (rows, length), device=network.device)
            labels = torch.full_like(ids, -100)
            labels[:, -3:] = ids[:, -3:]
            times = []
            for _ in range(4):  # the first is not measured
                synchronise(setting)
                start = time.perf_counter()
                with torch.autocast(network.device.type, torch.float16, enabled=setting.cuda):
                    lm_losses(*answer_logits(network, labels, torch.ones_like(ids), input_ids=ids)).mean().backward()
                synchronise(setting)
                times.append(1000 * (time.perf_counter() - start))
            took[f"{rows} x {length}"] = round(sorted(times[1:])[1], 2)
    finally:
        network.zero_grad()
        network.eval()
    slope, start_ms = numpy.polyfit([rows * length for rows, length in setting.sizes.passes], list(took.values()), 1)
    return {
        "ms": took,
        "ms_per_token": round(slope, 4),
        "ms_per_pass": round(start_ms, 2),
        "pass_in_tokens": round(start_ms / slope, 1),
    }


@dataclass(frozen=True)
class Limit:
    """Memory that is too small for what the recipe asks for."""

    recipe: Recipe
    gib: float
    tokens: int
    """On a CPU, what fails in its place: a micro-batch of more padded tokens, unless activations are recomputed."""
    checkpointing: bool
    """Whether the training must end up recomputing activations."""

    @contextlib.contextmanager
    def imposed(self, setting: Setting) -> Iterator[None]:
        """Impose the limit on the trainings in the block."""
        if setting.cuda:
            with capped(setting, self.gib):
                yield
            return
        import torch

        real = LabelTrainer.compute_loss

        def compute_loss(trainer: Any, network: Any, inputs: Mapping, *args: Any, **more: Any) -> Any:
            if inputs["input_ids"].numel() > self.tokens and not trainer.args.gradient_checkpointing:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return real(trainer, network, inputs, *args, **more)

        LabelTrainer.compute_loss = compute_loss
        try:
            yield
        finally:
            LabelTrainer.compute_loss = real


def limits(setting: Setting, model: StandIn) -> dict[str, Limit]:
    """Return memory for one row of `THOROUGH`, and for one row with recomputed activations only."""
    recipe = once(setting, THOROUGH)
    length = recipe.max_length
    recipe = recipe.changed(micro_batch_tokens=recipe.batch_rows * length)
    gib = {
        checkpointing: planner.plan(model.base, recipe.changed(checkpointing=checkpointing), 1, length, cuda=False).gib
        for checkpointing in (False, True)
    }
    return {
        "memory for one row": Limit(recipe, SPARE * gib[False], length, checkpointing=False),
        "memory for one row, recomputed": Limit(recipe, SPARE * gib[True], 0, checkpointing=True),
    }
