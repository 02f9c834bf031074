"""Matmul backends: which kernels compute the matrix products, and in which precision.

Both follow from the processor and from the precision that the study asks for, never from a timing, so equal
machines give equal numbers. A study directory records its backend and keeps it: other kernels round the last
bit differently.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from seqeval.errors import UserError
from seqeval.types import Precision

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ALIGNMENT = 64  # bytes: torch's allocator starts CPU tensors at multiples of it

Kernels = Literal["onednn", "narrow-onednn", "blas"]


@dataclass(frozen=True)
class MatmulBackend:
    """How matrix products are computed.

    kernels: on the CPU in float32, those of oneDNN, those of the BLAS behind `torch.mm`, or oneDNN's for
        narrow results only.
    operands: the type that the operands of wide products are rounded to; sums are always float32.
    """

    kernels: Kernels = "blas"
    operands: Literal["float32", "bfloat16", "tf32"] = "float32"


def default_backend(device: str, precision: Precision = "full") -> MatmulBackend:
    """The backend for this machine; `device` is cpu or cuda.

    On AMD processors MKL, the BLAS of the PyTorch wheels, uses only the 256-bit units. That is half of the
    speed of Zen 5 (family 26) and, except for narrow results, the full speed of older ones. On other
    processors it is at least as fast as oneDNN.
    """
    if device == "cuda":
        return MatmulBackend("blas", "tf32" if precision == "fast" else "float32")
    vendor, family = processor_family()
    kernels: Kernels = "blas"
    if HAS_ONEDNN and vendor == "AuthenticAMD":
        kernels = "onednn" if family >= 26 else "narrow-onednn"
    return MatmulBackend(kernels, "bfloat16" if precision == "fast" and has_bfloat16() else "float32")


def aligned(tensor: Tensor) -> Tensor:
    """A CPU tensor, or a copy of it where it does not start at an address that torch allocates.

    Kernels round a product differently if a factor starts elsewhere, as a replica's part of a tensor does
    whose size is not a multiple of 16.
    """
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively, and so faster than float32."""
    capabilities = torch.cpu.get_capabilities()
    return HAS_ONEDNN and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@cache
def processor_family() -> tuple[str, int]:
    """Vendor and family of this machine's processor; see `parse_processor_family`."""
    info = Path("/proc/cpuinfo")
    return parse_processor_family(info.read_text() if info.exists() else platform.processor())


def parse_processor_family(text: str) -> tuple[str, int]:
    """Vendor and family in the description of an x86 processor by Linux or Windows; ("", 0) for others."""
    vendor = re.search(r"AuthenticAMD|GenuineIntel", text)
    family = re.search(r"(?:cpu family\s*:|Family) *(\d+)", text)
    return (vendor.group() if vendor else "", int(family.group(1)) if family else 0)


def current() -> MatmulBackend:
    """The backend in use; outside of `using`, this machine's for the CPU at full precision."""
    return _current or default_backend("cpu")


_current: MatmulBackend | None = None


@contextmanager
def using(backend: MatmulBackend) -> Iterator[None]:
    """Use a backend for the matrix products of this process. Raises UserError if the machine lacks it."""
    global _current
    if backend.kernels != "blas" and not HAS_ONEDNN:
        raise UserError(_unavailable("oneDNN kernels, which this torch does not have"))
    if backend.operands == "bfloat16" and not has_bfloat16():
        raise UserError(_unavailable("bfloat16 products, which this processor does not have"))
    before, _current = _current, backend
    cuda = torch.backends.cuda.matmul
    tf32, cuda.fp32_precision = cuda.fp32_precision, "tf32" if backend.operands == "tf32" else "ieee"
    try:
        yield
    finally:
        _current, cuda.fp32_precision = before, tf32


def _unavailable(feature: str) -> str:
    return (
        f"precision: this study started with {feature}; resume it on the machine where it started, "
        "or choose another --out"
    )
