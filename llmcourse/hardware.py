"""What this machine can do. The only place that asks torch about devices.

dtype goes by compute capability, never by `torch.cuda.is_bf16_supported()`, which also answers True where bfloat16 is
emulated (a T4).
"""

import platform
import time
from dataclasses import asdict, dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Hardware:
    """A machine as the course sees it. Memory in GiB."""

    device: str
    """"cuda" or "cpu"."""
    name: str
    """The GPU's or the processor's name."""
    capability: tuple[int, int] | None
    """CUDA compute capability; None without a GPU."""
    cores: int
    ram_gib: float
    gpu_gib: float | None

    @property
    def dtype(self) -> str:
        """float32 on a CPU, float16 on a GPU before Ampere (8.0), bfloat16 from there on."""
        if self.capability is None:
            return "float32"
        return "bfloat16" if self.capability >= (8, 0) else "float16"

    def as_dict(self) -> dict:
        """JSON-able description for results files; it names no host and no user."""
        return {**asdict(self), "dtype": self.dtype, "system": platform.system(), "python": platform.python_version()}


@lru_cache(maxsize=1)
def detect() -> Hardware:
    """Look at this machine (once a process)."""
    import os

    import psutil
    import torch

    ram = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Hardware("cuda", card.name, (card.major, card.minor), cores, ram, card.total_memory / 2**30)
    return Hardware("cpu", _processor(), None, cores, ram, None)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class PeakMemory:
    """The most memory that this process held while the block ran, in GiB: on the GPU if there is one, else in RAM.

    In RAM it is the resident size, sampled ten times a second (a CPU process has no counter that can be set back).
    """

    gib: float = 0.0

    def __enter__(self) -> "PeakMemory":
        import threading

        import psutil
        import torch

        self._cuda = torch.cuda.is_available()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            return self
        self._process, self._done = psutil.Process(), threading.Event()
        self._sample()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        self.gib = max(self.gib, self._process.memory_info().rss / 2**30)

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self._sample()

    def __exit__(self, *error) -> None:
        import torch

        if self._cuda:
            self.gib = torch.cuda.max_memory_allocated() / 2**30
            return
        self._done.set()
        self._thread.join()
        self._sample()


def versions() -> dict[str, str]:
    """Versions of the libraries that decide results, without importing them."""
    from importlib import metadata

    import llmcourse

    names = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "scikit-learn", "numpy")
    return {"llmcourse": llmcourse.__version__, **{name: metadata.version(name) for name in names}}


def now() -> str:
    """The date and minute (UTC), for results files."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
