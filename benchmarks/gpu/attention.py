"""(a) Torch's attention kernels on rows that are padded on the left: are their numbers and gradients numbers?

From torch 2.11 on, cuDNN's kernel gave NaN there on Hopper (pytorch/pytorch#196678), so the course leaves it out. The
other kernels, and the one that torch chooses among them, must be without NaN and close to a float32 computation.
"""

import contextlib
import warnings
from typing import Any

from gpu.setting import Findings, Setting
from llmcourse.models import attention

LEFT_OUT = "CUDNN_ATTENTION"
KERNELS = ("MATH", "EFFICIENT_ATTENTION", "FLASH_ATTENTION", LEFT_OUT)
COURSE = "as the course"
TOLERANCE = {"float16": 5e-3, "bfloat16": 5e-2}
"""Largest error of an output. The inputs are normal numbers, and 16-bit types have 11 or 8 bits of precision."""


def run(setting: Setting, findings: Findings) -> None:
    """Try each kernel on each length and type."""
    for dtype, tolerance in TOLERANCE.items():
        for length in setting.sizes.lengths:
            for kernel in (*KERNELS, COURSE):
                name = f"{dtype}, {length} tokens, {kernel}"
                # whatever is wrong with a kernel that the course leaves out is no problem
                noted = Findings() if kernel == LEFT_OUT else findings
                with noted.part(name) as measured:
                    measured.update(try_kernel(setting, kernel, dtype, length))
                    if measured["available"]:
                        nan = measured["nan"]
                        noted.check(not any(nan.values()), f"{name}: NaN or infinity in {nan}")
                        noted.check(measured["error"] <= tolerance, f"{name}: error {measured['error']}")
                if noted is not findings:
                    findings.measured[name] = {**measured, "problems": noted.problems}


def try_kernel(setting: Setting, kernel: str, dtype: str, length: int) -> dict[str, Any]:
    """Run attention forwards and backwards, and return how many numbers are NaN and the largest error."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    query, key, value, real, mask = padded_batch(setting, length)
    # the loss is on real positions only, as in training
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    inputs = [part.to(getattr(torch, dtype)).requires_grad_() for part in (query, key, value)]
    if kernel == COURSE:
        attention.leave_out_cudnn(setting.real)
        chosen: Any = contextlib.nullcontext()
    else:
        chosen = sdpa_kernel(getattr(SDPBackend, kernel))
    try:
        with chosen, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch explains at length why a kernel is not available
            out = torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=mask)
            out.transpose(1, 2)[real].float().sum().backward()
    except RuntimeError as error:
        if "No available kernel" not in str(error) and "No viable backend" not in str(error):
            raise
        return {"available": False}
    out = out.detach()
    seen = {"output": out.transpose(1, 2)[real], "padding": out.transpose(1, 2)[~real]}
    gradients = {f"gradient of {n}": p.grad for n, p in zip(("query", "key", "value"), inputs, strict=True)}
    nan = {name: int((~part.isfinite()).sum()) for name, part in {**seen, **gradients}.items()}
    error = float((seen["output"].float() - expected.transpose(1, 2)[real]).abs().nan_to_num(1e9).max())
    return {"available": True, "nan": nan, "error": round(error, 6)}


def padded_batch(setting: Setting, length: int) -> tuple[Any, ...]:
    """Return query, key and value (rows, heads, length, head_dim) in float32, which positions (rows, length) are real,
    and the mask as transformers makes it: causal, and without the padding."""
    import torch

    torch.manual_seed(length)
    shape = (4, 32 if setting.full else 2, length, 128 if setting.full else 16)
    query, key, value = (torch.randn(shape, device=setting.real.device) for _ in range(3))
    sizes = torch.tensor([length, 3 * length // 4, length // 2, 1], device=setting.real.device)
    real = torch.arange(length, device=setting.real.device) >= length - sizes[:, None]
    causal = torch.ones(length, length, dtype=torch.bool, device=setting.real.device).tril()
    return query, key, value, real, causal & real[:, None, None, :]
