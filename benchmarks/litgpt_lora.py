"""Run litgpt's own LoRA finetuning on rows that finetuning.py prepared. litgpt's environment has no llmcourse.

Usage: python litgpt_lora.py ORDER.json. Prints one line of JSON: seconds of training, peak memory, the loss before it.
"""

import contextlib
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import litgpt.finetune.lora as lora
import torch
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import JSON
from litgpt.prompts import Default
from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

MODEL = "SmolLM2-135M-Instruct"


class Trained(Exception):
    """End litgpt's run after training, because saving and merging are not measured."""


def first_loss(gpt, tokenizer, check) -> float:
    """Return the mean cross-entropy of the label tokens, as litgpt's `fit` computes it, one row at a time.

    All labels have equally many tokens.
    """
    losses = []
    for row in check:
        prompt = tokenizer.encode(row["prompt"], bos=False)
        whole = tokenizer.encode(row["prompt"] + row["completion"], bos=False, eos=True)
        targets = whole.clone()
        targets[: len(prompt)] = -100
        with torch.no_grad():
            logits = gpt(whole[None].long(), lm_head_chunk_size=128)
        logits[-1] = logits[-1][..., :-1, :]
        losses.append(lora.chunked_cross_entropy(logits, targets[None, 1:].long()).item())
    return sum(losses) / len(losses)


def main(path: str) -> None:
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    measured = {}
    fit = lora.fit

    def timed(**arguments):
        gpt = arguments["model"]
        gpt.max_seq_length = 512
        measured["loss_before"] = round(first_loss(gpt, lora.Tokenizer(arguments["checkpoint_dir"]), order["check"]), 5)
        clock = time.perf_counter()
        fit(**arguments)
        measured["seconds"] = round(time.perf_counter() - clock, 2)
        raise Trained

    lora.fit = timed
    # Leave out what litgpt does besides training: it samples text, and validates before the first step.
    lora.generate_example = lambda *arguments, **more: None
    lora.validate = lambda *arguments, **more: torch.tensor(0.0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / MODEL
        shutil.copytree(order["checkpoint"], checkpoint)
        convert_hf_checkpoint(checkpoint, model_name=MODEL, dtype="float32")
        rows = Path(folder) / "rows.json"
        rows.write_text(
            json.dumps(
                [{"instruction": row["prompt"], "input": "", "output": row["completion"]} for row in order["rows"]]
            )
        )
        with contextlib.suppress(Trained):
            lora.setup(
                checkpoint_dir=checkpoint,
                out_dir=Path(folder) / "out",
                precision="32-true",
                lora_r=order["r"],
                lora_alpha=order["alpha"],
                lora_dropout=0.0,
                lora_query=True,
                lora_key=True,
                lora_value=True,
                lora_projection=True,
                lora_mlp=True,
                data=JSON(
                    json_path=rows, mask_prompt=True, val_split_fraction=0.01, prompt_style=Default(), num_workers=0
                ),
                train=TrainArgs(
                    save_interval=10**9,
                    log_interval=10**9,
                    global_batch_size=order["batch_rows"],
                    micro_batch_size=order["batch_rows"],
                    lr_warmup_steps=1,
                    epochs=1,
                    max_seq_length=512,
                ),
                eval=EvalArgs(interval=10**9, max_new_tokens=1, max_iters=1, final_validation=False),
                optimizer={
                    "class_path": "torch.optim.AdamW",
                    "init_args": {"lr": order["learning_rate"], "weight_decay": 0.0},
                },
                seed=order["seed"],
            )
    measured["peak_memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    measured["threads"] = torch.get_num_threads()
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1])
