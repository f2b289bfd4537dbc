"""A second copy of what a run keeps, on a disk that outlives the session (in Colab: a mounted Drive).

Checkpoints, adapters and arms are written on the machine's own disk first and copied when they are whole: a mounted
Drive is slow, and may go in the middle of a write.
"""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

from llmcourse._base import files
from llmcourse._base.errors import CourseError

VARIABLE = "LLMCOURSE_BACKUP"
"""The environment variable that names the folder, for instance /content/drive/MyDrive/llmcourse."""

KINDS = ("arms", "adapters", "training")


class Backup:
    """Copies folders between `here` (the runs folder) and `there`. Without `there` it does nothing."""

    def __init__(self, here: str | Path, there: str | Path | None = None):
        there = there or os.environ.get(VARIABLE)
        self.here, self.there = Path(here), Path(there) if there else None
        if self.there and not self.there.parent.is_dir():
            raise CourseError(
                f"The backup folder's parent {self.there.parent} is not there. In Colab, mount the Drive first:"
                " from google.colab import drive; drive.mount('/content/drive')"
            )

    def restore(self) -> list[str]:
        """Copy back what an earlier session left and this machine lacks. Returns the names of the folders."""
        if not self.there:
            return []
        restored = []
        for kind in KINDS:
            depth = "*/checkpoint-*" if kind == "training" else "*"
            for folder in sorted((self.there / kind).glob(depth)):
                name = folder.relative_to(self.there)
                if not folder.is_dir() or folder.name.startswith(".") or (self.here / name).exists():
                    continue
                damage = files.find_damage(folder)
                if damage:
                    message = f"{folder} is damaged: {damage}. It is not copied back."
                    warnings.warn(message, files.Damaged, stacklevel=3)
                    continue
                _copy(folder, self.here / name)
                restored.append(name.as_posix())
        return restored

    def keep(self, folder: Path) -> None:
        """Copy a whole folder of the runs folder. Copies of checkpoints that the training has removed are removed."""
        if not self.there:
            return
        target = self.there / folder.relative_to(self.here)
        if target.exists() and files.find_damage(target):
            shutil.rmtree(target)
        if not target.exists():
            _copy(folder, target)
        if folder.name.startswith("checkpoint-"):
            for copied in target.parent.glob("checkpoint-*"):
                if not (folder.parent / copied.name).exists():
                    shutil.rmtree(copied, ignore_errors=True)

    def drop(self, folder: Path) -> None:
        """Remove the copy of a folder, such as the checkpoints of a finished training."""
        if self.there:
            shutil.rmtree(self.there / folder.relative_to(self.here), ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    # no lock: a mounted Drive has none
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        shutil.copytree(source, aside, dirs_exist_ok=True)
        os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
