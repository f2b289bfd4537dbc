"""What this machine can do. The only place that asks about devices, memory, disk, and whether this is Colab.

dtype goes by compute capability, never by `torch.cuda.is_bf16_supported()`, which also answers True where bfloat16 is
emulated (a T4).
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache

from llmcourse._base import __version__
from llmcourse._base.errors import CourseError

GEARS = ("cpu", "t4", "gpu")
"""The three ways to run the course; `llmcourse.setup.gears` says what each one chooses."""

GEAR_VARIABLE = "LLMCOURSE_GEAR"
"""The environment variable that overrides the gear."""

AMPERE = (8, 0)
"""The first compute capability with bfloat16 and FlashAttention in hardware."""


@dataclass(frozen=True)
class Hardware:
    """A machine as the course sees it. Memory and disk in GiB."""

    device: str
    """"cuda" or "cpu"."""
    name: str
    """The GPU's or the processor's name."""
    capability: tuple[int, int] | None
    """CUDA compute capability; None without a GPU."""
    cores: int
    ram_gib: float
    gpu_gib: float | None
    ram_free_gib: float = 0.0
    gpu_free_gib: float | None = None
    """Free at the time of asking; on a T4 at most 14.74 less what the CUDA context takes."""
    disk_free_gib: float = 0.0
    """Where the current folder lies."""
    colab: bool = False
    driver: str | None = None
    """Version of the NVIDIA driver, if `nvidia-smi` was asked."""

    @property
    def dtype(self) -> str:
        """float32 on a CPU, float16 on a GPU before Ampere (8.0), bfloat16 from there on."""
        if self.capability is None:
            return "float32"
        return "bfloat16" if self.capability >= AMPERE else "float16"

    @property
    def gear(self) -> str:
        """cpu, t4 (a GPU before Ampere) or gpu; the environment variable LLMCOURSE_GEAR overrides it.

        Raises CourseError if that names no gear.
        """
        wanted = os.environ.get(GEAR_VARIABLE)
        if wanted:
            if wanted not in GEARS:
                raise CourseError(f"{GEAR_VARIABLE}={wanted} is no gear. Use {', '.join(GEARS)}, or unset it.")
            return wanted
        if self.capability is None:
            return "cpu"
        return "gpu" if self.capability >= AMPERE else "t4"

    def as_dict(self) -> dict:
        """JSON-able description for results files: what lasts, not what is free now; it names no host and no user."""
        lasting = {key: value for key, value in asdict(self).items() if "free" not in key}
        return {**lasting, "dtype": self.dtype, "system": platform.system(), "python": platform.python_version()}

    def table(self) -> str:
        """The machine in a few lines of text."""
        gpu = "none"
        if self.capability:
            free = "" if self.gpu_free_gib is None else f", {self.gpu_free_gib:.1f} free"
            driver = f", driver {self.driver}" if self.driver else ""
            major, minor = self.capability
            gpu = f"{self.name}, compute capability {major}.{minor}, {self.gpu_gib:.1f} GiB{free}{driver}"
        lines = {
            "gear": self.gear + (f" ({GEAR_VARIABLE} is set)" if os.environ.get(GEAR_VARIABLE) else ""),
            "GPU": gpu,
            "numbers": self.dtype,
            "CPU": f"{self.cores} cores" + ("" if self.capability else f", {self.name}"),
            "RAM": f"{self.ram_gib:.1f} GiB, {self.ram_free_gib:.1f} free",
            "disk": f"{self.disk_free_gib:.0f} GiB free",
            "Colab": "yes" if self.colab else "no",
        }
        return "\n".join(f"{name:<8} {value}" for name, value in lines.items())


@lru_cache(maxsize=1)
def detect() -> Hardware:
    """Look at this machine (once a process), with the eyes of torch: a GPU that torch cannot use does not count."""
    import torch

    if torch.cuda.is_available():
        mine = torch.cuda.current_device()  # of several processes each has its own
        card = torch.cuda.get_device_properties(mine)
        free, total = (value / 2**30 for value in torch.cuda.mem_get_info(mine))
        return Hardware("cuda", card.name, (card.major, card.minor), gpu_gib=total, gpu_free_gib=free, **_rest())
    return Hardware("cpu", _processor(), None, gpu_gib=None, **_rest())


def glance() -> Hardware:
    """Look at this machine without importing torch (a second instead of many): a GPU is what `nvidia-smi` shows, of those that
    CUDA_VISIBLE_DEVICES leaves the first.

    Raises nothing: a machine without `nvidia-smi` has no GPU that the course can use.
    """
    query = "name,compute_cap,memory.total,memory.free,driver_version"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = (visible or "").split(",")[0].strip()
    try:
        if visible is not None:
            if first in ("", "-1"):
                raise ValueError("the GPUs are hidden")
            command.append(f"--id={first}")  # nvidia-smi itself shows all
        answer = subprocess.run(command, capture_output=True, text=True, timeout=8, check=True).stdout
        name, capability, total, free, driver = (part.strip() for part in answer.splitlines()[0].split(","))
        major, minor = map(int, capability.split("."))
        gpu = {"gpu_gib": float(total) / 1024, "gpu_free_gib": float(free) / 1024, "driver": driver}
        return Hardware("cuda", name, (major, minor), **gpu, **_rest())
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return Hardware("cpu", _processor(), None, gpu_gib=None, **_rest())


def _rest() -> dict:
    """What is asked the same way with and without torch."""
    import shutil

    import psutil

    memory = psutil.virtual_memory()
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "ram_gib": memory.total / 2**30,
        "ram_free_gib": memory.available / 2**30,
        "disk_free_gib": shutil.disk_usage(".").free / 2**30,
        "colab": on_colab(),
    }


def on_colab() -> bool:
    """Whether this is Google Colab: its kernels have the module, and the variable reaches a shell started from one."""
    return "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            pairs = [line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, value in pairs}


def settle_products() -> bool:
    """Have oneDNN compute float32 matrix products on an AMD processor with AVX-512; tells whether that is so now.

    torch's products go to Intel's MKL, which runs AMD's processors at about half their speed or less (measured: 155 against 350
    billion operations a second on two cores). oneDNN comes with torch too, and has no such preference, but is asked only where less
    precision than float32 is *allowed* (`torch.set_float32_matmul_precision("medium")`). It makes use of that only in
    AMX units, which AMD's processors do not have; a product is tried to see that float32 it stays.

    The setting is torch's and holds for the whole process. Who has changed it before keeps what was chosen.
    """
    import torch

    cpu = _cpuinfo()
    flags = cpu.get("flags", "").split()
    if cpu.get("vendor_id") != "AuthenticAMD" or "avx512f" not in flags or any(f.startswith("amx") for f in flags):
        return False
    if torch.cuda.is_available() or torch.get_float32_matmul_precision() != "highest":
        return torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision("medium")
    fine = torch.full((256, 256), 1 + 2**-20)  # bfloat16 has 7 bits behind the point, TensorFloat 10
    if not torch.equal(fine @ torch.eye(256), fine):
        torch.set_float32_matmul_precision("highest")
        return False
    return True


@contextmanager
def mkl_products() -> Iterator[None]:
    """Matrix products as torch computes them by itself, whatever `settle_products` has chosen."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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

    names = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "bitsandbytes", "scikit-learn", "numpy")
    return {"llmcourse": __version__, **{name: metadata.version(name) for name in names}}


def now() -> str:
    """The date and minute (UTC), for results files."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
