"""Measure finetuning with LoRA on short rows: the course's `quick` recipe, TRL in two ways, and litgpt.

    llmcourse, quick            the recipe `quick`: attention of the upper 12 layers; the frozen ones run once per row
    llmcourse, quick, one epoch the same for one epoch, as long as the talk trains
    llmcourse, talk's adapter   the same trainer with the talk's adapter: all seven matrices of all layers, r = 8
    TRL as in the talk          one row at a time, eight per step, loss on all tokens, dropout, TRL's defaults
    TRL, best                   loss on the label, rows grouped by length, no recomputing, the fastest batch size
    litgpt                      its own `finetune_lora`, in its own environment (--litgpt PYTHON); left out without one

The other sides with the adapter of `quick` train its six epochs, those with the talk's adapter one. In each round all
sides train once, in turn, and ratios are taken within a round, because a machine's speed changes with its other work.
Each training runs in a process of its own, so that its peak memory is its own, on the same texts and with the same
learning rate. The clock runs from the rows to the trained adapter, including the first step and its preparation,
without imports and loading. Ours trains with the label loss. Before timing, it is set to TRL's, and all sides must
compute the same loss on rows of one label (except the talk's way, whose loss is over all tokens). The share of the
matrix-product rate is the counted floating-point operations per second over the rate of the model's own matrix products
in the same process. About 35 minutes on 2 cores.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import about, as_it_comes, fastest, finish, options, spread

from llmcourse import CourseError, data, models
from llmcourse._base import files
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel, embedded
from llmcourse.training import configs, finetuning
from llmcourse.training.examples import training_rows
from llmcourse.training.recipes import ALL_LINEAR, QUICK, TALK, Recipe

TALKS_ADAPTER = QUICK.changed(
    name="talk's adapter", r=TALK.r, alpha=TALK.alpha, target_modules=ALL_LINEAR, upper_layers=None, epochs=1
)
MICRO_BATCHES = (1, 2, 4, 8, 16)
LOSS_TOLERANCE = 1e-3
COUNTED_ROWS = 32
"""We count floating-point operations on these rows and scale the count to all rows by their tokens."""


@dataclass(frozen=True)
class Way:
    """How a side trains."""

    recipe: Recipe
    train: Callable[..., Any]
    plain: bool = True
    """Whether the model is used as transformers loads it, see `as_it_comes`."""
    epochs: float = 1
    tuned: bool = False
    """Whether the fastest micro-batch is looked for first."""


def ours(loaded: LoadedModel, rows: list[dict], recipe: Recipe, folder: str) -> None:
    """Train with llmcourse."""
    finetuning.finetune(loaded, SARCASM, rows, recipe, folder)


def trl(loaded: LoadedModel, rows: list[dict], recipe: Recipe, folder: str, micro_batch: int = 16):
    """Return an SFTTrainer at its best for this work: everything that costs time and is not needed is off."""
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
        gradient_checkpointing=False,  # deprecated, but transformers 5.17 knows no other name
        **_on_a_cpu(recipe),
    )
    examples, _ = training_rows(loaded, SARCASM, rows, recipe)
    return _trainer(loaded, config, examples, configs.lora_config(recipe, loaded.model.config))


def trl_as_in_the_talk(loaded: LoadedModel, rows: list[dict], recipe: Recipe, folder: str):
    """Return an SFTTrainer with the talk's arguments, as far as today's TRL accepts them, on the same texts."""
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
    examples, _ = training_rows(loaded, SARCASM, rows, recipe)
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
    """Return the arguments that both TRL sides need on a CPU, with nothing saved or logged."""
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
    "llmcourse, quick": Way(QUICK, ours, plain=False, epochs=QUICK.epochs),
    "llmcourse, quick, one epoch": Way(QUICK, ours, plain=False),
    "llmcourse, talk's adapter": Way(TALKS_ADAPTER, ours, plain=False),
    "TRL, best, quick's adapter": Way(QUICK, trl, epochs=QUICK.epochs, tuned=True),
    "TRL, best, quick's adapter, our model": Way(QUICK, trl, plain=False, epochs=QUICK.epochs, tuned=True),
    "TRL, best, talk's adapter": Way(TALKS_ADAPTER, trl, tuned=True),
    "TRL as in the talk": Way(TALKS_ADAPTER, trl_as_in_the_talk),
}
LITGPT = "litgpt, talk's adapter"
LIKE = {
    "TRL, best, quick's adapter": "llmcourse, quick",
    "TRL, best, quick's adapter, our model": "llmcourse, quick",
    "TRL, best, talk's adapter": "llmcourse, talk's adapter",
    "TRL as in the talk": "llmcourse, talk's adapter",
    LITGPT: "llmcourse, talk's adapter",
}
"""Our side that trains the same matrices for as many epochs. The ratio is taken to this side."""


def run(way: Way, loaded: LoadedModel, rows: list[dict], epochs: float, **how: Any) -> float:
    """Train on these rows and return the seconds. Afterwards the model has no adapter again."""
    recipe = small_enough(way.recipe, rows).changed(epochs=epochs)
    with tempfile.TemporaryDirectory() as folder, as_it_comes(loaded if way.plain else None):
        clock = time.perf_counter()
        trainer = way.train(loaded, rows, recipe, folder, **how)
        if trainer is not None:
            trainer.train()
        seconds = time.perf_counter() - clock
    remove_adapter(loaded, trainer)
    return seconds


def small_enough(recipe: Recipe, rows: Sequence) -> Recipe:
    """Return the recipe with at least two batches, because the first step of a warm-up has a learning rate of zero."""
    return recipe.changed(batch_rows=min(recipe.batch_rows, len(rows) // 2))


def remove_adapter(loaded: LoadedModel, trainer) -> None:
    """Restore the base model in memory. `trainer` is TRL's, or None if llmcourse has trained."""
    if trainer is not None:
        loaded.model = trainer.model
        finetuning._unpatch(loaded.model)
    loaded.drop_adapter()


def one_label(rows: list[dict]) -> list[dict]:
    """Return eight rows of one label. With equally many tokens per label, a mean over rows is a mean over tokens."""
    return [row for row in rows if row["label"] == 1][:8]


def loss_before(way: Way, loaded: LoadedModel, rows: list[dict]) -> float:
    """Return the loss of the untrained adapter on `one_label(rows)`, computed by this side's own trainer.

    Ours uses TRL's loss here, because the others don't have the label loss.
    """
    rows, trainer = one_label(rows), None
    with tempfile.TemporaryDirectory() as folder:
        if way.train is ours:
            losses: list[float] = []
            still = way.recipe.changed(epochs=1, batch_rows=len(rows), warmup=0.0, lm_weight=1.0)
            finetuning.finetune(loaded, SARCASM, rows, still, folder, progress=lambda *at: losses.append(at[2]))
            loss = losses[-1]
        else:
            trainer = way.train(loaded, rows, way.recipe, folder)
            columns = ("input_ids", "labels")
            batch = trainer.data_collator([{k: row[k] for k in columns if k in row} for row in trainer.train_dataset])
            loss = float(trainer.compute_loss(trainer.model, batch))
    remove_adapter(loaded, trainer)
    return loss


def product_rate(rows: int = 1024) -> float:
    """Return how many floating-point operations per second the embedded model's matrix products reach now."""
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


def first_rows(count: int) -> list[dict]:
    """Return so many training rows of the bundled corpus."""
    return list(data.load(SARCASM).train)[:count]


def find_out(name: str, count: int) -> dict[str, Any]:
    """Return what is needed of a side besides its time: its loss before training, the fastest micro-batch if it is
    looked for, and its floating-point operations. In a process of its own, it leaves no trace in the peak memory."""
    way, loaded, rows = WAYS[name], models.load(), first_rows(count)
    with as_it_comes(loaded if way.plain else None):
        found: dict[str, Any] = {"loss_before": round(loss_before(way, loaded, rows), 5)}
    how: dict[str, int] = {}
    if way.tuned:
        few = rows[:32]
        sizes = [size for size in MICRO_BATCHES if size <= small_enough(way.recipe, few).batch_rows]
        best, tried = fastest(sizes, few, lambda size: run(way, loaded, few, 1, micro_batch=size))
        how = {"micro_batch": best}
        found |= {**how, "micro_batches_rows_per_second": tried}
    return found | {"operations": operations(way, loaded, rows, **how)}


def side(name: str, count: int, micro_batch: int | None) -> dict[str, Any]:
    """Train one side once in this process, on `count` rows of the bundled corpus."""
    import resource

    import torch
    import trl as trl_library

    import llmcourse.training.trainer  # import now, so that it is not timed

    del trl_library, llmcourse
    way, loaded, rows = WAYS[name], models.load(), first_rows(count)
    seconds = run(way, loaded, rows, way.epochs, **({"micro_batch": micro_batch} if way.tuned else {}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with as_it_comes(loaded if way.plain else None):
        rate = product_rate()
    return {
        "seconds": round(seconds, 2),
        "peak_memory_gib": round(peak, 2),
        "product_gflop_per_second": round(rate / 1e9, 1),
        "threads": torch.get_num_threads(),
    }


def operations(way: Way, loaded: LoadedModel, rows: list[dict], **how: Any) -> int:
    """Return the floating-point operations of a side's training: counted on a few rows, scaled to all by tokens."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run(way, loaded, rows[:COUNTED_ROWS], way.epochs, **how)
    lengths = token_counts(loaded, rows)
    return round(counter.get_total_flops() * sum(lengths) / sum(lengths[:COUNTED_ROWS]))


def token_counts(loaded: LoadedModel, rows: list[dict]) -> list[int]:
    """Return the number of tokens of each training text, with its end and without padding."""
    examples, _ = training_rows(loaded, SARCASM, rows, QUICK)
    return [len(loaded.tokenizer(example["prompt"] + example["completion"]).input_ids) + 1 for example in examples]


def litgpt(python: str, loaded: LoadedModel, rows: list[dict]) -> dict[str, Any]:
    """Measure litgpt in its own environment, on the same texts, with the talk's adapter and no dropout."""
    examples, _ = training_rows(loaded, SARCASM, rows, QUICK)
    check, _ = training_rows(loaded, SARCASM, one_label(rows), QUICK)
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
        return _last_line([python, str(Path(__file__).with_name("litgpt_lora.py")), str(order)])


def summary(name: str, known: dict, rounds: dict[str, list[dict]], rows: int, tokens: int) -> dict[str, Any]:
    """Return what is known of a side and what all rounds measured: rates, memory, the share of the matrix-product rate,
    and the ratio to the side of ours that is like it, round by round."""
    runs, epochs = rounds[name], WAYS[name].epochs if name in WAYS else 1
    seconds = [one["seconds"] for one in runs]
    result = {
        **known,
        "epochs": epochs,
        "seconds": seconds,
        "rows_per_second": spread([rows * epochs / value for value in seconds]),
        "tokens_per_second": spread([tokens * epochs / value for value in seconds]),
        "peak_memory_gib": max(one["peak_memory_gib"] for one in runs),
        "threads": runs[0]["threads"],
    }
    if "operations" in result:
        rates = [one["product_gflop_per_second"] for one in runs]
        shares = [result["operations"] / value / rate / 1e9 for value, rate in zip(seconds, rates, strict=True)]
        result |= {"product_gflop_per_second": spread(rates), "share_of_product_rate": spread(shares)}
    if name in LIKE:
        ratios = [value / ours["seconds"] for value, ours in zip(seconds, rounds[LIKE[name]], strict=True)]
        result |= {"against": LIKE[name], "times_slower": spread(ratios)}
    return result


def check_losses(known: dict[str, dict]) -> dict[str, float]:
    """Return the losses before training of the sides that learn the label only. Raises CourseError if they differ."""
    losses = {name: found["loss_before"] for name, found in known.items() if name != "TRL as in the talk"}
    if max(losses.values()) - min(losses.values()) > LOSS_TOLERANCE:
        raise CourseError(f"The sides do not start with the same loss, so they do different work: {losses}")
    return losses


def _last_line(command: Sequence[str]) -> dict[str, Any]:
    """Run a process and return its last line, which is JSON. Raises CourseError with its errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CourseError(f"{' '.join(command[:4])} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> dict | None:
    chosen = options(
        __doc__,
        arguments,
        rows=(80, 4, "training rows"),
        rounds=(3, 1, "times that each side trains"),
        litgpt=(str, "the Python of an environment that has litgpt"),
        side=(str, "train this side once, in this process"),
        size=(str, "its rows at once, if it is one of TRL at its best"),
        about=(str, "find out about this side what has nothing to do with time, in this process"),
    )
    if chosen.side:
        print(json.dumps(side(chosen.side, chosen.rows, chosen.size and int(chosen.size))))
        return None
    if chosen.about:
        print(json.dumps(find_out(chosen.about, chosen.rows)))
        return None
    loaded, rows = models.load(), first_rows(chosen.rows)
    this = [sys.executable, __file__, "--rows", str(chosen.rows)]
    known = {name: _last_line([*this, "--about", name]) for name in WAYS}
    check_losses(known)
    rounds: dict[str, list[dict]] = {name: [] for name in [*WAYS, *([LITGPT] if chosen.litgpt else [])]}
    for number in range(chosen.rounds):
        for turn in range(len(rounds)):
            name = list(rounds)[(number + turn) % len(rounds)]
            if name == LITGPT:
                rounds[name].append(litgpt(chosen.litgpt, loaded, rows))
                known[name] = {"loss_before": rounds[name][-1]["loss_before"]}
                check_losses(known)
            else:
                size = ["--size", str(known[name]["micro_batch"])] if WAYS[name].tuned else []
                rounds[name].append(_last_line([*this, "--side", name, *size]))
            print(f"round {number + 1}, {name}: {rounds[name][-1]['seconds']:.1f} s", flush=True)
    lengths = token_counts(loaded, rows)
    results = {
        **about(loaded),
        "work": {"rows": len(rows), "tokens_per_row": round(sum(lengths) / len(lengths), 1)},
        "agree": {"rows": len(one_label(rows)), "loss_before": check_losses(known)},
        "sides": {name: summary(name, known[name], rounds, len(rows), sum(lengths)) for name in rounds},
    }
    return finish("finetuning", results, chosen)


if __name__ == "__main__":
    main()
