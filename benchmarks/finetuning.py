"""Finetuning with LoRA on 500 short rows: the course's `cpu` recipe, TRL in two ways, and litgpt.

    llmcourse, quick          `finetune` with the recipe `quick`: attention of the upper 12 layers, what lies below computed once a row
    llmcourse, talk's adapter   the same trainer with the talk's adapter: all seven matrices of all layers, r = 8
    TRL as in the talk      one row at once, eight a step, loss on all tokens, dropout, TRL's defaults (it recomputes activations)
    TRL, best               label only, similar lengths together, no recomputing, no dropout, nothing saved, the fastest batch
    litgpt                  its own `finetune_lora`, in an environment of its own (--litgpt PYTHON); left out without one

Each runs in a process of its own, so that its peak memory is its own, on the same texts and with the same learning rate. The clock
runs from the rows to the trained adapter, first step and what is prepared for it included; imports and loading are not. Checked before timing: the
loss on rows of one label, which all but the talk's way (all tokens) must give alike. The share of the matrix-product rate is counted floating-point
operations a second, over the rate of the model's own products in the same process. About 25 minutes on 2 cores.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import about, as_it_comes, fastest, finish, options

from llmcourse import CourseError, data, models
from llmcourse._base import files
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel, embedded
from llmcourse.training import finetuning
from llmcourse.training.recipes import ALL_LINEAR, QUICK, TALK, Recipe

TALKS_ADAPTER = QUICK.changed(
    name="talk's adapter", r=TALK.r, alpha=TALK.alpha, target_modules=ALL_LINEAR, upper_layers=None, epochs=1
)
MICRO_BATCHES = (1, 2, 4, 8, 16)
LOSS_TOLERANCE = 1e-3
COUNTED_ROWS = 32
"""Rows on which floating-point operations are counted; the count is scaled to all rows by their tokens."""


@dataclass(frozen=True)
class Way:
    """A side: how it trains."""

    recipe: Recipe
    train: Callable[..., Any]
    plain: bool = True
    """Whether the model is as transformers loads it: see `as_it_comes`."""
    epochs: float = 1
    tuned: bool = False


def ours(loaded: LoadedModel, rows: list[dict], recipe: Recipe, folder: str) -> None:
    finetuning.finetune(loaded, SARCASM, rows, recipe, folder)


def trl(loaded: LoadedModel, rows: list[dict], recipe: Recipe, folder: str, micro_batch: int = 16):
    """A SFTTrainer at its best for this work: everything that costs time without being asked for is off."""
    from trl import SFTConfig

    config = SFTConfig(
        output_dir=folder,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=recipe.batch_rows // micro_batch,
        train_sampling_strategy="batch_rebalance",
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=recipe.warmup,
        adam_beta2=recipe.beta2,
        optim=recipe.optimizer,
        activation_checkpointing=False,
        **_on_a_cpu(recipe),
    )
    examples, _ = finetuning.training_rows(loaded, SARCASM, rows, recipe)
    return _trainer(loaded, config, examples, finetuning.lora_config(recipe, loaded.model.config))


def trl_as_in_the_talk(loaded: LoadedModel, rows: list[dict], recipe: Recipe, folder: str):
    """The talk's arguments, as far as today's TRL takes them, on the same texts as the others."""
    from peft import LoraConfig
    from trl import SFTConfig

    config = SFTConfig(
        output_dir=folder,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=8,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=TALK.weight_decay,
        optim=TALK.optimizer,
        **_on_a_cpu(recipe),
    )
    examples, _ = finetuning.training_rows(loaded, SARCASM, rows, recipe)
    texts = [{"text": example["prompt"] + example["completion"]} for example in examples]
    lora = LoraConfig(
        r=TALK.r,
        lora_alpha=TALK.alpha,
        lora_dropout=TALK.dropout,
        target_modules=list(ALL_LINEAR),
        bias="none",
        task_type="CAUSAL_LM",
    )
    return _trainer(loaded, config, texts, lora)


def _on_a_cpu(recipe: Recipe) -> dict[str, Any]:
    return {
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "logging_steps": 1000,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": recipe.seed,
    }


def _trainer(loaded: LoadedModel, config, examples: list[dict], lora):
    from datasets import Dataset
    from trl import SFTTrainer

    return SFTTrainer(
        model=loaded.model,
        args=config,
        train_dataset=Dataset.from_list(examples),
        processing_class=loaded.tokenizer,
        peft_config=lora,
    )


WAYS = {
    "llmcourse, quick": Way(QUICK, ours, plain=False, epochs=3),
    "llmcourse, quick, one epoch": Way(QUICK, ours, plain=False),
    "llmcourse, talk's adapter": Way(TALKS_ADAPTER, ours, plain=False),
    "TRL, best, quick's adapter": Way(QUICK, trl, tuned=True),
    "TRL, best, quick's adapter, our model": Way(QUICK, trl, plain=False, tuned=True),
    "TRL, best, talk's adapter": Way(TALKS_ADAPTER, trl, tuned=True),
    "TRL as in the talk": Way(TALKS_ADAPTER, trl_as_in_the_talk),
}
LITGPT = "litgpt, talk's adapter"
LIKE = {
    "TRL, best, quick's adapter": "llmcourse, quick, one epoch",
    "TRL, best, quick's adapter, our model": "llmcourse, quick, one epoch",
    "TRL, best, talk's adapter": "llmcourse, talk's adapter",
    "TRL as in the talk": "llmcourse, talk's adapter",
    LITGPT: "llmcourse, talk's adapter",
}
"""Which side of ours trains the same matrices, as often: the ratio is taken to that one."""


def run(way: Way, loaded: LoadedModel, rows: list[dict], epochs: float, **how: Any) -> float:
    """Train on these rows; the seconds. The model is the base again afterwards."""
    recipe = small_enough(way.recipe, rows).changed(epochs=epochs)
    with tempfile.TemporaryDirectory() as folder, as_it_comes(loaded) if way.plain else nullcontext():
        clock = time.perf_counter()
        trainer = way.train(loaded, rows, recipe, folder, **how)
        if trainer is not None:
            trainer.train()
        seconds = time.perf_counter() - clock
    put_back(loaded, trainer)
    return seconds


def small_enough(recipe: Recipe, rows: Sequence) -> Recipe:
    """The recipe with batches of half the rows at most: the first step of a warm-up has no learning rate, so that two are needed."""
    return recipe.changed(batch_rows=min(recipe.batch_rows, len(rows) // 2))


def put_back(loaded: LoadedModel, trainer) -> None:
    """Make the model in memory the base again. `trainer` is TRL's; None where llmcourse has trained."""
    if trainer is not None:
        loaded.model = trainer.model
        finetuning._unpatch(loaded.model)
    loaded.drop_adapter()


def one_label(rows: list[dict]) -> list[dict]:
    """Eight rows of one label: where all labels have as many tokens, a mean over rows is one over tokens."""
    return [row for row in rows if row["label"] == 1][:8]


def loss_before(way: Way, loaded: LoadedModel, rows: list[dict]) -> float:
    """The loss of the untrained adapter on `one_label(rows)`, by this side's own trainer."""
    rows, trainer = one_label(rows), None
    with tempfile.TemporaryDirectory() as folder:
        if way.train is ours:
            losses: list[float] = []
            still = way.recipe.changed(epochs=1, batch_rows=len(rows), warmup=0.0)
            finetuning.finetune(loaded, SARCASM, rows, still, folder, progress=lambda *at: losses.append(at[2]))
            loss = losses[-1]
        else:
            trainer = way.train(loaded, rows, way.recipe, folder)
            columns = ("input_ids", "labels")
            batch = trainer.data_collator([{k: row[k] for k in columns if k in row} for row in trainer.train_dataset])
            loss = float(trainer.compute_loss(trainer.model, batch))
    put_back(loaded, trainer)
    return loss


def product_rate(rows: int = 1024) -> float:
    """Floating-point operations a second of the embedded model's matrix products, as they are set up at this moment."""
    import torch

    operations, seconds = 0, 0.0
    for inner, outer, times in ((576, 576, 2), (576, 192, 2), (576, 1536, 2), (1536, 576, 1)):
        a, b = torch.randn(rows, inner), torch.randn(outer, inner)
        best = min(_seconds(lambda a=a, b=b: torch.nn.functional.linear(a, b)) for _ in range(20))
        operations, seconds = operations + times * 2 * rows * inner * outer, seconds + times * best
    return operations / seconds


def _seconds(work: Callable[[], Any]) -> float:
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


def side(name: str, count: int) -> dict[str, Any]:
    """What one process measures. `count` rows of the bundled corpus, their number of tokens known to all sides."""
    import resource

    import torch
    import trl as trl_library
    from torch.utils.flop_counter import FlopCounterMode

    import llmcourse.training.trainer  # what is imported is not timed

    del trl_library, llmcourse
    way, loaded = WAYS[name], models.load()
    rows = list(data.load(SARCASM).train)[:count]
    result: dict[str, Any] = {"loss_before": round(loss_before(way, loaded, rows), 5)}
    how = {}
    if way.tuned:
        few = rows[:32]
        sizes = [size for size in MICRO_BATCHES if size <= small_enough(way.recipe, few).batch_rows]
        best, tried = fastest(sizes, few, lambda size: run(way, loaded, few, 1, micro_batch=size))
        how = {"micro_batch": best}
        result["micro_batches"] = {"rows_per_second": tried, **how}
    seconds = run(way, loaded, rows, way.epochs, **how)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lengths = token_counts(loaded, rows)
    with FlopCounterMode(display=False) as counter:
        run(way, loaded, rows[:COUNTED_ROWS], way.epochs, **how)
    operations = counter.get_total_flops() * sum(lengths) / sum(lengths[:COUNTED_ROWS])
    with as_it_comes(loaded) if way.plain else nullcontext():
        rate = product_rate()
    return {
        **result,
        "epochs": way.epochs,
        "seconds": round(seconds, 2),
        "rows_per_second": round(count * way.epochs / seconds, 3),
        "tokens_per_second": round(sum(lengths) * way.epochs / seconds, 1),
        "peak_memory_gib": round(peak, 2),
        "gflop_per_second": round(operations / seconds / 1e9, 1),
        "product_gflop_per_second": round(rate / 1e9, 1),
        "share_of_product_rate": round(operations / seconds / rate, 3),
        "threads": torch.get_num_threads(),
    }


def token_counts(loaded: LoadedModel, rows: list[dict]) -> list[int]:
    """Tokens of each training text with its end, padding not counted."""
    examples, _ = finetuning.training_rows(loaded, SARCASM, rows, QUICK)
    return [len(loaded.tokenizer(one["prompt"] + one["completion"]).input_ids) + 1 for one in examples]


def litgpt(python: str, loaded: LoadedModel, rows: list[dict]) -> dict[str, Any]:
    """litgpt in its own environment, on the same texts, with the talk's adapter and no dropout."""
    examples, _ = finetuning.training_rows(loaded, SARCASM, rows, QUICK)
    check, _ = finetuning.training_rows(loaded, SARCASM, one_label(rows), QUICK)
    with tempfile.TemporaryDirectory() as folder:
        work = {
            "checkpoint": str(embedded.ensure_embedded()),
            "rows": examples,
            "check": check,
            "learning_rate": TALKS_ADAPTER.learning_rate,
            "r": TALKS_ADAPTER.r,
            "alpha": TALKS_ADAPTER.alpha,
            "batch_rows": TALKS_ADAPTER.batch_rows,
            "seed": TALKS_ADAPTER.seed,
        }
        order = files.write_json(Path(folder) / "order.json", work)
        result = _last_line([python, str(Path(__file__).with_name("litgpt_lora.py")), str(order)])
    tokens = sum(token_counts(loaded, rows))
    result |= {"rows_per_second": round(len(rows) / result["seconds"], 3)}
    return result | {"tokens_per_second": round(tokens / result["seconds"], 1), "epochs": 1}


def set_beside(sides: dict[str, dict]) -> None:
    """Give each side but ours its ratio to what is like it of ours."""
    for name, against in LIKE.items():
        if name in sides:
            ratio = sides[against]["rows_per_second"] / sides[name]["rows_per_second"]
            sides[name] |= {"against": against, "times_slower": round(ratio, 3)}


def _last_line(command: Sequence[str]) -> dict[str, Any]:
    """What a process says in its last line, as JSON."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CourseError(f"{' '.join(command[:4])} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> dict | None:
    chosen = options(
        __doc__,
        arguments,
        rows=(500, 4, "training rows"),
        litgpt=(str, "the Python of an environment that has litgpt"),
        side=(str, "measure this side only, in this process"),
    )
    if chosen.side:
        print(json.dumps(side(chosen.side, chosen.rows)))
        return None
    sides = {}
    for name in WAYS:
        command = [sys.executable, __file__, "--side", name, "--rows", str(chosen.rows)]
        sides[name] = _last_line(command)
        print(name, sides[name], flush=True)
    loaded = models.load()
    rows = list(data.load(SARCASM).train)[: chosen.rows]
    if chosen.litgpt:
        sides[LITGPT] = litgpt(chosen.litgpt, loaded, rows)
        print(LITGPT, sides[LITGPT], flush=True)
    losses = {name: one["loss_before"] for name, one in sides.items() if name != "TRL as in the talk"}
    if max(losses.values()) - min(losses.values()) > LOSS_TOLERANCE:
        raise CourseError(f"The sides do not begin with the same loss: {losses}")
    set_beside(sides)
    lengths = token_counts(loaded, rows)
    results = {
        **about(loaded),
        "work": {"rows": len(rows), "tokens_per_row": round(sum(lengths) / len(lengths), 1)},
        "agree": {"rows": len(one_label(rows)), "loss_before": losses},
        "sides": sides,
    }
    return finish("finetuning", results, chosen)


if __name__ == "__main__":
    main()
