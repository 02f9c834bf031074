"""How the data of a dataset arrives for one seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqeval.config import Protocol
from seqeval.seeding import stream
from seqeval.slicing import arrival_order, held_out_episodes
from seqeval.types import Dataset


class Arrival(NamedTuple):
    """Rows of the buffer."""

    order: np.ndarray  # (N,) int32, in the order of arrival
    held_out: np.ndarray  # int32, of the held-out episodes, in the order of the dataset


def arrival(protocol: Protocol, dataset: Dataset, seed: int, size: int, offset: int = 0) -> Arrival:
    """How `size` transitions of a dataset that begins at a row `offset` arrive for a seed."""
    rng = stream(seed, "order")
    order = arrival_order(protocol.order, rng, dataset.episode, dataset.episode_returns, dataset.segments)
    order = order + np.int32(offset) if offset else order
    if not protocol.hold_out:
        return Arrival(order, order[:0])
    rng = stream(seed, "hold_out")
    held_out = held_out_episodes(protocol.hold_out, rng, dataset.episode_lengths)[dataset.episode]
    rows = np.flatnonzero(held_out).astype(np.int32) + np.int32(offset)
    return Arrival(order[~held_out[order - offset]][:size], rows)
