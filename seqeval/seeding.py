"""Independent random streams by seed and purpose."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """The random stream of a seed for a purpose, for example `stream(3, "noise", "target_action")`.

    Streams of different seeds or purposes are independent. A stream depends on nothing else: not on the
    algorithm, the device, or the other seeds of the job.
    """
    digest = hashlib.sha256("/".join(map(str, purpose)).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence([seed, *np.frombuffer(digest, np.uint32)]))
