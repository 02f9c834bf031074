"""Random streams: one per seed and purpose, so that nothing that runs beside a seed can change it."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """The random stream of `seed` for a purpose, e.g. `stream(3, "noise", "target_action")`.

    Streams of different purposes or seeds are independent, and a stream depends on nothing else: not on the
    algorithm, the device, or which other seeds run.
    """
    digest = hashlib.sha256("/".join(map(str, purpose)).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence([seed, *np.frombuffer(digest, np.uint32)]))
