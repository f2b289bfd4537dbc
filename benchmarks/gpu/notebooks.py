"""(f) The code cells of notebooks 05 and 06 in the gear `t4`, with a tiny stand-in for Mistral-7B and few rows."""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu.setting import T4, TINY, Findings, Setting, pretend
from llmcourse import data, models, setup
from llmcourse._base.hardware import GEAR_VARIABLE
from llmcourse.data import Rows
from llmcourse.models import catalogue, embedded
from llmcourse.models.loading import quiet_bars
from llmcourse.setup import gears

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = ("05_sarcasm_demo", "06_your_own_task")
GEAR = "t4"
SHAPE = {**TINY.shape, "max_position_embeddings": 2048}


def run(setting: Setting, findings: Findings) -> None:
    """Run each notebook in a folder of its own."""
    import matplotlib

    matplotlib.use("agg")
    for name in NAMES:
        with findings.part(name) as measured, pretend(setting, T4), tiny_gear(setting), inside(setting.work / name):
            measured["cells"] = 0
            namespace: dict[str, Any] = {"__name__": "__main__", "setup": setup}
            for number, source in code_cells(name):
                measured["at"] = f"cell-{number:02}"
                with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
                    exec(compile(source, f"{name}, cell-{number:02}", "exec"), namespace)
                measured["printed"] = printed.getvalue()[-500:]
                measured["cells"] += 1


def code_cells(name: str) -> Iterator[tuple[int, str]]:
    """Yield number and source of a notebook's code cells, but for the first, which installs what is missing."""
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "setup.install()" not in source:
            yield number, source


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Make the folder, with a `notebooks` in it, and run the block there."""
    (folder / "notebooks").mkdir(parents=True)
    with contextlib.chdir(folder / "notebooks"):
        yield


@contextlib.contextmanager
def tiny_gear(setting: Setting) -> Iterator[None]:
    """Inside the block, the gear `t4` has a tiny random model in 4 bits, and every corpus has few rows."""
    gear, load_first, check = gears.GEARS[GEAR], data.load_first, setup.check_machine
    known, variable = catalogue.base(gear.model), os.environ.get(GEAR_VARIABLE)
    n_train, n_test = setting.sizes.notebook_rows

    def load_few(*args: Any, **more: Any) -> Rows:
        return load_first(*args, **{**more, "n_train": n_train, "n_test": n_test})

    catalogue.BASES[gear.model] = save_tiny(known, setting.work)
    gears.GEARS[GEAR] = replace(gear, sources=("bundled",), n_train=n_train, n_test=n_test)
    data.load_first, os.environ[GEAR_VARIABLE] = load_few, GEAR
    # preflight would find what is true here: no network, and perhaps no installed course
    setup.check_machine = lambda needs: []
    try:
        yield
    finally:
        data.load_first, setup.check_machine = load_first, check
        catalogue.BASES[gear.model], gears.GEARS[GEAR] = known, gear
        os.environ.pop(GEAR_VARIABLE)
        if variable is not None:
            os.environ[GEAR_VARIABLE] = variable


def save_tiny(known: catalogue.Base, work: Path) -> catalogue.Base:
    """Save a tiny random model in the place of a base that is downloaded in 4 bits, and return its entry."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded.ensure_embedded())
    base = replace(known.resized(vocab_size=len(tokenizer), **SHAPE), revision=None)
    torch.manual_seed(0)
    full, folder = work / "tiny", work / "tiny-nf4"
    with quiet_bars():
        AutoModelForCausalLM.from_config(models.config_of(base)).save_pretrained(full)
        in_4_bits = AutoModelForCausalLM.from_pretrained(full, quantization_config=models.quantization_config())
        in_4_bits.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return replace(base, repo=str(folder))
