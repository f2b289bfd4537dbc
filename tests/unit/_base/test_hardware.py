"""What a machine is taken for, and what follows from it."""

import os
from dataclasses import replace

import pytest

from llmcourse._base import hardware
from llmcourse._base.hardware import GEAR_VARIABLE, Hardware

CPU = Hardware("cpu", "AMD EPYC", None, 2, 12.0, None)


@pytest.mark.parametrize(
    ("capability", "dtype", "gear"),
    [
        (None, "float32", "cpu"),
        ((6, 0), "float16", "t4"),  # P100
        ((7, 0), "float16", "t4"),  # V100
        ((7, 5), "float16", "t4"),
        ((8, 0), "bfloat16", "gpu"),  # A100
        ((8, 9), "bfloat16", "gpu"),  # L4
        ((12, 0), "bfloat16", "gpu"),
    ],
)
def test_dtype_and_gear_go_by_capability(capability, dtype, gear, monkeypatch):
    monkeypatch.delenv(GEAR_VARIABLE, raising=False)
    machine = replace(CPU, capability=capability, gpu_gib=15.0 if capability else None)
    assert (machine.dtype, machine.gear) == (dtype, gear) and machine.gear in machine.table()


def nvidia_smi(folder, monkeypatch, answer: str, code: int = 0) -> None:
    """A program of that name which answers like the driver's."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{answer}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_glance_reads_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.delenv(GEAR_VARIABLE, raising=False)
    nvidia_smi(tmp_path, monkeypatch, "Tesla T4, 7.5, 15360, 14913, 580.65.06")
    machine = hardware.detect_without_torch()
    assert (machine.name, machine.capability, machine.gear, machine.dtype) == ("Tesla T4", (7, 5), "t4", "float16")
    assert machine.gpu_gib == 15.0 and machine.gpu_free_gib == pytest.approx(14.56, abs=0.01)
    assert "Tesla T4, compute capability 7.5, 15.0 GiB, 14.6 free, driver 580.65.06" in machine.table()


def test_a_glance_sees_what_cuda_sees(tmp_path, monkeypatch):
    """nvidia-smi does not know CUDA_VISIBLE_DEVICES."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\nn=0\nfor part in "$@"; do case $part in --id=*) n=${part#--id=};; esac; done\n'
        'echo "GPU $n, 7.5, 15360, 1491$n, 580.65.06"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for visible, device, free in (("1", "cuda", 14911), ("2,0", "cuda", 14912), ("", "cpu", None), ("-1", "cpu", None)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        machine = hardware.detect_without_torch()
        assert machine.device == device
        assert free is None or machine.gpu_free_gib == free / 1024
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert hardware.detect_without_torch().name == "GPU 0"


@pytest.mark.parametrize(("answer", "code"), [("NVIDIA-SMI has failed", 9), ("No devices were found", 0), ("", 0)])
def test_a_driver_that_does_not_answer_is_no_gpu(answer, code, tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, answer, code)
    machine = hardware.detect_without_torch()
    assert (machine.device, machine.capability) == ("cpu", None) and machine.ram_gib > 0 and machine.disk_free_gib > 0


def test_results_files_hold_what_lasts():
    kept = replace(CPU, ram_free_gib=3.0, disk_free_gib=9.0).as_dict()
    assert kept["ram_gib"] == 12.0 and kept["dtype"] == "float32" and not [key for key in kept if "free" in key]


AMD = {"vendor_id": "AuthenticAMD", "flags": "fpu avx2 avx512f avx512_bf16"}


@pytest.fixture
def precision():
    """torch's setting for products at its default, and afterwards as it was before."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield torch.get_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def products(monkeypatch):
    """`products("bfloat16")` makes torch.matmul multiply in that type, as a processor that rounds its inputs does."""
    import torch

    real = torch.matmul

    def multiply_in(dtype: str) -> None:
        kind = getattr(torch, dtype)
        monkeypatch.setattr(torch, "matmul", lambda a, b: real(a.to(kind), b.to(kind)).to(a.dtype))

    return multiply_in


@pytest.mark.parametrize(
    ("cpu", "preferred"),
    [
        (AMD, True),
        ({**AMD, "vendor_id": "GenuineIntel"}, False),
        ({**AMD, "flags": "fpu avx2"}, False),
        ({**AMD, "flags": AMD["flags"] + " amx_bf16 amx_tile"}, False),  # it would round to bfloat16
        ({}, False),  # not Linux
    ],
    ids=["AMD", "Intel", "old AMD", "AMX", "unknown"],
)
def test_products_go_to_onednn_where_mkl_is_slow(cpu, preferred, precision, products, monkeypatch):
    products("float64")  # the trial product is exact, whatever processor runs this test
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: cpu)
    assert hardware.prefer_onednn() is preferred
    assert precision() == ("medium" if preferred else "highest")
    assert hardware.prefer_onednn() is preferred


def test_products_stay_in_float32(precision, monkeypatch):
    import torch

    monkeypatch.setattr(hardware, "_cpuinfo", lambda: AMD)
    if not hardware.prefer_onednn():
        pytest.skip("this processor rounds to less than float32, and its setting was left alone")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(200, 576, generator=generator), torch.randn(576, 300, generator=generator)
    exact = a.double() @ b.double()
    assert float((a @ b - exact).abs().max()) < 1e-6 * float(exact.abs().max()) * 576**0.5


def test_less_than_float32_is_not_accepted(precision, products, monkeypatch):
    products("bfloat16")
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: AMD)
    assert hardware.prefer_onednn() is False and precision() == "highest"


def test_what_the_user_chose_stays(precision, monkeypatch):
    import torch

    monkeypatch.setattr(hardware, "_cpuinfo", lambda: AMD)
    torch.set_float32_matmul_precision("high")
    assert hardware.prefer_onednn() is False and precision() == "high"
