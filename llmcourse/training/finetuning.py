"""Rows + recipe + model -> adapter. With `trainer` and `callbacks`, the only module that runs TRL.

`finetune` prepares the rows, then makes one attempt after the other until one fits the GPU's memory. An attempt hands
the rows to TRL's SFTTrainer, whose loss `trainer.LabelTrainer` computes in its own way.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base import files, hardware
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task
from llmcourse.models import catalogue
from llmcourse.models.loading import LoadedModel
from llmcourse.predict import Prompt, label_tokens, score
from llmcourse.training import checks, planner
from llmcourse.training.batches import MOST_TOKENS, process_count, rows_per_process
from llmcourse.training.checkpoints import remove_checkpoints, resume_from, seconds_before, skipped_before, step_of
from llmcourse.training.configs import lora_config, sft_config, training_prompt
from llmcourse.training.examples import hold_out, token_lengths, training_rows
from llmcourse.training.recipes import Recipe

if TYPE_CHECKING:
    from llmcourse.training.callbacks import Progress, Watch
    from llmcourse.training.trainer import LabelTrainer


@dataclass(frozen=True)
class TrainingRun:
    """What a finetuning run leaves besides the adapter on the model."""

    losses: list[float]
    """Loss of each optimiser step: mean over its rows, in nats (see `Recipe.lm_weight`)."""
    seconds: float
    """Wall time of training, including what an interrupted run used up to the checkpoint it resumed from."""
    steps: int
    skipped_steps: int
    """Steps that changed nothing, because their gradients overflowed float16."""
    rows: int
    held_out: int
    """Rows that were not trained on, but scored after each epoch."""
    validation: list[dict[str, float]]
    """After each epoch: its number, and the held-out rows' "loss" (of the choice, in nats) and "accuracy"."""
    cut_rows: int
    """Rows whose texts were cut to fit max_length."""
    max_length: int
    """Most tokens of a row and its answer."""
    trainable: int
    """Trained parameters."""
    resumed_from: int
    """The optimiser step at which the run resumed; 0 for a run from the start."""
    micro_rows: int
    """The most rows that went through the model at once; 0 if a resumed run had no step left."""
    micro_tokens: int
    """The most padded tokens that went through the model at once."""
    processes: int
    checkpointing: bool
    """Whether activations were recomputed in the backward pass."""
    notes: list[str] = field(default_factory=list)
    """What little GPU memory or float16 forced upon the run, a sentence each."""

    def as_dict(self) -> dict[str, Any]:
        """Return the run as an adapter's card and a results file hold it."""
        return {**self.__dict__, "losses": [round(loss, 5) for loss in self.losses]}


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM, after a checkpoint was written."""


@dataclass
class _Job:
    """What all attempts of one finetuning run share."""

    loaded: LoadedModel
    task: Task
    rows: Sequence[Mapping]
    held_out: Sequence[Mapping]
    examples: list[dict[str, str]]
    cut_rows: int
    folder: Path
    stop: threading.Event
    progress: "Progress | None"
    notes: list[str] = field(default_factory=list)

    def attempt(self, recipe: Recipe, most_tokens: int) -> TrainingRun:
        """Train from the last whole checkpoint to the end, with at most so many padded tokens at once."""
        import torch
        from accelerate import PartialState

        from llmcourse.training.callbacks import Watch

        # 1. Find where to resume
        with PartialState().main_process_first():
            checkpoint = resume_from(self.folder)
        start = time.perf_counter() - seconds_before(checkpoint)
        watch = Watch(self.stop, self.progress, lambda: time.perf_counter() - start, skipped_before(checkpoint))
        trainer = None
        try:
            # 2. Build TRL's trainer, and look at what it would learn
            trainer = self._trainer(recipe, most_tokens, watch)
            checks.check_plain(trainer.adapted.peft_config["default"])
            checks.check_rows(trainer.train_dataset, self.loaded, training_prompt(self.task, recipe), self.rows)
            trainable = sum(p.numel() for p in trainer.adapted.parameters() if p.requires_grad)
            checks.check_trainable(trainable)
            # 3. Train
            with files.report_full_disk(self.folder):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            state = trainer.state
            if self.stop.is_set() and state.global_step < state.max_steps:
                raise Interrupted(f"Stopped after step {state.global_step} of {state.max_steps}; a checkpoint is kept.")
            # 4. Look at what it learned
            if self.held_out and not (state.best_model_checkpoint and Path(state.best_model_checkpoint).is_dir()):
                # TRL only logs this, and goes on with the last epoch
                raise CourseError(
                    f"The checkpoint of the best epoch is missing in {self.folder}. Delete this folder and train again."
                )
            checks.check_learned(dict(trainer.adapted.named_parameters()))
        except BaseException as error:
            self._take_apart(trainer)
            if isinstance(error, torch.OutOfMemoryError):
                # the traceback would keep the trainer, and with it what filled the memory
                raise error.with_traceback(None) from None
            raise
        _unpatch(trainer.adapted)
        self.loaded.model = trainer.adapted.eval()
        # a model that still recomputes activations in a later run would be slower without having been asked to
        self.loaded.model.gradient_checkpointing_disable()
        notes = list(self.notes)
        if watch.skipped:
            notes.append(
                f"{watch.skipped} of {state.global_step} steps were skipped: their gradients overflowed float16."
            )
        return TrainingRun(
            losses=[entry["loss"] for entry in state.log_history if "loss" in entry],
            seconds=time.perf_counter() - start,
            steps=state.global_step,
            skipped_steps=watch.skipped,
            rows=len(self.examples),
            held_out=len(self.held_out),
            validation=[
                {"epoch": entry["epoch"], "loss": entry["eval_loss"], "accuracy": entry["eval_accuracy"]}
                for entry in state.log_history
                if "eval_loss" in entry
            ],
            cut_rows=self.cut_rows,
            max_length=recipe.max_length,
            trainable=trainable,
            resumed_from=step_of(checkpoint) if checkpoint else 0,
            micro_rows=trainer.micro_rows,
            micro_tokens=trainer.micro_tokens,
            processes=process_count(),
            checkpointing=recipe.checkpointing,
            notes=notes,
        )

    def _trainer(self, recipe: Recipe, most_tokens: int, watch: "Watch") -> "LabelTrainer":
        """Return a trainer with a fresh adapter on the model."""
        import transformers
        from datasets import Dataset

        from llmcourse.training.trainer import LabelTrainer

        transformers.set_seed(recipe.seed)
        try:
            trainer = LabelTrainer(
                model=self.loaded.model,
                args=sft_config(recipe, self.folder, self.loaded.dtype),
                train_dataset=Dataset.from_list(self.examples),
                eval_dataset=Dataset.from_list(self.examples[:1]) if self.held_out else None,  # `validate` scores
                processing_class=self.loaded.tokenizer,
                peft_config=lora_config(recipe, self.loaded.model.config),
                callbacks=[watch],
            )
        except ValueError as error:
            raise CourseError(f"The recipe {recipe.name!r} was refused: {error}") from error
        trainer.most_tokens, trainer.lm_weight = most_tokens, recipe.lm_weight
        prompt = training_prompt(self.task, recipe)
        trainer.label_tokens = label_tokens(self.loaded, prompt)
        trainer.validate = lambda: self._validate(replace(self.loaded, model=trainer.adapted), prompt)
        trainer.remove_callback(transformers.PrinterCallback)
        full_precision_adapter(trainer.adapted)
        if recipe.upper_layers is not None and self.loaded.shares:
            trainer.freeze_below(recipe.adapted_layers(self.loaded.model.config.num_hidden_layers).start)
        return trainer

    def _validate(self, trained: LoadedModel, prompt: Prompt) -> dict[str, float]:
        """Return the loss of the choice and the accuracy on the held-out rows, by the names that the Trainer wants."""
        scored = score(trained, prompt, self.held_out)
        labels = [row["label"] for row in self.held_out]
        losses = [-logprobs[label] for logprobs, label in zip(scored.logprobs, labels, strict=True)]
        right = sum(a == b for a, b in zip(scored.labels, labels, strict=True))
        return {"eval_loss": sum(losses) / len(losses), "eval_accuracy": right / len(labels)}

    def _take_apart(self, trainer: "LabelTrainer | None") -> None:
        """Make the model in memory the base model again: PEFT puts its layers into it."""
        if trainer is not None:
            self.loaded.model = trainer.adapted
            _unpatch(trainer.adapted)
        if hasattr(self.loaded.model, "unload"):
            self.loaded.model = self.loaded.model.unload()
        self.loaded.model.gradient_checkpointing_disable()
        self.loaded.model.eval()


def finetune(
    loaded: LoadedModel,
    task: Task,
    rows: Sequence[Mapping],
    recipe: Recipe,
    folder: str | Path,
    resume: bool = True,
    progress: "Progress | None" = None,
) -> TrainingRun:
    """Train a LoRA adapter on `rows`. It stays on `loaded`, switched on, in evaluation mode.

    Checkpoints go to `folder` and stay there; remove them once the adapter is saved. With `resume`, an interrupted run
    goes on from its last whole checkpoint and ends with the adapter it would have had. When the GPU's memory does not
    suffice, less goes through the model at once (see `fit_memory`). If the recipe holds rows out for validation, the
    adapter is that of the best epoch. `progress(step, steps, loss)` is called when
    training begins, with the loss None, and after each optimiser step.

    Raises Interrupted after Ctrl-C (a checkpoint is written first), and CourseError when training cannot work or broke
    down.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows, held_out = hold_out(task, rows, recipe)
    checks.check_steps(len(rows), recipe)
    loaded.drop_adapter()
    examples, cut_rows = training_rows(loaded, task, rows, recipe)
    longest = max(token_lengths(loaded, examples))
    most_tokens = _most_tokens(loaded, recipe, longest)
    if not resume:
        remove_checkpoints(folder)
    with _no_dataset_bars(), _stop_gently() as stop:
        job = _Job(loaded, task, rows, held_out, examples, cut_rows, folder, stop, progress)
        return fit_memory(job.attempt, recipe, most_tokens, longest, job.notes, loaded.name)


def _most_tokens(loaded: LoadedModel, recipe: Recipe, longest: int) -> int:
    """Return how many padded tokens may go through the model at once: the recipe's number, or what the GPU has room
    for.

    They are never fewer than those of the `longest` row. Raises CourseError when the recipe's are. If the model's rows
    cannot share, it is 1, with which each row goes alone and unpadded.
    """
    if recipe.micro_batch_tokens is not None:
        if longest > recipe.micro_batch_tokens:
            raise CourseError(
                f"A training row of {longest} tokens does not fit micro_batch_tokens={recipe.micro_batch_tokens}."
                f" Lower max_length, or raise it: --set micro_batch_tokens={longest}."
            )
        tokens = recipe.micro_batch_tokens
    else:
        machine = hardware.detect()
        tokens = MOST_TOKENS
        if machine.gpu_gib is not None and loaded.shares and (loaded.name in catalogue.BASES or "/" in loaded.name):
            base = catalogue.base(loaded.name)
            nf4 = getattr(loaded.model, "is_loaded_in_4bit", False)
            tokens = planner.micro_batch_tokens(base, recipe, machine.gpu_gib, dtype=machine.dtype, nf4=nf4)
    return max(longest, min(tokens, rows_per_process(recipe) * longest)) if loaded.shares else 1


def fit_memory(
    attempt: Callable[[Recipe, int], TrainingRun],
    recipe: Recipe,
    most_tokens: int,
    longest: int,
    notes: list[str],
    model: str,
) -> TrainingRun:
    """Call `attempt(recipe, most_tokens)`, and again with less at once as often as the GPU's memory does not suffice.

    First fewer padded tokens go through the model at once, down to the `longest` row's. Then, again from all,
    activations are recomputed in the backward pass. The rows of an optimiser step stay the same, and an attempt resumes
    from the checkpoints of the one before. `notes` gets a sentence for each step down.

    Raises CourseError with the planner's advice when one row, recomputed, does not fit. Beside other processes the
    first attempt decides: one process cannot try again while the others wait for it.
    """
    import torch
    from accelerate.utils import find_executable_batch_size

    if process_count() > 1:
        try:
            return attempt(recipe, most_tokens)
        except torch.OutOfMemoryError:
            raise CourseError(
                f"Out of GPU memory with {most_tokens:,} padded tokens at once in each process. Start again with"
                f" --set micro_batch_tokens={max(longest, most_tokens // 2)}, or --set checkpointing=True."
            ) from None
    for checkpointing in sorted({recipe.checkpointing, True}):
        if checkpointing and not recipe.checkpointing:
            notes.append("Out of GPU memory with one row at once: activations are recomputed (checkpointing).")
        tried, smaller = recipe.changed(checkpointing=checkpointing), _halvings(most_tokens, longest)

        def reduce(smaller: Iterator[int] = smaller) -> int:
            tokens = next(smaller)
            if tokens:
                notes.append(f"Out of GPU memory: at most {tokens:,} padded tokens at once.")
            return tokens

        def try_once(batch_size: int, tried: Recipe = tried) -> TrainingRun:
            return attempt(tried, batch_size)

        try:
            return find_executable_batch_size(try_once, starting_batch_size=most_tokens, reduce_batch_size_fn=reduce)()
        except RuntimeError as error:
            if "No executable batch size" not in str(error):
                raise
    gpu_gib = hardware.detect().gpu_gib or planner.T4_GIB
    advice = planner.advice(model, recipe.changed(checkpointing=True), longest, gpu_gib)
    raise CourseError(f"Not even one row of {longest} tokens fits the GPU's memory. {advice}")


def _halvings(tokens: int, longest: int) -> Iterator[int]:
    """Yield half as many tokens each time, down to the longest row's, then 0."""
    while tokens > longest:
        tokens = max(tokens // 2, longest)
        yield tokens
    yield 0


@contextlib.contextmanager
def _no_dataset_bars() -> Iterator[None]:
    """Hide the progress bars of `datasets` while the block runs: they last a second and clutter a notebook."""
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.utils.logging import is_progress_bar_enabled

    were_on = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if were_on:
            enable_progress_bars()


@contextlib.contextmanager
def _stop_gently() -> Iterator[threading.Event]:
    """Inside the block, the first Ctrl-C or SIGTERM asks for a stop after the step. A second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        # a launcher repeats to its processes what the terminal has told them
        if stop.is_set() and process_count() == 1:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def full_precision_adapter(model: Any) -> None:
    """Keep adapters in float32: TRL casts them to bfloat16 on a quantised model, which fp16 training cannot unscale."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _unpatch(model: Any) -> None:
    """Give the base model its own forward() back: TRL replaces it on the instance, once for each trainer."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.__dict__.pop("forward", None)
