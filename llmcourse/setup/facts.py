"""Gather facts about this machine, its packages and its access, in seconds: torch and transformers are not imported."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

from llmcourse._base import files, hardware, hub
from llmcourse._base.hardware import Hardware
from llmcourse.models import embedded
from llmcourse.setup import installed

HUB_SECONDS = 3
"""How long preflight waits for the hub."""


@dataclass(frozen=True)
class Needs:
    """What a model and the steps with it need from the machine. Sizes in GiB."""

    model: str
    repo: str | None = None
    """Repository on the Hugging Face hub; None for the embedded model."""
    gated: bool = False
    """Whether the hub asked for an account and a licence click when we looked."""
    fallback: str | None = None
    """The model that is loaded when the hub refuses this one."""
    download_gib: float = 0.0
    ram_gib: float = 0.0
    gpu_gib: float = 0.0
    minutes: tuple[tuple[str, float], ...] = ()
    """Expected minutes of each step."""
    fallback_gib: float = 0.0
    """Download of the fallback."""
    revision: str | None = None
    """The commit that is loaded."""

    @property
    def cache_variable(self) -> str:
        """The environment variable that moves the model's cache."""
        return "HF_HOME" if self.repo else "LLMCOURSE_CACHE"


@dataclass(frozen=True)
class Facts:
    """A machine, its packages and its access, as found at one moment."""

    machine: Hardware
    gear: str
    requirements: tuple[Requirement, ...] | None
    """What the course declares; None if it is not installed."""
    versions: dict[str, str | None]
    """Package -> installed version; None if it is missing."""
    tested: dict[str, str] = field(default_factory=dict)
    swaps: tuple[installed.Swap, ...] = ()
    gpus: int = 0
    driver_silent: bool = False
    """Whether nvidia-smi exists but fails."""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""
    cuda: int | None = None
    """CUDA's major version in the installed torch; None for a build without CUDA."""
    torch_loaded: bool = False
    held_gib: float = 0.0
    """GPU memory that this process holds."""
    notebook: bool = False
    access: hub.Access = field(default_factory=hub.Access)
    """How we stand with the hub about the model. The embedded model keeps the default."""
    cache: str = ""
    cache_writable: bool = True
    cache_free_gib: float = 0.0
    cached_gib: float = 0.0
    """How much of the model is already downloaded."""
    hash_gib_s: float = 0.0
    """How many GiB a second this machine hashes, measured on a few MiB in memory; 0 if nothing will be hashed."""

    def pip(self, arguments: str) -> str:
        """Return a pip command as it is typed here: a notebook's magic or a shell command."""
        return f"%pip {arguments}" if self.notebook else f"python -m pip {arguments}"

    def setting(self, name: str, value: str) -> str:
        """Return what to type to set an environment variable."""
        return f"%env {name}={value}" if self.notebook else f"export {name}={value}"

    @property
    def restart(self) -> str:
        """How to get a fresh process."""
        if self.machine.colab:
            return "Runtime > Restart session, then run again"
        return "Restart the kernel, then run again" if self.notebook else "Start Python anew"


def look(needs: Needs | None = None) -> Facts:
    """Return the facts about this machine that `needs` depends on, in a few seconds at most.

    The hub is asked only if the model comes from there. Raises CourseError if LLMCOURSE_GEAR names no gear.
    """
    needs = needs or Needs("")
    machine = hardware.detect_without_torch()
    if needs.repo:
        access = hub.find_access(needs.repo, needs.revision, needs.gated, HUB_SECONDS)
        cache, cached_gib = hub.cache_dir(), hub.cached_gib(needs.repo)
    else:
        access, cache = hub.Access(), files.cache_dir()
        cached_gib = sum(path.stat().st_size for path in cache.glob(f"{embedded.NAME}-*/*") if path.is_file()) / 2**30
    declared = installed.requirements()
    names = [need.name for need in declared or ()] + ["torch", "torchao", embedded.WHEEL.split("==")[0]]
    gpus, driver_silent = _gpus()
    return Facts(
        machine=machine,
        gear=machine.gear,
        requirements=None if declared is None else tuple(declared),
        versions={name: installed.version(name) for name in names},
        tested=installed.tested(machine.colab),
        swaps=tuple(installed.swaps()),
        gpus=gpus,
        driver_silent=driver_silent,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        cuda=_cuda(),
        torch_loaded="torch" in sys.modules,
        held_gib=_held(),
        notebook="ipykernel" in sys.modules,
        access=access,
        cache=str(cache),
        cache_writable=_writable(cache),
        cache_free_gib=files.free_bytes(cache) / 2**30,
        cached_gib=cached_gib,
        hash_gib_s=_hash_rate() if needs.repo else 0.0,
    )


def _gpus() -> tuple[int, bool]:
    """Return how many GPUs nvidia-smi lists, and whether it exists but fails."""
    if shutil.which("nvidia-smi") is None:
        return 0, False
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0, True
    return len(re.findall(r"^GPU \d+:", listed.stdout, flags=re.MULTILINE)), False


def _held() -> float:
    """Return how many GiB of GPU memory this process holds; 0 if torch has not used the GPU yet."""
    torch = sys.modules.get("torch")
    return torch.cuda.memory_reserved() / 2**30 if torch and torch.cuda.is_initialized() else 0.0


def _cuda() -> int | None:
    """Return CUDA's major version in the installed torch, from its version (2.11.0+cu128) or from its requirements."""
    from importlib import metadata

    try:
        torch = metadata.distribution("torch")
    except metadata.PackageNotFoundError:
        return None
    _, _, build = torch.version.partition("+")
    if build:
        match = re.match(r"cu(\d\d)", build)
    else:
        match = re.search(r"nvidia-[a-z-]+-cu(\d\d)", " ".join(torch.requires or ()))
    return int(match[1]) if match else None


def _hash_rate(mib: int = 32) -> float:
    """Return how many GiB a second SHA-256 takes, measured on so many MiB, which takes a tenth of a second or less."""
    block = bytes(mib * 2**20)
    start = time.perf_counter()
    hashlib.sha256(block)
    return mib / 1024 / (time.perf_counter() - start)


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=files.nearest_existing(folder)):
            return True
    except OSError:
        return False
