"""What this machine can do. Devices, memory, disk and Colab are asked about here only.

The number type depends on the compute capability, not on `torch.cuda.is_bf16_supported()`, which also returns True
where bfloat16 is only emulated, as on a T4.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from llmcourse._base import __version__
from llmcourse._base.errors import CourseError

GEARS = ("cpu", "t4", "gpu")
"""The three ways to run the course; `llmcourse.setup.gears` defines what each one chooses."""

GEAR_VARIABLE = "LLMCOURSE_GEAR"
"""The environment variable that overrides the gear."""

DTYPE_VARIABLE = "LLMCOURSE_DTYPE"
"""The environment variable that overrides the number type of models from the hub or a folder."""

DTYPES = ("float32", "float16", "bfloat16")

FAST = 1.3
"""How many times as fast as float32 a processor must be in bfloat16 for its products to be called fast. Without units
for bfloat16 it is slower; with AMX we measured 7 for large products, and 1.7 to 3 for whole models."""

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
    """Free at the time of asking. On a T4 this is at most 14.74, less what the CUDA context takes."""
    disk_free_gib: float = 0.0
    """On the disk of the current folder."""
    colab: bool = False
    driver: str | None = None
    """Version of the NVIDIA driver; None unless `nvidia-smi` was asked."""

    @property
    def dtype(self) -> str:
        """float32 on a CPU, float16 on a GPU older than Ampere (8.0), bfloat16 on Ampere and newer."""
        if self.capability is None:
            return "float32"
        return "bfloat16" if self.capability >= AMPERE else "float16"

    @property
    def gear(self) -> str:
        """cpu, t4 (a GPU older than Ampere) or gpu; the environment variable LLMCOURSE_GEAR overrides it.

        Raises CourseError if the variable names no gear.
        """
        wanted = os.environ.get(GEAR_VARIABLE)
        if wanted:
            if wanted not in GEARS:
                raise CourseError(f"{GEAR_VARIABLE}={wanted} is not a gear. Use {', '.join(GEARS)}, or unset it.")
            return wanted
        if self.capability is None:
            return "cpu"
        return "gpu" if self.capability >= AMPERE else "t4"

    def as_dict(self) -> dict[str, Any]:
        """Return what results files record: JSON-able, without what is free now, without names of host or user."""
        lasting = {key: value for key, value in asdict(self).items() if "free" not in key}
        return {**lasting, "dtype": self.dtype, "system": platform.system(), "python": platform.python_version()}

    def table(self) -> str:
        """Return the machine in a few lines of text."""
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
    """Return this machine as torch sees it: a GPU that torch cannot use does not count. Looks once in a process."""
    import torch

    if not torch.cuda.is_available():
        return _without_gpu()
    index = torch.cuda.current_device()  # each of several processes has its own
    gpu = torch.cuda.get_device_properties(index)
    free, total = (value / 2**30 for value in torch.cuda.mem_get_info(index))
    capability = (gpu.major, gpu.minor)
    return replace(
        _without_gpu(), device="cuda", name=gpu.name, capability=capability, gpu_gib=total, gpu_free_gib=free
    )


def detect_without_torch() -> Hardware:
    """Return this machine as `nvidia-smi` shows it, in a second instead of many: torch is not imported.

    The GPU is the first of those that CUDA_VISIBLE_DEVICES leaves visible. A machine whose `nvidia-smi` is missing or
    fails counts as one without a GPU.
    """
    query = "name,compute_cap,memory.total,memory.free,driver_version"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        first = visible.split(",")[0].strip()
        if first in ("", "-1"):
            return _without_gpu()
        command.append(f"--id={first}")  # nvidia-smi does not know the variable
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=8, check=True).stdout
        name, capability, total, free, driver = (field.strip() for field in output.splitlines()[0].split(","))
        major, minor = map(int, capability.split("."))
        return replace(
            _without_gpu(),
            device="cuda",
            name=name,
            capability=(major, minor),
            gpu_gib=float(total) / 1024,
            gpu_free_gib=float(free) / 1024,
            driver=driver,
        )
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return _without_gpu()


def _without_gpu() -> Hardware:
    """Return this machine's processor, memory and disk."""
    import psutil

    memory = psutil.virtual_memory()
    return Hardware(
        device="cpu",
        name=_cpuinfo().get("model name") or platform.processor() or platform.machine(),
        capability=None,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        ram_gib=memory.total / 2**30,
        gpu_gib=None,
        ram_free_gib=memory.available / 2**30,
        disk_free_gib=shutil.disk_usage(".").free / 2**30,
        colab=on_colab(),
    )


def free_ram_gib() -> float:
    """Return how much main memory is free now."""
    import psutil

    return float(psutil.virtual_memory().available / 2**30)


def on_colab() -> bool:
    """Return whether this is Google Colab. Its kernels have the module; a shell started from one has the variable."""
    return "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ


def _cpuinfo() -> dict[str, str]:
    """Return what Linux reports about the first processor; an empty dictionary elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            pairs = [line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, value in pairs}


def prefer_onednn() -> bool:
    """Have oneDNN compute float32 matrix products on AMD processors with AVX-512. Return whether it does so now.

    torch sends its products to Intel's MKL, which reaches about half of an AMD processor's speed or less (measured: 155
    against 350 billion operations a second on two cores). oneDNN comes with torch too and treats both makers alike, but
    torch uses it only where less precision than float32 is *allowed*: `torch.set_float32_matmul_precision("medium")`.
    oneDNN lowers the precision only on AMX units, which AMD processors do not have. We try one product to be sure that
    it stays in float32.

    The setting belongs to torch and applies to the whole process. If it was changed before, it stays as it is.
    """
    import torch

    cpu = _cpuinfo()
    flags = cpu.get("flags", "").split()
    has_amx = any(flag.startswith("amx") for flag in flags)
    if cpu.get("vendor_id") != "AuthenticAMD" or "avx512f" not in flags or has_amx:
        return False
    if torch.cuda.is_available() or torch.get_float32_matmul_precision() != "highest":
        return torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision("medium")
    values = torch.full((256, 256), 1 + 2**-20)  # bfloat16 rounds the fraction to 7 bits, TensorFloat to 10
    if not torch.equal(torch.matmul(values, torch.eye(256)), values):
        torch.set_float32_matmul_precision("highest")
        return False
    return True


@lru_cache(maxsize=1)
def bfloat16_speedup() -> float:
    """Return how many times as fast this processor multiplies matrices in bfloat16 as in float32. It takes about 0.1 s.

    The shortest of several turns counts, so that other programs disturb both alike. Measured once in a process.
    """
    import torch

    times = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    matrices = {dtype: torch.ones(512, 512, dtype=dtype) for dtype in times}
    for _ in range(8):
        for dtype, matrix in matrices.items():
            start = time.perf_counter()
            torch.matmul(matrix, matrix)
            times[dtype] = min(times[dtype], time.perf_counter() - start)
    return times[torch.float32] / times[torch.bfloat16]


def hub_dtype(machine: Hardware) -> str:
    """Return the type in which models from the hub or a folder compute: the GPU's, or bfloat16 on a CPU that is fast in
    it, else float32.

    The embedded model keeps to float32 on every CPU, so that everyone gets the recorded numbers. LLMCOURSE_DTYPE
    overrides the choice. Raises CourseError if it names no type.
    """
    wanted = os.environ.get(DTYPE_VARIABLE)
    if wanted:
        if wanted not in DTYPES:
            raise CourseError(f"{DTYPE_VARIABLE}={wanted} is not a type. Use {', '.join(DTYPES)}, or unset it.")
        return wanted
    if machine.capability is None and bfloat16_speedup() >= FAST:
        return "bfloat16"
    return machine.dtype


@contextmanager
def prefer_mkl() -> Iterator[None]:
    """Compute float32 matrix products as torch does by default, also where `prefer_onednn` has changed that."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class PeakMemory:
    """Measure this process's peak memory while the block runs, in GiB: on the GPU if there is one, else in RAM.

    RAM is the resident size, sampled ten times a second, because a CPU process has no counter that can be reset.
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

    def __exit__(self, *error: object) -> None:
        import torch

        if self._cuda:
            self.gib = torch.cuda.max_memory_allocated() / 2**30
            return
        self._done.set()
        self._thread.join()
        self._sample()


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide results, without importing them."""
    from importlib import metadata

    names = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "bitsandbytes", "scikit-learn", "numpy")
    return {"llmcourse": __version__, **{name: metadata.version(name) for name in names}}


def now() -> str:
    """Return the date and minute (UTC), for results files."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
