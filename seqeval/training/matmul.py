"""How matrix products are made: by whose kernels, and of which numbers.

Both follow from the processor and the precision that the study asks for, never from a timing, so that equal
machines give equal numbers. A run directory keeps what it was begun with: other kernels round the last bit
otherwise.
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

from seqeval.errors import UserError
from seqeval.types import Precision

ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@dataclass(frozen=True)
class MatmulBackend:
    """Whose kernels make the products of float32 on the CPU: oneDNN's, those of the BLAS behind `torch.mm`,
    or oneDNN's for narrow results alone; and what the operands of wide products are rounded to, whose sums
    are of float32 in any case."""

    kernels: Literal["onednn", "narrow-onednn", "blas"] = "blas"
    operands: Literal["float32", "bfloat16", "tf32"] = "float32"


def default_backend(device: str, precision: Precision = "full") -> MatmulBackend:
    """The rule. `device` is cpu or cuda.

    The BLAS of torch's builds, MKL, uses on AMD's processors the 256-bit units alone: half of what Zen 5
    (family 26) can do, and all that its predecessors can, but for narrow results. Elsewhere it is as fast as
    oneDNN or faster.
    """
    if device == "cuda":
        return MatmulBackend("blas", "tf32" if precision == "fast" else "float32")
    vendor, family = processor_family()
    kernels: Literal["onednn", "narrow-onednn", "blas"] = "blas"
    if ONEDNN and vendor == "AuthenticAMD":
        kernels = "onednn" if family >= 26 else "narrow-onednn"
    return MatmulBackend(kernels, "bfloat16" if precision == "fast" and has_bfloat16() else "float32")


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16, and so faster than float32."""
    able = torch.cpu.get_capabilities()
    return ONEDNN and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@cache
def processor_family() -> tuple[str, int]:
    """Of this machine's processor: see `family_in`."""
    info = Path("/proc/cpuinfo")
    return family_in(info.read_text() if info.exists() else platform.processor())


def family_in(text: str) -> tuple[str, int]:
    """Vendor and family, as Linux and Windows tell them of x86; of others an empty name and 0."""
    vendor = re.search(r"AuthenticAMD|GenuineIntel", text)
    family = re.search(r"(?:cpu family\s*:|Family) *(\d+)", text)
    return (vendor.group() if vendor else "", int(family.group(1)) if family else 0)


def current() -> MatmulBackend:
    """What this process computes with; until told otherwise, its machine's at full precision."""
    return _current or default_backend("cpu")


_current: MatmulBackend | None = None


@contextmanager
def using(backend: MatmulBackend) -> Iterator[None]:
    """This process computes so, for a while. Raises UserError where this machine cannot."""
    global _current
    lacking = {
        "products by oneDNN, which torch has not got": backend.kernels != "blas" and not ONEDNN,
        "products of bfloat16, which the processor has not got": backend.operands == "bfloat16"
        and not has_bfloat16(),
    }
    for what, lacks in lacking.items():
        if lacks:
            raise UserError(
                f"precision: the study was begun with {what} here; go on where it was begun, or give another "
                "--out"
            )
    before, _current = _current, backend
    of_cuda = torch.backends.cuda.matmul
    tf32, of_cuda.fp32_precision = of_cuda.fp32_precision, "tf32" if backend.operands == "tf32" else "ieee"
    try:
        yield
    finally:
        _current, of_cuda.fp32_precision = before, tf32
