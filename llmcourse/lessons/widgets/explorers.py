"""Explorers of notebook 04: the rank of LoRA, the levels of 4 bits, and whether a finetuning fits a GPU. Choices, and a figure that follows them."""

from llmcourse import figures
from llmcourse._base.errors import CourseError
from llmcourse.lessons.fromscratch import nf4
from llmcourse.lessons.widgets.controls import choices
from llmcourse.models import catalogue
from llmcourse.training import planner
from llmcourse.training.recipes import ALL_LINEAR, THOROUGH

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GPUS = {"T4": planner.T4_GIB, "24 GB": 22.0, "A100 40 GB": 39.4, "A100 80 GB": 79.0}
"""Memory in GiB that torch sees; above the T4 about what such cards show, not measured by us."""
WAYS = ("full finetuning", "LoRA, 16 bits", "QLoRA")
LEVELS = {"NF4": nf4.nf4_levels, "int4": nf4.int4_levels}


def rank_picture(model: str = "mistral-7b", matrix: str = "q_proj", r: int = 8):
    """One matrix of a model of the catalogue with LoRA beside it. Returns a matplotlib Figure.

    Raises CourseError for a matrix that the model does not have (Phi-3 keeps query, key and value in one).
    """
    shapes = catalogue.base(model).linear()
    if matrix not in shapes:
        raise CourseError(f"{model} has no matrix {matrix!r}. It has: {', '.join(shapes)}.")
    return figures.lora_picture(shapes[matrix], r, f"{matrix} of {model}")


def rank_explorer(model: str = "mistral-7b", matrix: str = "q_proj", r: int = 8) -> None:
    """Choose a model, one of its matrices and a rank, and see what is frozen and what learns."""
    models = [base.name for base in catalogue.BASES.values() if not base.prequantised]
    options = {"model": models, "matrix": [*ALL_LINEAR, "qkv_proj", "gate_up_proj"], "r": RANKS}
    choices(rank_picture, options, {"model": model, "matrix": matrix, "r": r})


def rounded(weights, block: int, spread: float | None = None):
    """Weights in 4 bits, with every type's levels and error, in units of their own spread or of another. Returns a matplotlib Figure."""
    scales = nf4.quantise(weights, block=block).scales.repeat_interleave(block)[: weights.numel()]
    scaled = (weights.reshape(-1) / scales).tolist()
    tables = {kind: make() for kind, make in LEVELS.items()}
    errors = {
        kind: nf4.relative_error(weights, nf4.dequantise(nf4.quantise(weights, table, block)), spread)
        for kind, table in tables.items()
    }
    return figures.levels(scaled, {kind: table.tolist() for kind, table in tables.items()}, errors)


def gaussian(outlier: float = 0.0, n: int = 65_536):
    """Weights as initialisation draws them, of spread 1, and every 1,000th at `outlier` (none for 0): (n,), float32."""
    import torch

    weights = torch.randn(n, generator=torch.Generator().manual_seed(0))
    if outlier:
        weights[::1000] = outlier
    return weights


def nf4_explorer(block: int = nf4.BLOCK, outlier: float = 0.0) -> None:
    """Choose the size of a block and how far one weight in a thousand stands out, and see levels and errors of NF4 and of int4."""
    choices(
        lambda block, outlier: rounded(
            gaussian(outlier), block, spread=1.0
        ),  # that of the weights that do not stand out
        {"block": (32, 64, 128, 256, 1024, 4096), "outlier": (0.0, 5.0, 10.0, 20.0, 50.0)},
        {"block": block, "outlier": outlier},
    )


def will_it_fit(
    model: str = "mistral-7b", gpu: str = "T4", rows: int = 4, tokens: int = 256, r: int = 8, checkpointing: str = "no"
):
    """Full finetuning, LoRA on 16 bits and QLoRA, part by part, against a GPU's memory, by the planner. Returns a matplotlib Figure."""
    base, again = catalogue.base(model), checkpointing == "yes"
    recipe = THOROUGH.changed(r=r, alpha=2 * r, checkpointing=again)
    plans = {
        WAYS[0]: planner.plan_full(base, rows, tokens, checkpointing=again),
        WAYS[1]: planner.plan(base, recipe, rows, tokens, nf4=False),
        WAYS[2]: planner.plan(base, recipe, rows, tokens),
    }
    return figures.memory(plans, GPUS[gpu], gpu)


def fit_explorer(model: str = "mistral-7b", gpu: str = "T4") -> None:
    """Choose a model, a GPU, rows at once, tokens a row, a rank and checkpointing, and see which ways of finetuning fit."""
    options = {
        "model": [base.name for base in catalogue.BASES.values() if not base.prequantised],
        "gpu": list(GPUS),
        "rows": (1, 2, 4, 8, 16, 32),
        "tokens": (64, 128, 256, 512, 1024, 2048),
        "r": RANKS,
        "checkpointing": ("no", "yes"),
    }
    start = {"model": model, "gpu": gpu, "rows": 4, "tokens": 256, "r": 8, "checkpointing": "no"}
    choices(will_it_fit, options, start)
