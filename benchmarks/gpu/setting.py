"""What the steps share: their sizes, the GPU that the library is told of, limits of memory, and the input folder."""

import contextlib
import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmcourse import data, models, predict
from llmcourse._base import files, hardware
from llmcourse._base.errors import CourseError
from llmcourse._base.hardware import AMPERE, Hardware
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel, embedded
from llmcourse.predict.prompts import Prompt
from llmcourse.training import planner

T4 = (7, 5)
"""A T4's compute capability."""

ANSWERS = "cpu.json"
"""The file of the input folder with what the CPU answered."""

PART_BYTES = 60_000_000
"""Largest part into which the embedded model's file is divided."""


@dataclass(frozen=True)
class Sizes:
    """How much each step does."""

    lengths: tuple[int, ...] = (16, 64, 256, 1024, 2048)
    """Tokens a row, for attention."""
    rows: int = 200
    """Test rows whose answers are compared with the CPU's."""
    one_by_one: int = 40
    """How many of them are also asked one at a time."""
    train: int | None = None
    """Training rows of the `quick` recipe; None for all."""
    shape: Mapping[str, int] = field(default_factory=dict)
    """Changes of Mistral-7B's shape, in the names of config.json."""
    steps: int = 12
    """Training steps with each recipe on Mistral-7B. The first ones may be skipped, while the scaler looks for its
    scale."""
    max_length: int = 512
    """Longest training row there, in tokens, if the recipe allows it."""
    passes: tuple[tuple[int, int], ...] = ((1, 64), (4, 64), (8, 64), (8, 128), (4, 256), (2, 512))
    """Micro-batches that are timed: rows, tokens a row."""
    prompts: int = 100
    """Few-shot prompts."""
    notebook_rows: tuple[int, int] = (100, 40)
    """Training and test rows in the notebooks."""


FULL = Sizes()
TINY = Sizes(
    lengths=(8, 24),
    rows=3,
    one_by_one=1,
    train=8,
    shape={
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    },
    steps=2,
    max_length=128,
    passes=((1, 16), (2, 16), (2, 48)),
    prompts=2,
    notebook_rows=(24, 12),
)


@dataclass(frozen=True)
class Setting:
    """Where and how the check runs."""

    folder: Path
    """The input folder that `prepare` made."""
    work: Path
    """An empty folder for what the steps write."""
    sizes: Sizes
    real: Hardware
    """The machine as it is."""

    @property
    def cuda(self) -> bool:
        return self.real.device == "cuda"

    @property
    def full(self) -> bool:
        """Whether the sizes are large enough for a result to mean something."""
        return self.sizes is FULL

    def answers(self) -> dict[str, Any]:
        """Return what the CPU answered. Raises CourseError if it was asked about other rows."""
        stored = json.loads((self.folder / ANSWERS).read_text(encoding="utf-8"))
        if stored["test"] != data.load(SARCASM).test_id:
            raise CourseError(f"{self.folder} was prepared with another corpus. Prepare it again: --prepare FOLDER.")
        return stored


class Findings:
    """What a step measured, and what was wrong."""

    def __init__(self) -> None:
        self.measured: dict[str, Any] = {}
        self.problems: list[str] = []

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield a dictionary for what the block measures. An error ends the block only, and counts as a problem."""
        measured = self.measured[name] = {}
        try:
            yield measured
        except Exception as error:
            self.problems.append(f"{name}: {type(error).__name__}: {error}")

    def check(self, good: bool, problem: str) -> None:
        """Note a problem unless all is good."""
        if not good:
            self.problems.append(problem)


# -- the machine -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pretend(setting: Setting, capability: tuple[int, int]) -> Iterator[Hardware]:
    """Have the library take this machine's GPU (or CPU) for one of another generation, with a T4's memory.

    Number types and attention follow from that. Before Ampere, flash attention is switched off.
    """
    import torch

    machine = replace(setting.real, capability=capability, gpu_gib=planner.T4_GIB)
    before, flash = hardware.detect, torch.backends.cuda.flash_sdp_enabled()
    models.free()
    hardware.detect = lambda: machine
    torch.backends.cuda.enable_flash_sdp(capability >= AMPERE)
    try:
        yield machine
    finally:
        models.free()
        hardware.detect = before
        torch.backends.cuda.enable_flash_sdp(flash)


@contextlib.contextmanager
def capped(setting: Setting, gib: float) -> Iterator[None]:
    """Let torch allocate no more than so many GiB of the GPU. Without a GPU, nothing is limited."""
    import torch

    if not setting.cuda:
        yield
        return
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / torch.cuda.mem_get_info()[1]))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def release(setting: Setting) -> None:
    """Free the memory of what the last step has left."""
    gc.collect()
    if setting.cuda:
        import torch

        torch.cuda.empty_cache()


def synchronise(setting: Setting) -> None:
    """Wait until the GPU has done what it was given."""
    if setting.cuda:
        import torch

        torch.cuda.synchronize()


@contextlib.contextmanager
def trainable_nf4() -> Iterator[None]:
    """Keep bitsandbytes from repacking 4-bit weights at the first inference on some CPUs: it could not train them."""
    import bitsandbytes.nn.modules as modules

    before = modules.has_avx512bf16
    modules.has_avx512bf16 = lambda: False
    try:
        yield
    finally:
        modules.has_avx512bf16 = before


# -- the input folder --------------------------------------------------------------------------------------------------


def prepare(folder: Path, sizes: Sizes) -> None:
    """Write the input folder: the embedded model's file in parts, and what the CPU answers with the shipped adapter."""
    if hardware.detect().device != "cpu":
        raise CourseError("The answers are a CPU's. Hide the GPU: CUDA_VISIBLE_DEVICES= python benchmarks/gpu_check.py")
    write_parts(folder)
    corpus = data.load(SARCASM)
    rows, answers = list(corpus.test)[: sizes.rows], {}
    for name, load in (("float32", models.load), ("nf4", models.embedded_in_nf4)):
        loaded = with_shipped_adapter(load())
        answers[name] = predict.score(loaded, shipped_prompt(), rows).logprobs
        loaded.drop_adapter()
    stored = {"date": hardware.now(), "machine": hardware.detect().as_dict(), "versions": hardware.versions()}
    files.write_json(folder / ANSWERS, {**stored, "test": corpus.test_id, "rows": len(rows), "logprobs": answers})


def write_parts(folder: Path) -> None:
    """Write the embedded model's file to the input folder, in parts of at most `PART_BYTES`."""
    folder.mkdir(parents=True, exist_ok=True)
    gguf = embedded.gguf_path().read_bytes()
    for old in folder.glob(f"{embedded.NAME}.*"):
        old.unlink()
    for number, start in enumerate(range(0, len(gguf), PART_BYTES), start=1):
        (folder / f"{embedded.NAME}.{number}").write_bytes(gguf[start : start + PART_BYTES])


def join_parts(folder: Path, target: Path) -> Path:
    """Write the embedded model's file, whose parts are in the input folder, to `target`, and return that.

    Raises CourseError when it is not the file that the course knows.
    """
    parts = sorted(folder.glob(f"{embedded.NAME}.*"))
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    if files.sha256_of_file(target) != embedded.SHA256:
        names = ", ".join(part.name for part in parts) or "none"
        raise CourseError(f"{folder} has not all parts of the embedded model ({names}). Prepare it again: --prepare.")
    return target


@contextlib.contextmanager
def embedded_from(path: Path) -> Iterator[None]:
    """Take the embedded model from this file instead of its Python package."""
    before = embedded.gguf_path
    embedded.gguf_path = lambda: path
    try:
        yield
    finally:
        embedded.gguf_path = before


def shipped_prompt() -> Prompt:
    """Return the prompt on which the shipped adapter was trained."""
    return Prompt(SARCASM, **models.read_card(models.shipped_adapter("sarcasm"))["prompt"])


def with_shipped_adapter(loaded: LoadedModel) -> LoadedModel:
    """Put the shipped adapter on the embedded model, whatever its weights' type."""
    from peft import PeftModel

    loaded.drop_adapter()
    loaded.model = PeftModel.from_pretrained(loaded.model, str(models.shipped_adapter("sarcasm"))).eval()
    return loaded


def rounded(values: Sequence[float]) -> list[float]:
    """Return numbers as results files hold them."""
    return [round(float(value), 5) for value in values]
