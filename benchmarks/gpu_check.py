"""Run the T4's path on the GPU at hand: a random model in NF4 with Mistral-7B's shape, in a T4's memory, in float16.

    python benchmarks/gpu_check.py                   # on a GPU with 16 GiB or more: some 10 minutes
    python benchmarks/gpu_check.py --tiny            # the same code on tiny sizes, also on a CPU

Trains 20 steps of each recipe and scores 100 few-shot prompts, without flash attention. Prints peak memory beside the
planner's, and tokens per second, and writes benchmarks/results/gpu_check.json. A newer GPU cannot prove that a T4's
kernels work. It proves memory, dtypes and the code path.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from llmcourse import data, models, predict
from llmcourse._base import files, hardware
from llmcourse.data.tasks import SARCASM
from llmcourse.models import catalogue
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.training import finetuning, planner
from llmcourse.training.examples import training_rows
from llmcourse.training.recipes import TALK, THOROUGH, WORKSHOP

RESULTS = Path(__file__).parent / "results" / "gpu_check.json"
NAME = "mistral-7b"
TINY = {"hidden": 64, "layers": 2, "intermediate": 128, "heads": 4, "kv_heads": 2, "head_dim": 16}


def pretend_t4() -> hardware.Hardware:
    """Make the library treat this machine's GPU (or CPU) as a T4, and return the real hardware."""
    import torch

    real = hardware.detect()
    t4 = replace(real, capability=(7, 5), gpu_gib=planner.T4_GIB)
    hardware.detect = lambda: t4
    if real.device == "cuda":
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.cuda.set_per_process_memory_fraction(min(1.0, planner.T4_GIB * 2**30 / torch.cuda.mem_get_info()[1]))
    return real


def random_checkpoint(base: catalogue.Base, folder: Path, device: str) -> None:
    """Save a model of this shape with random weights in float16, with the embedded model's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmcourse.models import embedded

    torch.manual_seed(0)
    config = models.config_of(base)
    config.dtype = torch.float16
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded.ensure_embedded()).save_pretrained(folder)


def check(base: catalogue.Base, steps: int, prompts: int) -> dict:
    """Train and score, and return what was measured beside what was planned."""
    import torch

    rows = data.load(SARCASM)
    loaded = models.load(NAME)
    cuda = torch.cuda.is_available()
    measured = {}
    for recipe in (TALK, THOROUGH, WORKSHOP):
        wanted = recipe.changed(epochs=1)
        train = list(rows.train)[: steps * recipe.batch_rows]
        examples, _ = training_rows(loaded, SARCASM, train, wanted)
        lengths = [len(loaded.tokenizer(e["prompt"] + e["completion"]).input_ids) + 1 for e in examples]
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory() as folder:
            run = finetuning.finetune(loaded, SARCASM, train, wanted, folder)
        loaded.drop_adapter()
        plan = planner.plan(
            base, wanted.changed(checkpointing=run.checkpointing), run.micro_rows, max(lengths), cuda=cuda
        )
        peak = torch.cuda.max_memory_allocated() if cuda else None
        # torch does not allocate the CUDA context, so its peak does not include it.
        planned = plan.total - plan.parts.get("CUDA context", 0)
        measured[recipe.name] = {
            "steps": run.steps,
            "micro_rows": run.micro_rows,
            "notes": run.notes,
            "tokens_per_second": round(sum(lengths) / run.seconds, 1),
            "peak_gib": peak and round(peak / 2**30, 3),
            "planned_gib": round(planned / 2**30, 3),
            "peak_over_planned": peak and round(peak / planned, 3),
        }
    prompt = Prompt(SARCASM, few_shots(SARCASM, list(rows.train), 4))
    asked = list(rows.test)[:prompts]
    start = time.perf_counter()
    predictions = predict.score(loaded, prompt, asked)
    scored = {"rows": len(predictions.labels), "rows_per_second": round(len(asked) / (time.perf_counter() - start), 2)}
    return {"training": measured, "scoring": scored}


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the script itself")
    parser.add_argument("--steps", type=int, default=20, help="training steps a recipe (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=100, help="few-shot prompts to score (default: %(default)s)")
    parser.add_argument("--out", type=Path, help=f"the results file (default: {RESULTS}; with --tiny none)")
    options = parser.parse_args(arguments)
    real = hardware.detect()
    if not options.tiny and real.device == "cpu":
        raise SystemExit("This machine has no GPU. To try the script on a CPU, add --tiny.")
    known = catalogue.base(NAME)
    with tempfile.TemporaryDirectory() as folder:
        base = replace(known, repo=folder, revision=None, vocabulary=49152, **(TINY if options.tiny else {}))
        random_checkpoint(base, Path(folder), real.device)
        detect = hardware.detect
        pretend_t4()
        catalogue.BASES[NAME] = base
        try:
            results = check(base, options.steps, options.prompts)
        finally:
            models.free()
            catalogue.BASES[NAME], hardware.detect = known, detect
    results = {
        "date": hardware.now(),
        "machine": real.as_dict(),
        "versions": hardware.versions(),
        "parameters": base.parameters,
        "memory_cap_gib": planner.T4_GIB,
        **results,
    }
    out = options.out or (None if options.tiny else RESULTS)
    if out:
        files.write_json(out, results)
    for name, measured in results["training"].items():
        peak = "no GPU memory to measure" if measured["peak_gib"] is None else f"peak {measured['peak_gib']:.2f} GiB"
        rate, planned = measured["tokens_per_second"], measured["planned_gib"]
        print(f"{name:9} {rate:9.1f} tokens/s   {peak}, planned {planned:.2f} GiB")
    print(f"scoring   {results['scoring']['rows_per_second']:9.2f} rows/s")
    return results


if __name__ == "__main__":
    main()
