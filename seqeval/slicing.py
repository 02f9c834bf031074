"""When each logged transition arrives, and what may be drawn at each update. NumPy alone, no data, no I/O.

Source: PROTOCOL sections 2 and 3, after Sujit et al. (arXiv 2212.08131).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from seqeval.errors import UserError

Order = Literal["shuffled", "episodes", "logged", "segments", "return"]


def arrival_order(
    order: Order,
    rng: np.random.Generator,
    episode: np.ndarray,
    episode_returns: np.ndarray,
    segments: Sequence[int],
) -> np.ndarray:
    """The order in which N transitions arrive: a permutation of 0..N-1, int32.

    `episode` (N,) is each transition's episode, `episode_returns` (E,) those episodes' returns, `segments`
    the lengths of the dataset's parts. `shuffled`: uniformly at random. `episodes`: whole episodes in random
    order. `logged`: as in the file. `segments`: the parts in turn, shuffled inside each. `return`: episodes
    from lowest to highest return, ties as in the file.
    """
    size = len(episode)
    if order == "shuffled":
        return rng.permutation(size).astype(np.int32)
    if order == "logged":
        return np.arange(size, dtype=np.int32)
    if order == "segments":
        if sum(segments) != size:
            raise ValueError(f"segments {tuple(segments)} do not add up to {size} transitions")
        starts = np.cumsum([0, *segments[:-1]])
        parts = [start + rng.permutation(n) for start, n in zip(starts, segments, strict=True)]
        return np.concatenate(parts).astype(np.int32)
    if order == "episodes":
        rank = rng.permutation(len(episode_returns))
    elif order == "return":
        rank = np.argsort(np.argsort(episode_returns, kind="stable"), kind="stable")
    else:
        raise UserError(f"protocol.order: no order {order!r}; choose one of {', '.join(get_args(Order))}")
    return np.argsort(rank[episode], kind="stable").astype(np.int32)


@dataclass(frozen=True)
class Stream:
    """The schedule of one continual run: `start` transitions are visible, then `grow_by` more arrive after
    every `updates_per_growth` updates, until all `size` are; the last ones get their updates too.

    Updates are counted from 0. Positions are places in the arrival order, not rows of the dataset.
    """

    size: int  # N
    start: int  # T0
    grow_by: int  # γ
    updates_per_growth: int  # K
    window: int | None  # W

    def __post_init__(self) -> None:
        if self.start > self.size:
            raise UserError(
                f"protocol.start: {self.start} transitions cannot be visible at first, "
                f"the dataset has {self.size}"
            )
        if self.window is not None and self.window < self.grow_by:
            raise UserError(
                f"protocol.window: {self.window} is less than grow_by = {self.grow_by}: "
                "arriving transitions would leave the window before they are seen"
            )

    @property
    def arrivals(self) -> int:
        """A = ⌈(N - T0)/γ⌉."""
        return -(-(self.size - self.start) // self.grow_by)

    @property
    def updates(self) -> int:
        """U = K(A + 1)."""
        return self.updates_per_growth * (self.arrivals + 1)

    def visible(self, arrival: np.ndarray) -> np.ndarray:
        """n after the given arrivals; 0 means the start."""
        return np.minimum(self.size, self.start + arrival * self.grow_by)

    def window_start(self, visible: np.ndarray) -> np.ndarray:
        """First position that may be drawn when the first `visible` have arrived."""
        return np.maximum(0, visible - (self.window or self.size))

    def points(self, count: int) -> list[tuple[int, int]]:
        """(updates made, n) at `count` even steps of n from T0 to N: after the last update at the first
        n ≥ T0 + round(i(N - T0)/count), i = 0..count. Points that fall together are one."""
        marks = [round(i * (self.size - self.start) / count) for i in range(count + 1)]
        arrival = np.unique([-(-mark // self.grow_by) for mark in marks])
        made = self.updates_per_growth * (arrival + 1)
        return list(zip(made.tolist(), self.visible(arrival).tolist(), strict=True))

    def positions(self, first: int, last: int, rng: np.random.Generator, batch_size: int) -> np.ndarray:
        """Positions drawn by updates first..last-1: (last - first, batch_size) int32.

        Uniform with replacement over the window, but that the transitions that have just arrived overwrite
        the tail of the first minibatch after their arrival, oldest first; where they do not fit they fill
        the following ones in turn. The stream of `rng` is used evenly, one number a position, so the
        draws do not depend on how the updates are cut into calls.
        """
        update = np.arange(first, last, dtype=np.int64)[:, None]
        arrival, turn = np.divmod(update, self.updates_per_growth)
        visible = self.visible(arrival)
        low = self.window_start(visible)
        # Exact for every size below 2**31: a float64 uniform has 53 bits.
        drawn = low + (rng.random((last - first, batch_size)) * (visible - low)).astype(np.int64)

        newest = np.where(arrival > 0, self.visible(np.maximum(arrival - 1, 0)), visible) + turn * batch_size
        forced = np.clip(visible - newest, 0, batch_size)
        place = np.arange(batch_size) - (batch_size - forced)
        return np.where(place >= 0, newest + place, drawn).astype(np.int32)
