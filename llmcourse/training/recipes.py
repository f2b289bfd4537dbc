"""Every number of a finetuning run, with its unit and its reason. A recipe is plain data: it is hashed, printed and kept.

Presets: `QUICK` is what this course trains on a laptop, `FEW` the same for a few hundred rows, `TALK` holds the talk's own numbers, `THOROUGH` and `WORKSHOP` are for a free T4.
"""

from dataclasses import asdict, dataclass, fields, replace

from llmcourse._base.errors import CourseError

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The seven matrices of a Llama or Mistral layer: four of attention, three of the feed-forward block."""


@dataclass(frozen=True)
class Recipe:
    """One finetuning run with LoRA. Raises CourseError for numbers that cannot work."""

    name: str
    r: int = 16
    """Rank of the two added matrices (Hu et al. 2021, arXiv:2106.09685, section 4.1)."""
    alpha: int = 32
    """The added product is scaled by alpha / r."""
    dropout: float = 0.0
    """Share of the adapter's inputs set to zero during training."""
    target_modules: tuple[str, ...] = ALL_LINEAR
    """Names of the matrices that get an adapter."""
    upper_layers: int | None = None
    """Adapters on the last so many layers only; None for all. What lies below them is then the same in every epoch, and is
    computed once."""
    learning_rate: float = 2e-4
    scheduler: str = "linear"
    """How the learning rate goes on after warm-up: "linear" (down to zero), "constant", "cosine"."""
    warmup: float = 0.05
    """Share of the steps during which the learning rate rises."""
    beta2: float = 0.999
    """How long Adam remembers the size of gradients: about 1 / (1 - beta2) steps. In a run of a few hundred steps 0.999 never
    forgets the large gradients of the first ones, while the model learns the answer's format."""
    weight_decay: float = 0.0
    optimizer: str = "adamw_torch"
    epochs: float = 3
    """Times that each row is seen."""
    batch_rows: int = 16
    """Rows an optimiser step, however they are spread over micro-batches."""
    micro_batch_tokens: int = 1200
    """Most padded tokens that go through the model at once; bounds memory, not results."""
    max_length: int = 512
    """Longest prompt and answer in tokens; longer texts are cut at their end, never the answer."""
    instruction: bool = False
    """Whether the training prompt repeats the task's instruction for every row."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: a third slower, much less memory."""
    save_steps: int = 25
    """Optimiser steps between two checkpoints."""
    seed: int = 42
    """Draws the first A matrices, the order of the rows and the dropout."""

    def __post_init__(self):
        for part in fields(self):
            value = getattr(self, part.name)
            fits = {
                int: lambda v: type(v) is int,
                float: lambda v: type(v) in (int, float),
                bool: lambda v: type(v) is bool,
                str: lambda v: type(v) is str,
                int | None: lambda v: v is None or type(v) is int,
            }.get(part.type, lambda v: isinstance(v, tuple) and all(type(item) is str for item in v))
            if not fits(value):
                kind = part.type.__name__ if isinstance(part.type, type) else part.type
                raise CourseError(f"Recipe {self.name!r}: {part.name}={value!r} does not fit; {kind} is needed.")
        for name in (
            "r",
            "alpha",
            "learning_rate",
            "epochs",
            "batch_rows",
            "micro_batch_tokens",
            "max_length",
            "save_steps",
        ):
            if getattr(self, name) <= 0:
                raise CourseError(f"Recipe {self.name!r}: {name} is {getattr(self, name)}; it must be more than 0.")
        if self.upper_layers is not None and self.upper_layers < 1:
            raise CourseError(
                f"Recipe {self.name!r}: upper_layers is {self.upper_layers}; it must be 1 or more, or None for all."
            )
        for name in ("dropout", "warmup", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise CourseError(
                    f"Recipe {self.name!r}: {name} is {getattr(self, name)}; it must be from 0 to below 1."
                )
        if self.scheduler not in ("linear", "constant", "cosine"):
            raise CourseError(
                f"Recipe {self.name!r}: unknown scheduler {self.scheduler!r}; use linear, constant or cosine."
            )

    def changed(self, **values) -> "Recipe":
        """The same recipe with other values: `QUICK.changed(r=4)`. Raises CourseError for a name that no recipe has."""
        unknown = set(values) - set(asdict(self))
        if unknown:
            raise CourseError(f"A recipe has no {sorted(unknown)[0]!r}. It has: {', '.join(asdict(self))}.")
        return replace(self, **values)

    def as_dict(self) -> dict:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


QUICK = Recipe(
    name="quick",
    r=32,
    alpha=64,
    target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
    upper_layers=12,
    learning_rate=1e-3,
    beta2=0.95,
    epochs=3,
)
"""What did best on a split of the bundled training rows, within the minutes that a demo may take on 2 cores."""

FEW = QUICK.changed(name="few", epochs=6)
"""`QUICK` for a few hundred rows: each is seen twice as often. How it was found: benchmarks/README.md."""

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
        "removed from transformers 5 (warmup_steps takes a share instead), and ignored before: the constant schedule has no warm-up."
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
"""What became of the talk's other settings: refused, ignored, or accepted with a remark (checked by tests/unit/training/test_recipes.py)."""

THOROUGH = TALK.changed(name="thorough", learning_rate=1e-4, scheduler="linear", warmup=0.05, dropout=0.0)
"""The talk's rank, alpha, batch and epochs with a learning rate that suits LoRA, for a T4 with time."""

WORKSHOP = THOROUGH.changed(
    name="workshop", learning_rate=2e-4, epochs=1, instruction=False, max_length=256, save_steps=10
)
"""A T4 in a workshop: each row once, a short prompt, all 8 rows of a step at once when they are short. 12 minutes at most for 1,000
rows by the planner's estimate."""

RECIPES = {recipe.name: recipe for recipe in (QUICK, FEW, TALK, THOROUGH, WORKSHOP)}
