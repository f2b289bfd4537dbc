"""Rows + recipe + model -> adapter. With `trainer`, the only module that knows TRL.

The learner sees the real objects: `lora_config` and `sft_config` return PEFT's and TRL's own configurations, and
`finetune` hands them to TRL's SFTTrainer, whose loss `llmcourse.training.trainer` computes in its own way.
"""

import contextlib
import math
import re
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmcourse._base import files, hardware, processes
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.data.texts import MAX_CHARACTERS
from llmcourse.models import LoadedModel
from llmcourse.models.catalogue import lora_targets
from llmcourse.predict import encode_text, render
from llmcourse.predict.prompts import Prompt
from llmcourse.training import planner
from llmcourse.training.recipes import Recipe


@dataclass
class TrainingRun:
    """What a finetuning run leaves besides the adapter on the model."""

    losses: list[float] = field(default_factory=list)
    """Loss of each optimiser step: mean over its rows of the mean over their labelled tokens, in nats."""
    seconds: float = 0.0
    """Wall time of training, with what an interrupted run used up to the checkpoint that it went on from."""
    steps: int = 0
    rows: int = 0
    cut_rows: int = 0
    """Rows whose text was shortened to fit the recipe's max_length."""
    trainable: int = 0
    """Trained parameters."""
    resumed_from: int = 0
    """The optimiser step at which the run went on; 0 from the start."""
    micro_rows: int = 0
    """Rows that went through the model at once."""
    checkpointing: bool = False
    """Whether activations were recomputed in the backward pass."""
    notes: list[str] = field(default_factory=list)
    """What memory forced upon the run, a sentence each."""
    weights: dict | None = None
    """All weights, gathered in the main process, where the model is spread over GPUs (FSDP); else they are on the model."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM, after a checkpoint was written."""


def training_prompt(task: Task, recipe: Recipe) -> Prompt:
    """The prompt on which the recipe trains, and which its adapter expects."""
    return Prompt(task, instruction=recipe.instruction)


def lora_config(recipe: Recipe, config=None):
    """PEFT's LoraConfig with the recipe's numbers, for a model with this transformers `config`.

    The config is needed for what depends on the model: the names of fused matrices (Phi-3), and which layers are the upper ones.
    Raises CourseError for lm_head, and for more upper layers than there are.
    """
    from peft import LoraConfig

    refuse_lm_head(recipe)
    upper = None
    if recipe.upper_layers is not None:
        layers = config.num_hidden_layers if config else 0
        if recipe.upper_layers > layers:
            raise CourseError(f"upper_layers={recipe.upper_layers}, but the model has {layers} layers.")
        upper = list(range(layers - recipe.upper_layers, layers))
    return LoraConfig(
        layers_to_transform=upper,
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=lora_targets(config.model_type if config else "llama", recipe.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def refuse_lm_head(recipe: Recipe) -> None:
    """Raise CourseError for a recipe that wants an adapter on the output matrix, as the talk's did."""
    if "lm_head" in recipe.target_modules:
        raise CourseError(
            "lm_head is no target here: TRL computes the loss from its weight, so an adapter would never be trained, and every"
            " checkpoint would hold the whole matrix. Leave it out of target_modules."
        )


def sft_config(recipe: Recipe, output_dir: str | Path, accumulation: int = 1):
    """TRL's SFTConfig with the recipe's numbers, for this machine.

    `accumulation` micro-batches in each process make one optimiser step; see `accumulation_steps`.
    """
    from trl import SFTConfig

    machine = hardware.detect()
    schedule = "constant_with_warmup" if recipe.scheduler == "constant" and recipe.warmup else recipe.scheduler
    with warnings.catch_warnings():
        # gradient_checkpointing has a new name in transformers 5.23, which 5.15 (on Colab) does not know yet
        warnings.simplefilter("ignore", FutureWarning)
        return SFTConfig(
            output_dir=str(output_dir),
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_rows // (accumulation * processes.count()),
            gradient_accumulation_steps=accumulation,
            train_sampling_strategy="batch_rebalance",  # similar lengths together; goes on exactly after a resume
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=schedule,
            warmup_steps=recipe.warmup,  # below 1 it is a share of all steps
            adam_beta2=recipe.beta2,
            weight_decay=recipe.weight_decay,
            optim=recipe.optimizer,
            use_cpu=machine.device == "cpu",
            bf16=machine.dtype == "bfloat16",  # left to itself, TRL takes bf16 wherever torch emulates it
            fp16=machine.dtype == "float16",
            gradient_checkpointing=recipe.checkpointing,
            max_length=None,  # rows are cut before: TRL would cut the label, or drop the row silently
            logging_steps=1,
            logging_nan_inf_filter=False,  # a loss that is not a number shall be seen
            save_steps=recipe.save_steps,
            save_total_limit=2,
            disable_tqdm=True,
            ddp_find_unused_parameters=False,  # every adapter is part of every step
            ddp_broadcast_buffers=False,  # there are none that training changes
            dataloader_pin_memory=machine.device != "cpu",
            seed=recipe.seed,
        )


def training_rows(loaded: LoadedModel, task: Task, rows: Sequence[dict], recipe: Recipe) -> tuple[list[dict], int]:
    """Prompt/completion rows for TRL, and how many were cut to the recipe's max_length.

    The completion starts with the space that separates it from the prompt, so that prompt and answer meet at a token boundary;
    TRL adds the end-of-text token.
    """
    prompt = training_prompt(task, recipe)
    longest_answer = max(len(loaded.tokenizer(prompt.answer(label)).input_ids) for label in range(len(task.labels))) + 2
    room = recipe.max_length - longest_answer
    result, cut = [], 0
    for row in rows:
        text = render(loaded.tokenizer, prompt, row)
        if len(encode_text(loaded.tokenizer, prompt, [text])[0]) > room:
            text, cut = _cut(loaded, prompt, row, room), cut + 1
        result.append({"prompt": text, "completion": prompt.answer(row["label"])})
    return result, cut


def _cut(loaded: LoadedModel, prompt: Prompt, row: dict, room: int) -> str:
    """The prompt with each field cut to the longest common number of characters that fits `room` tokens."""
    low, high, best = 0, MAX_CHARACTERS, None
    while low <= high:
        middle = (low + high) // 2
        short = {column: str(row[column])[:middle] for column in prompt.task.fields}
        text = render(loaded.tokenizer, prompt, short)
        if len(encode_text(loaded.tokenizer, prompt, [text])[0]) <= room:
            best, low = text, middle + 1
        else:
            high = middle - 1
    if best is None:
        raise CourseError(
            f"The training prompt alone is longer than max_length, which leaves it {room} tokens. Raise it."
        )
    return best


def accumulation_steps(lengths: Sequence[int], recipe: Recipe) -> int:
    """Micro-batches an optimiser step in each process, so that none holds more than the recipe's padded tokens.

    `batch_rebalance` deals a step's rows into groups of similar length and cost; how large the largest gets is found by
    dealing all epochs as the trainer will. Two processes with half as many micro-batches each are dealt the same groups as one. (If
    an epoch's last step has fewer rows than there are micro-batches, those of all processes together, the sampler fills it up with rows
    of the same epoch.) Raises CourseError when a single row is too long, or a step's rows are not so many for each process.
    """
    from transformers.trainer_pt_utils import BatchRebalanceSampler

    if max(lengths) > recipe.micro_batch_tokens:
        raise CourseError(
            f"A training row of {max(lengths)} tokens does not fit micro_batch_tokens={recipe.micro_batch_tokens}. Lower max_length."
        )
    rows = rows_a_process(recipe)
    divisors = [n for n in range(1, rows + 1) if rows % n == 0]
    for accumulation in divisors:
        # all groups of a step, whichever process gets them
        groups = accumulation * processes.count()
        sampler = BatchRebalanceSampler(list(lengths), recipe.batch_rows, 1, groups, drop_last=False)
        largest = 0
        for epoch in range(math.ceil(recipe.epochs)):
            sampler.set_epoch(epoch)
            largest = max(largest, *(len(group) * max(lengths[i] for i in group) for group in sampler))
        if largest <= recipe.micro_batch_tokens:
            return accumulation
    return rows


def rows_a_process(recipe: Recipe) -> int:
    """A step's rows, divided among the processes. Raises CourseError when they cannot be."""
    rows, left = divmod(recipe.batch_rows, processes.count())
    if left:
        raise CourseError(
            f"batch_rows={recipe.batch_rows} cannot be divided among {processes.count()} processes. Use a multiple of"
            f" {processes.count()}: --set batch_rows={recipe.batch_rows - left or processes.count()}."
        )
    return rows


def finetune(
    loaded: LoadedModel,
    task: Task,
    rows: Sequence[dict],
    recipe: Recipe,
    folder: str | Path,
    resume: bool = True,
    progress: Callable[[int, int, float | None], None] | None = None,
) -> TrainingRun:
    """Train a LoRA adapter on `rows`; it stays on `loaded`, switched on, in evaluation mode.

    Checkpoints go to `folder` and stay there; whoever has saved the adapter may remove them. With `resume` a run that was
    interrupted goes on where its last whole checkpoint left it, and ends with the adapter that it would have had. When a GPU's
    memory does not suffice, fewer rows go through the model at once, in more micro-batches a step: see `fitting`.
    `progress(step, steps, loss)` is called when training proper begins (with the loss None) and after each optimiser step.

    Raises Interrupted after Ctrl-C (a checkpoint is written first), CourseError if training broke down.
    """
    import transformers
    from datasets import Dataset, disable_progress_bars, enable_progress_bars
    from datasets.utils.logging import is_progress_bar_enabled

    refuse_lm_head(recipe)
    if processes.sharded() and recipe.upper_layers is not None:
        raise CourseError("FSDP spreads all layers over the GPUs. Train on all: --set upper_layers=None.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    loaded.drop_adapter()
    examples, cut = training_rows(loaded, task, rows, recipe)
    lengths = [len(loaded.tokenizer(e["prompt"] + e["completion"]).input_ids) + 1 for e in examples]
    run = TrainingRun(rows=len(examples), cut_rows=cut)
    micro_rows = rows_a_process(recipe) // accumulation_steps(lengths, recipe)
    if not resume:
        processes.from_main(lambda: _remove_checkpoints(folder))
    bars = is_progress_bar_enabled()
    disable_progress_bars()

    def attempt(recipe: Recipe, micro_rows: int) -> TrainingRun:
        transformers.set_seed(recipe.seed)
        dataset = Dataset.from_list(examples)
        return _train(loaded, task, rows, dataset, recipe, micro_rows, folder, run, stop, progress)

    try:
        with processes.keeping(lambda: _kept(folder, recipe)), _stop_gently() as stop:
            if processes.count() > 1:
                return together(attempt, recipe, micro_rows)
            return fitting(attempt, recipe, micro_rows, run, loaded, max(lengths))
    finally:
        if bars:
            enable_progress_bars()


def together(attempt, recipe: Recipe, micro_rows: int) -> TrainingRun:
    """`attempt` beside other processes: one that runs out of memory cannot try again alone, while the others wait for it."""
    import torch

    try:
        return attempt(recipe, micro_rows)
    except torch.OutOfMemoryError:
        raise CourseError(
            f"Out of GPU memory with {micro_rows} row{'s' * (micro_rows > 1)} at once in each process. Start again with"
            f" --set micro_batch_tokens={max(1, recipe.micro_batch_tokens // 2)}, or --set checkpointing=True."
        ) from None


def fitting(
    attempt, recipe: Recipe, micro_rows: int, run: TrainingRun, loaded: LoadedModel, length: int
) -> TrainingRun:
    """Call `attempt(recipe, micro_rows)`; as often as the GPU's memory does not suffice, try again with less at once.

    First with fewer rows a micro-batch and as many more micro-batches, then, from the start, with activations recomputed in the
    backward pass. The rows of an optimiser step stay the same. An attempt goes on from the checkpoints of the one before.
    Raises CourseError with the planner's advice when one row, recomputed, does not fit.
    """
    from accelerate.utils import find_executable_batch_size

    for checkpointing in sorted({recipe.checkpointing, True}):
        if checkpointing and not recipe.checkpointing:
            run.notes.append("Out of GPU memory with 1 row at once: activations are recomputed (checkpointing).")
        tried, smaller = recipe.changed(checkpointing=checkpointing), _halvings(recipe.batch_rows, micro_rows)

        def reduce(smaller=smaller) -> int:
            rows = next(smaller)
            if rows:
                run.notes.append(f"Out of GPU memory: {rows} row{'s' * (rows > 1)} at once.")
            return rows

        def once(batch_size: int, tried=tried) -> TrainingRun:
            return attempt(tried, batch_size)

        try:
            return find_executable_batch_size(once, starting_batch_size=micro_rows, reduce_batch_size_fn=reduce)()
        except RuntimeError as error:
            if "No executable batch size" not in str(error):
                raise
    gpu_gib = hardware.detect().gpu_gib or planner.T4_GIB
    advice = planner.advice(loaded.name, recipe.changed(checkpointing=True), length, gpu_gib)
    raise CourseError(f"Not even one row of {length} tokens fits the GPU's memory. {advice}")


def _halvings(batch_rows: int, micro_rows: int) -> Iterator[int]:
    """Smaller and smaller micro-batches of which whole numbers make the batch; 0 at the end."""
    while micro_rows > 1:
        micro_rows = next(n for n in range(micro_rows // 2, 0, -1) if batch_rows % n == 0)
        yield micro_rows
    yield 0


def _train(loaded, task, rows, dataset, recipe, micro_rows, folder, run, stop, progress) -> TrainingRun:
    """One attempt of `finetune`, from the last whole checkpoint to the end; it fills in `run`."""
    import torch
    import transformers

    from llmcourse.training.trainer import LabelTrainer

    checkpoint = processes.from_main(lambda: _start_from(folder))
    start, before = time.perf_counter(), _seconds_before(checkpoint)
    trainer = None
    try:
        try:
            trainer = LabelTrainer(
                model=loaded.model,
                args=sft_config(recipe, folder, rows_a_process(recipe) // micro_rows),
                train_dataset=dataset,
                processing_class=loaded.tokenizer,
                peft_config=lora_config(recipe, loaded.model.config),
                callbacks=[_callback(stop, progress, lambda: time.perf_counter() - start + before)],
            )
        except ValueError as error:
            raise CourseError(f"The recipe {recipe.name!r} was refused: {error}") from error
        trainer.remove_callback(transformers.PrinterCallback)
        full_precision_adapter(trainer.model)
        _check_rows(trainer, loaded.tokenizer, task, rows)
        if recipe.upper_layers is not None:
            trainer.freeze_below(loaded.model.config.num_hidden_layers - recipe.upper_layers)
        run.micro_rows, run.checkpointing = micro_rows, recipe.checkpointing
        run.trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        if not run.trainable:
            raise CourseError("Nothing would be trained: no part of the adapter takes gradients.")
        run.resumed_from = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
        with files.full_disk_told(folder):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        run.steps = trainer.state.global_step
        run.seconds = time.perf_counter() - start + before
        run.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        if stop.is_set() and run.steps < trainer.state.max_steps:
            raise Interrupted(f"Stopped after step {run.steps} of {trainer.state.max_steps}; a checkpoint is kept.")
        if trainer.is_fsdp_enabled:
            run.weights = trainer.accelerator.get_state_dict(trainer.model)
            trainer.model = trainer.accelerator.unwrap_model(trainer.model)
        _check_learned(dict(trainer.model.named_parameters()) if run.weights is None else run.weights)
    except BaseException as error:
        # PEFT puts its layers into the base model itself: take them out, so that the model in memory is the base again
        if trainer is not None:
            loaded.model = trainer.model
            _unpatch(trainer.model)
        if hasattr(loaded.model, "unload"):
            loaded.model = loaded.model.unload()
        loaded.model.gradient_checkpointing_disable()
        loaded.model.eval()
        if isinstance(error, torch.OutOfMemoryError):
            # the traceback would keep the trainer, and with it what filled the memory
            raise error.with_traceback(None) from None
        raise
    _unpatch(trainer.model)
    loaded.model = trainer.model.eval()
    return run


def _callback(stop: threading.Event, progress, seconds: Callable[[], float]):
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        """Reports steps, stops on request, and marks checkpoints as whole."""

        def on_train_begin(self, args, state, control, **kwargs):
            if progress:
                progress(state.global_step, state.max_steps, None)

        def on_log(self, args, state, control, logs=None, **kwargs):
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            if not math.isfinite(loss):
                raise CourseError(
                    f"The loss is {loss} at step {state.global_step}: training broke down. Lower the learning rate; on a GPU before"
                    " Ampere look for a model that overflows float16."
                )
            if progress:
                progress(state.global_step, state.max_steps, loss)

        def on_step_end(self, args, state, control, **kwargs):
            if any(processes.gather(stop.is_set())):  # all stop after the same step
                stop.set()
                control.should_save = control.should_training_stop = True

        def on_save(self, args, state, control, **kwargs):
            processes.gather(None)  # each process has put its random state there
            if processes.is_main():
                files.seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", seconds=seconds())

    return Watch()


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints that were written to their end, newest first. One without a seal was cut short."""
    found = Path(folder).glob(f"checkpoint-*/{files.SEAL}")
    return sorted((seal.parent for seal in found), key=lambda path: -int(re.sub(r"\D", "", path.name) or 0))


def last_checkpoint(folder: str | Path) -> Path | None:
    """The newest checkpoint that is as it was written; None if there is none. A damaged one is set aside, and files.Damaged says so."""
    for path in checkpoints(folder):
        damage = files.damage(path)
        if not damage:
            return path
        files.set_aside(path, damage, "Training goes on from the checkpoint before it, or anew if there is none.")
    return None


def _kept(folder: Path, recipe: Recipe) -> str:
    """What an interrupted training goes on from, as a sentence."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return f"No checkpoint was written yet (there is one every {recipe.save_steps} steps)."
    return f"The checkpoint of step {checkpoint.name.rsplit('-', 1)[1]} is kept."


def _start_from(folder: Path) -> Path | None:
    """The checkpoint to go on from; what was cut short in writing is removed."""
    for cut_short in set(folder.glob("checkpoint-*")) - set(checkpoints(folder)):
        shutil.rmtree(cut_short, ignore_errors=True)
    return last_checkpoint(folder)


def _seconds_before(checkpoint: Path | None) -> float:
    """Training time up to a checkpoint, as its seal says."""
    return files.sealed(checkpoint)["seconds"] if checkpoint else 0.0


def _remove_checkpoints(folder: Path) -> None:
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)
    for leftover in ("README.md", "training_args.bin"):
        (folder / leftover).unlink(missing_ok=True)


@contextlib.contextmanager
def _stop_gently() -> Iterator[threading.Event]:
    """While the block runs, the first Ctrl-C or SIGTERM asks for a stop after the step; a second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number, frame):
        # a launcher repeats to its processes what the terminal has told them
        if stop.is_set() and processes.count() == 1:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def full_precision_adapter(model) -> None:
    """Adapters in float32: TRL casts them to bfloat16 on a quantised model, and fp16 training cannot unscale that."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _check_rows(trainer, tokenizer, task: Task, rows: Sequence[dict]) -> None:
    """Refuse rows from which nothing, or the wrong thing, would be learned: what TRL made of them is looked at, row by row."""
    dataset, bos = trainer.train_dataset, tokenizer.bos_token_id
    if len(dataset) != len(rows):
        raise CourseError(f"Of {len(rows)} training rows TRL kept {len(dataset)}.")
    for number, (row, ids, labels) in enumerate(zip(rows, dataset["input_ids"], dataset["labels"], strict=True)):
        learned = [token for token in labels if token != -100]
        if not learned or learned[-1] != tokenizer.eos_token_id:
            raise CourseError(
                f"Training row {number} does not end with a labelled end-of-text token; the model would never learn to stop."
            )
        text, wanted = tokenizer.decode(learned[:-1]).strip(), task.labels[row["label"]]
        if text != wanted:
            raise CourseError(f"Training row {number} would teach {text!r}; its label is {wanted!r}.")
        if bos is not None and list(ids[:2]) == [bos, bos]:
            raise CourseError(f"Training row {number} begins with two beginning-of-text tokens; the model knows one.")


def _check_learned(weights: Mapping) -> None:
    """Refuse a run that trained nothing, or only a part: the adapter's B matrices start at zero, and none must still be there."""
    second = {name: p for name, p in weights.items() if "lora_B" in name}
    zero = [name for name, p in second.items() if not bool(p.detach().abs().max() > 0)]
    if second and len(zero) == len(second):
        raise CourseError("The adapter is still zero after training: it changed nothing. Is the learning rate 0?")
    if zero:
        raise CourseError(
            f"{len(zero)} of the adapter's {len(second)} matrices B are still zero after training, first {zero[0]}: no gradient"
            " reached them. Leave these target_modules out."
        )


def _unpatch(model) -> None:
    """Give the base model its own forward() back: TRL replaces it on the instance, once a trainer."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.__dict__.pop("forward", None)
