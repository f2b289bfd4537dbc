"""Figures with controls: the next token (notebook 01), and LoRA's rank, 4-bit levels and GPU memory (notebook 04)."""

from functools import partial
from typing import TYPE_CHECKING, Any

from llmcourse import figures
from llmcourse._base.errors import CourseError
from llmcourse.lessons.fromscratch import nf4, sampling
from llmcourse.lessons.widgets.controls import choices, draw_into, hidden_image, show
from llmcourse.models import LoadedModel, catalogue
from llmcourse.training import planner
from llmcourse.training.recipes import ALL_LINEAR, THOROUGH

if TYPE_CHECKING:
    import torch

    from llmcourse.figures.described import DescribedFigure

BARS = 8
"""Tokens in the figure of the next token."""
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GPUS = {"T4": planner.T4_GIB, "24 GB": 22.0, "A100 40 GB": 39.4, "A100 80 GB": 79.0}
"""Memory in GiB that torch sees. We measured the T4; the others are what such cards usually show."""
LEVELS = {"NF4": nf4.nf4_levels, "int4": nf4.int4_levels}


def next_token_explorer(loaded: LoadedModel, text: str) -> None:
    """Show how probable each next token is, with sliders for temperature and top-p below the figure.

    "Write a token" draws one with these settings and appends it to the text. The model runs only when the text changes.
    """
    show(
        next_token_picture(loaded, text),
        NextToken(loaded, text).box,
        "In a running notebook there are sliders here, for temperature and top-p, and a button that writes on.",
    )


def next_token_picture(
    loaded: LoadedModel, text: str, temperature: float = 1.0, p: float = 1.0, logits: "torch.Tensor | None" = None
) -> "DescribedFigure":
    """Draw the likeliest next tokens after `text`, and how temperature and top-p change them.

    `logits` are the scores (vocabulary,) after `text`, if they are known already.
    """
    logits = sampling.next_logits(loaded, text) if logits is None else logits
    probs = sampling.probabilities(logits)
    tokens = probs.topk(min(BARS, len(probs))).indices
    panels = {"as the model says": probs[tokens].tolist()}
    if (temperature, p) != (1.0, 1.0):
        shaped = sampling.top_p(sampling.probabilities(logits, temperature), p)
        title = f"temperature {temperature:g}, top-p {p:g}\n{int((shaped > 0).sum()):,} tokens left"
        panels[title] = shaped[tokens].tolist()
    context = text if len(text) <= 60 else "… " + text[-58:].lstrip()
    return figures.token_bars(sampling.token_texts(loaded.tokenizer, tokens), panels, context=context)


class NextToken:
    """The controls of `next_token_explorer`, and the figure that follows them."""

    def __init__(self, loaded: LoadedModel, text: str):
        import ipywidgets
        import torch

        self.loaded, self.generator = loaded, torch.Generator().manual_seed(0)
        self.logits: torch.Tensor | None = None
        look = {
            "layout": ipywidgets.Layout(width="520px"),
            "style": {"description_width": "90px"},
            "continuous_update": False,
        }
        self.text = ipywidgets.Text(value=text, description="text", **look)
        self.temperature = ipywidgets.FloatSlider(value=1, min=0.1, max=2, step=0.1, description="temperature", **look)
        self.p = ipywidgets.FloatSlider(value=1, min=0.05, max=1, step=0.05, description="top-p", **look)
        self.button = ipywidgets.Button(description="Write a token")
        self.figure = hidden_image()
        self.box = ipywidgets.VBox([self.text, self.temperature, self.p, self.button, self.figure])
        self.text.observe(self._read, "value")
        for slider in (self.temperature, self.p):
            slider.observe(self._draw, "value")
        self.button.on_click(self._write)

    def _next_logits(self) -> "torch.Tensor":
        if self.logits is None:
            self.logits = sampling.next_logits(self.loaded, self.text.value)
        return self.logits

    def _read(self, _change: Any) -> None:
        self.logits = None
        self._draw()

    def _draw(self, _change: Any = None) -> None:
        if self.text.value:
            settings = self.temperature.value, self.p.value, self._next_logits()
            draw_into(self.figure, next_token_picture(self.loaded, self.text.value, *settings))

    def _write(self, _button: Any) -> None:
        import torch

        if self.text.value:
            probs = sampling.top_p(sampling.probabilities(self._next_logits(), self.temperature.value), self.p.value)
            token = int(torch.multinomial(probs, 1, generator=self.generator))
            # the changed text runs the model and draws the figure again
            self.text.value += sampling.token_texts(self.loaded.tokenizer, [token])[0]


def _models() -> list[str]:
    """Return the names of the models that we quantise ourselves."""
    return [base.name for base in catalogue.BASES.values() if not base.prequantised]


def rank_explorer(model: str = "mistral-7b", matrix: str = "q_proj", r: int = 8) -> None:
    """Show a matrix with LoRA beside it, with controls for the model, the matrix and the rank."""
    options = {"model": _models(), "matrix": [*ALL_LINEAR, "qkv_proj", "gate_up_proj"], "r": RANKS}
    choices(partial(rank_picture, titled=True), options, {"model": model, "matrix": matrix, "r": r})


def rank_picture(
    model: str = "mistral-7b", matrix: str = "q_proj", r: int = 8, titled: bool = False
) -> "DescribedFigure":
    """Draw one matrix of a model in the catalogue with LoRA of rank `r` beside it. `titled` writes the message above.

    Raises CourseError for a matrix that the model does not have (Phi-3 keeps query, key and value in one).
    """
    shapes = catalogue.base(model).shape.matrices
    if matrix not in shapes:
        raise CourseError(f"{model} has no matrix {matrix!r}. Choose one of: {', '.join(shapes)}.")
    rows, columns = shapes[matrix]
    title = f"At rank {r}, A and B have {r * (rows + columns) / (rows * columns):.2%} as many numbers as the matrix"
    return figures.lora_picture(shapes[matrix], r, f"{matrix} of {model}", title if titled else "")


def nf4_explorer(block: int = nf4.BLOCK, outlier: float = 0.0) -> None:
    """Show the levels and errors of NF4 and int4 on Gaussian weights, with controls for the block and for outliers."""
    options = {"block": (32, 64, 128, 256, 1024, 4096), "outlier": (0.0, 5.0, 10.0, 20.0, 50.0)}
    choices(partial(levels_picture, titled=True), options, {"block": block, "outlier": outlier})


def levels_picture(block: int = nf4.BLOCK, outlier: float = 0.0, titled: bool = False) -> "DescribedFigure":
    """Draw Gaussian weights in 4 bits, with the levels and the error of each type.

    `block` weights share a scale, and every 1,000th weight is set to `outlier` (none for 0). The error is given in
    standard deviations of the weights without the outliers. `titled` writes the message above the figure.
    """
    weights = nf4.gaussian_weights(outlier)
    scales = nf4.quantise(weights, block=block).scales.repeat_interleave(block)[: weights.numel()]
    tables = {name: make() for name, make in LEVELS.items()}
    errors = {
        name: nf4.relative_error(weights, nf4.dequantise(nf4.quantise(weights, table, block)), spread=1.0)
        for name, table in tables.items()
    }
    levels = {name: table.tolist() for name, table in tables.items()}
    title = f"{min(errors, key=errors.__getitem__)} rounds these weights with the smaller error"
    return figures.levels((weights / scales).tolist(), levels, errors, title if titled else "")


def fit_explorer(model: str = "mistral-7b", gpu: str = "T4") -> None:
    """Show which ways of finetuning fit a GPU, with controls for model, GPU, batch, length, rank and checkpointing."""
    options = {
        "model": _models(),
        "gpu": list(GPUS),
        "rows": (1, 2, 4, 8, 16, 32),
        "tokens": (64, 128, 256, 512, 1024, 2048),
        "r": RANKS,
        "checkpointing": ("no", "yes"),
    }
    start = {"model": model, "gpu": gpu, "rows": 4, "tokens": 256, "r": 8, "checkpointing": "no"}
    choices(partial(fit_picture, titled=True), options, start)


def fit_picture(
    model: str = "mistral-7b",
    gpu: str = "T4",
    rows: int = 4,
    tokens: int = 256,
    r: int = 8,
    checkpointing: str = "no",
    titled: bool = False,
) -> "DescribedFigure":
    """Draw the memory of full finetuning, LoRA on 16 bits and QLoRA against a GPU's, as the planner estimates it.

    A step has `rows` rows of `tokens` tokens each. `titled` writes the message above the figure.
    """
    base, recompute = catalogue.base(model), checkpointing == "yes"
    recipe = THOROUGH.changed(r=r, alpha=2 * r, checkpointing=recompute)
    plans = {
        "full finetuning": planner.plan_full(base, rows, tokens, checkpointing=recompute),
        "LoRA, 16 bits": planner.plan(base, recipe, rows, tokens, nf4=False),
        "QLoRA": planner.plan(base, recipe, rows, tokens),
    }
    fitting = [name for name, plan in plans.items() if plan.fits(GPUS[gpu])]
    which = {0: "None of the three methods fits", 1: f"Only {' '.join(fitting)} fits", 3: "All three methods fit"}
    title = f"{which.get(len(fitting), ' and '.join(fitting) + ' fit')} {model} into a {gpu}"
    return figures.memory(plans, GPUS[gpu], gpu, title if titled else "")
