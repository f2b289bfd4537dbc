"""Check the course on a GPU: kernels, number types, training, memory, speed and notebooks, in ten minutes without a
network.

    python benchmarks/gpu_check.py --prepare FOLDER     # first, on a CPU with the course installed
    python benchmarks/gpu_check.py FOLDER --out RESULTS # then on the GPU, in a copy of the course with FOLDER
    python benchmarks/gpu_check.py --tiny               # all of it on tiny sizes, on a CPU: does the check itself run?

The input folder holds the embedded model's file in parts of at most 60 MB, and what the CPU answered. The GPU's machine
needs the course's Python packages, but not its models' packages; what is missing is listed before anything is done. The
steps are

    attention   torch's attention kernels on rows padded on the left: NaN in numbers and gradients
    answers     the embedded model with the shipped adapter in float16, bfloat16 and NF4, beside the CPU's answers
    quick       the recipe `quick`, trained
    mistral     a random Mistral-7B in NF4, made here and trained in a T4's memory: bytes beside the planner's, skipped
                steps, milliseconds a pass, and what happens when memory runs out
    prompts     few-shot prompts: the engine, transformers' pipeline, one row at a time
    notebooks   the code cells of notebooks 05 and 06 in the gear `t4`, with a tiny model

Each writes RESULTS/STEP.json when it ends. A step that fails is recorded with its errors, and the next one runs. The
exit code is 0 if all passed.

Not yet run on a GPU: only --tiny was, on a CPU. There, kernels, memory and speed are not a GPU's, so what was seen to
work is the check itself. The tolerances in the steps are estimates; those of `answers` come from the same number types
on a CPU.
"""

import argparse
import importlib
import os
import re
import sys
import tempfile
import time
import tomllib
import traceback
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "gpu"
STEPS = ("attention", "answers", "quick", "mistral", "prompts", "notebooks")

if TYPE_CHECKING:
    from gpu.setting import Setting


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the input folder, or run the steps. Return the exit code."""
    options = parse(arguments)
    stop_without_packages()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(ROOT))  # the course need not be installed
    from gpu import setting as shared

    from llmcourse._base import hardware

    if options.prepare:
        shared.prepare(options.prepare, shared.FULL)
        print(f"Prepared: {options.prepare}")
        return 0
    warnings.simplefilter("ignore", FutureWarning)  # of names that only newer versions of transformers have replaced
    real, sizes = hardware.detect(), shared.TINY if options.tiny else shared.FULL
    if not options.tiny and real.device == "cpu":
        raise SystemExit("This machine has no GPU that torch sees. To try the check itself on a CPU, add --tiny.")
    with tempfile.TemporaryDirectory() as folder, shared.trainable_nf4():
        work = Path(folder)
        if options.tiny:
            shared.prepare(work / "input", sizes)
        setting = shared.Setting(options.folder or work / "input", work, sizes, real)
        with shared.embedded_from(shared.join_parts(setting.folder, work / "embedded.gguf")):
            passed = [run_step(name, setting, options.out or work) for name in options.only or STEPS]
    return 0 if all(passed) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="the input folder")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="make the input folder, on a CPU")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, also on a CPU")
    parser.add_argument("--only", nargs="+", choices=STEPS, metavar="STEP", help="run these steps only")
    parser.add_argument("--out", type=Path, help=f"where the results go (default: {RESULTS}; with --tiny nowhere)")
    options = parser.parse_args(arguments)
    if not (options.folder or options.prepare or options.tiny):
        parser.error("name the input folder, or --prepare one")
    if not options.tiny:
        options.out = options.out or RESULTS
    return options


def stop_without_packages() -> None:
    """Stop with a list of the course's dependencies that are not installed."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    missing = []
    for requirement in wanted:
        try:
            metadata.version(re.match(r"[\w.-]+", requirement)[0])
        except metadata.PackageNotFoundError:
            missing.append(requirement)
    if missing:
        names = " ".join(f"'{requirement}'" for requirement in missing)
        raise SystemExit(f"{len(missing)} Python packages are missing. Install them:\n    pip install {names}")


def run_step(name: str, setting: "Setting", out: Path) -> bool:
    """Run a step, write its results, print a line, and return whether it passed."""
    from gpu.setting import Findings, release

    from llmcourse._base import files, hardware

    findings, start = Findings(), time.perf_counter()
    try:
        importlib.import_module(f"gpu.{name}").run(setting, findings)
    except Exception:
        findings.problems.append(traceback.format_exc(limit=-4))
    release(setting)
    seconds, passed = round(time.perf_counter() - start, 1), not findings.problems
    results = {
        "step": name,
        "passed": passed,
        "seconds": seconds,
        "date": hardware.now(),
        "machine": setting.real.as_dict(),
        "versions": hardware.versions(),
        "tiny": not setting.full,
        "problems": findings.problems,
        "measured": findings.measured,
    }
    files.write_json(out / f"{name}.json", results)
    print(
        f"{name:10} {'passed' if passed else 'FAILED'} in {seconds:.0f} s", *findings.problems, sep="\n    ", flush=True
    )
    return passed


if __name__ == "__main__":
    sys.exit(main())
