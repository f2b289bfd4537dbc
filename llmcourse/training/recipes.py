"""Every number of a finetuning run, with its unit and its reason. A recipe is plain data: it is hashed, printed and
kept.

Presets: `QUICK` is for a laptop, `TALK` holds the talk's own numbers, `THOROUGH` and `WORKSHOP` are for a free T4.
"""

import difflib
from dataclasses import MISSING, asdict, fields, replace
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from llmcourse._base.errors import CourseError
from llmcourse._base.validation import refuse_with
from llmcourse.models.adapters import LARGEST  # what an adapter may have when it is read again

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The seven matrices of a Llama or Mistral layer: four of attention, three of the feed-forward block."""

Optimizer = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "lion_32bit",
    "lion_8bit",
    "adafactor",
    "adagrad",
    "rmsprop",
    "sgd",
]
"""transformers' names of optimisers that need no package beyond the course's."""


def _check_matrix(name: str) -> str:
    """Raise ValueError for a matrix that cannot get an adapter. Its message is shown to the user."""
    if name in ALL_LINEAR:
        return name
    raise ValueError(
        "lm_head is no target here: TRL computes the loss from its weight, so an adapter on it would never be trained,"
        " and every checkpoint would hold the whole matrix. Leave it out of target_modules."
        if name == "lm_head"
        else f"unknown matrix {name!r:.60} in target_modules; use {', '.join(ALL_LINEAR)}."
    )


Matrix = Annotated[str, AfterValidator(_check_matrix)]
Number = int | float
"""Kept as it was written: 3 stays 3, because a recipe's hash names its adapter."""
Count = Annotated[int, Field(gt=0, lt=LARGEST)]
Positive = Annotated[Number, Field(gt=0, lt=LARGEST)]
Share = Annotated[Number, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(strict=True))
class Recipe:
    """One finetuning run with LoRA. Raises CourseError for a value of the wrong type or out of range."""

    name: str
    r: Count = 16
    """Rank of the two added matrices (Hu et al. 2021, arXiv:2106.09685, section 4.1)."""
    alpha: Count = 32
    """The added product is scaled by alpha / r."""
    dropout: Share = 0.0
    """Share of the adapter's inputs set to zero during training."""
    target_modules: Annotated[tuple[Matrix, ...], Field(min_length=1)] = ALL_LINEAR
    """Names of the matrices that get an adapter."""
    upper_layers: Count | None = None
    """Put adapters on the last so many layers only; None is all, and so is more than the model has. The layers below
    then give the same output in every epoch, so they are computed once."""
    learning_rate: Positive = 2e-4
    scheduler: Literal["linear", "constant", "cosine"] = "linear"
    """How the learning rate changes after warm-up: "linear" falls to zero."""
    warmup: Share = 0.05
    """Share of the steps during which the learning rate rises."""
    beta2: Annotated[Number, Field(gt=0, lt=1)] = 0.999
    """How long Adam remembers the size of gradients: about 1 / (1 - beta2) steps. In a run of a few hundred steps,
    0.999 never forgets the large gradients of the first ones, while the model learns the answer's format."""
    weight_decay: Annotated[Number, Field(ge=0, lt=LARGEST)] = 0.0
    optimizer: Optimizer = "adamw_torch"
    epochs: Annotated[Number, Field(gt=0, le=1000)] = 3
    """How often each row is seen."""
    lm_weight: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """The share α of the language model's ordinary loss: a row's loss is (1 - α) L_CE + α L_LM. L_LM is the mean
    cross-entropy of the label's tokens and the end of the text, over the whole vocabulary: TRL's loss, with which the
    model learns to write the label and to stop. L_CE is the cross-entropy of the choice among the labels, which is what
    a classification needs: the terms are those of pattern-exploiting training (Schick and Schütze 2021,
    arXiv:2001.07676, sections 3.1 and 3.2)."""
    validation: Annotated[Number, Field(ge=0, le=0.5)] = 0.0
    """Share of the training rows that is held out, whole groups together: 0.5, 0.33, 0.25, 0.2, or the nearest of them.
    They are scored after each epoch, and the adapter of the epoch with the smallest loss of the choice is kept. 0
    trains on all rows and keeps the last one."""
    batch_rows: Count = 16
    """Rows in an optimiser step, however they are spread over micro-batches."""
    micro_batch_tokens: Count | None = None
    """Most padded tokens that go through the model at once; None is what the GPU has memory for, by the planner. Bounds
    memory and does not change results."""
    max_length: Count = 512
    """Longest prompt and answer, in tokens. Longer texts are cut at their end. The answer is never cut."""
    instruction: bool = False
    """Whether the training prompt repeats the task's instruction for every row."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: a third slower, much less memory."""
    save_steps: Count = 25
    """Optimiser steps between two checkpoints."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Draws the first A matrices, the order of the rows and the dropout."""

    _refuse = refuse_with("Recipe", lambda error: _explain(error))

    def changed(self, **values: Any) -> "Recipe":
        """Return the same recipe with other values: `QUICK.changed(r=4)`. Raises CourseError for a name that no recipe
        has."""
        known = [field.name for field in fields(self)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            guess = f" Did you mean {close[0]!r}?" if close else ""
            raise CourseError(f"A recipe has no {unknown[0]!r}.{guess} It has: {', '.join(known)}.")
        return replace(self, **values)

    def adapted_layers(self, layers: int) -> range:
        """Return the numbers of the layers that get adapters in a model with so many layers."""
        return range(max(0, layers - (self.upper_layers or layers)), layers)

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON can hold them, for hashes and cards."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


_TYPES = {
    int: "a whole number",
    Number: "a number",
    bool: "True or False",
    str: "a text",
    int | None: "a whole number (or None, {none})",
    tuple[str, ...]: "a tuple of matrices' names",
}
"""The fields' types, in the words of a message."""

_NONE = {"upper_layers": "for all layers", "micro_batch_tokens": "for what the GPU has memory for"}
"""What None means for a field that may be None."""


def _explain(error: ValidationError) -> str:
    """Return what is wrong with the first value that pydantic refuses and what would be right, in a sentence."""
    first = error.errors()[0]
    name, value = str(first["loc"][0]), first["input"]
    if first["type"] == "missing":
        return f"{name} is missing."
    if first["type"] == "literal_error":
        return f"unknown {name} {value!r:.60}; use {first['ctx']['expected'].replace(chr(39), '')}."
    examples = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
    examples |= {"target_modules": ("q_proj", "v_proj"), "upper_layers": 8, "micro_batch_tokens": 1200}
    example = f", for instance {name}={examples[name]!r}" if name in examples else ""
    limits = {
        "greater_than": "more than {gt}",
        "greater_than_equal": "{ge} or more",
        "less_than": "less than {lt:,}",
        "less_than_equal": "{le:,} or less",
    }
    if first["type"] in limits:
        limit = limits[first["type"]].format(**first.get("ctx", {}))
        return f"{name} is {value!s:.30}; it must be {limit}{example}."
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    needed = _TYPES.get(get_type_hints(Recipe)[name], "another type").format(none=_NONE.get(name))
    return f"{name}={value!r:.60} does not fit; {needed} is needed{example}."


QUICK = Recipe(
    name="quick",
    r=32,
    alpha=64,
    target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
    upper_layers=12,
    learning_rate=1e-3,
    beta2=0.95,
    epochs=6,
    lm_weight=0.1,
    micro_batch_tokens=1200,
)
"""What did best on held-out training rows, within the minutes of a demo on 2 cores (benchmarks/README.md)."""

TALK = Recipe(
    name="talk",
    r=8,
    alpha=16,
    dropout=0.05,
    learning_rate=2e-5,
    scheduler="constant",
    warmup=0.0,
    weight_decay=0.001,
    optimizer="paged_adamw_8bit",
    epochs=4,
    batch_rows=8,  # 1 row x 8 accumulation steps
    instruction=True,
    max_length=512,
)
"""The talk's numbers, as far as today's libraries take them; `TALK_NOTES` says where they do not."""

TALK_NOTES = {
    "target_modules: lm_head": (
        "refused: TRL's SFTTrainer computes the loss from lm_head.weight directly, so an adapter there would never be"
        " trained, and it raises ValueError. The other seven modules of the talk are used."
    ),
    "warmup_ratio=0.3": (
        "removed from transformers 5 (warmup_steps takes a share instead), and ignored before: the constant schedule"
        " has no warm-up."
    ),
    "overwrite_output_dir=True": "removed from transformers 5.",
    "SFTTrainer(tokenizer=, max_seq_length=, dataset_text_field=, packing=)": (
        "refused: tokenizer is processing_class now, the others moved to SFTConfig (max_seq_length as max_length)."
    ),
    "optim=paged_adamw_8bit": "needs CUDA to page; on a CPU bitsandbytes warns and keeps the states unpaged.",
    "bnb_4bit_compute_dtype=bfloat16": "emulated on a T4, and slow; float16 is the type that a T4 computes in.",
    "learning_rate=2e-5": "accepted; low for LoRA, where 1e-4 to 2e-4 is usual.",
    "loss on all tokens": "possible, but wasteful: here the loss is on label and end of text only.",
}
"""What became of the talk's other settings: refused, ignored, or accepted with a remark (checked by
tests/unit/training/test_recipes.py)."""

THOROUGH = TALK.changed(
    name="thorough",
    learning_rate=1e-4,
    scheduler="linear",
    warmup=0.05,
    dropout=0.0,
    optimizer="adamw_torch",
    lm_weight=0.1,
)
"""The talk's rank, alpha, batch and epochs with a learning rate that suits LoRA and the loss of `QUICK`, for a T4 with
time. Adam's moments are in float32 on the GPU: for these adapters they take 168 MB, so 8 bits and paging would gain
nothing."""

WORKSHOP = THOROUGH.changed(
    name="workshop", learning_rate=2e-4, epochs=1, instruction=False, max_length=256, save_steps=10
)
"""A T4 in a workshop: each row once, and a short prompt. By the planner's estimate, 12 minutes at most for 1,000
rows."""

RECIPES = {recipe.name: recipe for recipe in (QUICK, TALK, THOROUGH, WORKSHOP)}
