"""Checkpoints of a training on disk: which are whole, which one to resume from, what to remove.

The Trainer writes a checkpoint in place. It is whole once it is sealed (`_base.files.seal`), which the callback does
last.
"""

import re
import shutil
from pathlib import Path

from llmcourse._base import files


def find_checkpoints(folder: str | Path) -> list[Path]:
    """Return the checkpoints that were written to their end, newest first. One without a seal was cut short."""
    seals = Path(folder).glob(f"checkpoint-*/{files.SEAL}")
    return sorted((seal.parent for seal in seals), key=lambda path: -step_of(path))


def step_of(checkpoint: Path) -> int:
    """Return the optimiser step after which a checkpoint was written."""
    return int(re.sub(r"\D", "", checkpoint.name) or 0)


def last_checkpoint(folder: str | Path) -> Path | None:
    """Return the newest checkpoint that has not changed since it was written, or None.

    A damaged one is set aside, and a files.Damaged warning says so.
    """
    for path in find_checkpoints(folder):
        damage = files.find_damage(path)
        if not damage:
            return path
        files.set_aside(
            path, damage, "Training resumes from the checkpoint before it, or starts anew if there is none."
        )
    return None


def resume_from(folder: Path) -> Path | None:
    """Return the checkpoint to resume from, and remove what was cut short while it was written."""
    for cut_short in set(folder.glob("checkpoint-*")) - set(find_checkpoints(folder)):
        shutil.rmtree(cut_short, ignore_errors=True)
    return last_checkpoint(folder)


def seconds_before(checkpoint: Path | None) -> float:
    """Return the training time up to a checkpoint, as its seal says; 0 without a checkpoint."""
    return files.read_seal(checkpoint)["seconds"] if checkpoint else 0.0


def skipped_before(checkpoint: Path | None) -> int:
    """Return how many steps had been skipped up to a checkpoint, as its seal says; 0 without a checkpoint."""
    return files.read_seal(checkpoint).get("skipped", 0) if checkpoint else 0


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a training, and what the Trainer writes beside them."""
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)
    for leftover in ("README.md", "training_args.bin"):
        (folder / leftover).unlink(missing_ok=True)


def describe_kept(folder: Path, save_steps: int) -> str:
    """Return what an interrupted training resumes from, as a sentence."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return f"No checkpoint was written yet (there is one every {save_steps} steps)."
    return f"The checkpoint of step {step_of(checkpoint)} is kept."
