"""The dataset slicer: when each logged transition arrives, and which may be sampled at each update.

It uses NumPy only and reads no data. The method is that of Sujit et al. (arXiv 2212.08131); the orders
`return` and `segments-by-episode`, and the regimes `retrain` and `warm` are additions of seqeval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np

from seqeval.errors import UserError
from seqeval.types import Order


def arrival_order(
    order: Order,
    rng: np.random.Generator,
    episode: np.ndarray,
    episode_returns: np.ndarray,
    segments: Sequence[int],
) -> np.ndarray:
    """The order in which N transitions arrive: a permutation of 0..N-1, int32.

    `episode` (N,) is each transition's episode, `episode_returns` (E,) are the episodes' returns,
    `segments` are the lengths of the dataset's segments.

    - `shuffled`: transitions in uniformly random order
    - `episodes`: whole episodes in random order
    - `logged`: as in the file
    - `segments`: segment by segment, shuffled within each
    - `segments-by-episode`: segment by segment, whole episodes in random order within each
    - `return`: episodes from lowest to highest return, ties as in the file
    """
    size = len(episode)
    if order == "shuffled":
        return rng.permutation(size).astype(np.int32)
    if order == "logged":
        return np.arange(size, dtype=np.int32)
    if order in ("segments", "segments-by-episode"):
        if sum(segments) != size:
            raise ValueError(f"segments {tuple(segments)} do not add up to {size} transitions")
        if order == "segments-by-episode":
            segment = np.repeat(np.arange(len(segments)), segments)
            rank = rng.permutation(len(episode_returns))
            return np.lexsort((rank[episode], segment)).astype(np.int32)
        starts = np.cumsum([0, *segments[:-1]])
        parts = [start + rng.permutation(n) for start, n in zip(starts, segments, strict=True)]
        return np.concatenate(parts).astype(np.int32)
    if order == "episodes":
        rank = rng.permutation(len(episode_returns))
    elif order == "return":
        rank = np.argsort(np.argsort(episode_returns, kind="stable"), kind="stable")
    else:
        raise UserError(
            f"protocol.order: unknown order {order!r}; choose one of {', '.join(get_args(Order))}"
        )
    return np.argsort(rank[episode], kind="stable").astype(np.int32)


def held_out_episodes(fraction: float, rng: np.random.Generator, lengths: np.ndarray) -> np.ndarray:
    """Whole episodes in random order until they hold `fraction` of all transitions: (E,) bool.

    `lengths` (E,) are the episodes' transitions.
    """
    order = rng.permutation(len(lengths))
    before = np.cumsum(lengths[order]) - lengths[order]
    held_out = np.zeros(len(lengths), bool)
    held_out[order[before < _held_out_size(fraction, lengths)]] = True
    return held_out


def arriving_size(fraction: float, lengths: np.ndarray) -> int:
    """N, the transitions that arrive where `held_out_episodes` never do: the same for every seed.

    Whole episodes rarely add up to the fraction. N is what is left if the last of them exceeds it by as much
    as it can, so with episodes of different lengths up to one episode's transitions are not used at all.
    Raises UserError if nothing is left.
    """
    size, usable = int(lengths.sum()), lengths[lengths > 0]
    if not fraction or not size:
        return size
    unit = int(np.gcd.reduce(usable))  # held-out transitions are a multiple of it
    left = size - (_held_out_size(fraction, lengths) + int(usable.max()) - 1) // unit * unit
    if left < 1:
        raise UserError(
            f"protocol.hold_out: without {fraction:g} of {size} transitions, in whole episodes (here "
            f"{len(usable)}), there may be none left to learn from; use a smaller fraction"
        )
    return left


def _held_out_size(fraction: float, lengths: np.ndarray) -> int:
    """The transitions that are held out at least."""
    return max(1, round(fraction * int(lengths.sum()))) if fraction else 0


class Schedule(Protocol):
    """Which transitions are visible at each update of one replica.

    Updates are counted from 0. A position is a place in the order of arrival, not a row of the dataset. A
    point is (updates made, transitions visible at the last of them).
    """

    @property
    def updates(self) -> int:
        """The total number of updates."""

    @property
    def window(self) -> int | None:
        """Only the newest so many visible transitions may be sampled; None: all of them."""

    def points(self, count: int, every: int | None) -> list[tuple[int, int]]:
        """The points at which rows are due."""

    def refreshes(self, count: int) -> list[tuple[int, int]]:
        """The points at which the normalizer is recomputed; the first is after 0 updates."""

    def visible_at(self, updates: np.ndarray) -> np.ndarray:
        """n at each of these updates, shaped like `updates`."""

    def positions(self, first: int, last: int, rng: np.random.Generator, batch_size: int) -> np.ndarray:
        """Positions sampled by updates first..last-1: (last - first, batch_size) int32.

        Each position uses one number of `rng`, so the samples do not depend on how updates are divided into
        calls.
        """


def draw(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Positions of shape (updates, batch), uniform over low..high-1, where both are (updates, 1); int64.

    Exact for sizes below 2**31, because a uniform float64 has 53 bits.
    """
    return low + (rng.random(shape) * (high - low)).astype(np.int64)


@dataclass(frozen=True)
class Stream:
    """The schedule of one continual run.

    At first `start` transitions are visible; `grow_by` more arrive after every `updates_per_growth`
    updates, until all `size` are visible. The last arrival is followed by updates too.
    """

    size: int  # N
    start: int  # T0
    grow_by: int  # γ
    updates_per_growth: int  # K
    window: int | None  # W
    counted_from_zero: bool = False  # as many updates as if the first T0 had arrived γ at a time too

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
        """U = K(A + 1), or K⌈N/γ⌉ if counted from zero and more; the surplus follows the last arrival."""
        rounds = self.arrivals + 1
        if self.counted_from_zero:
            rounds = max(rounds, -(-self.size // self.grow_by))
        return self.updates_per_growth * rounds

    def visible_at(self, updates: np.ndarray) -> np.ndarray:
        return self.visible(updates // self.updates_per_growth)

    def visible(self, arrival: np.ndarray) -> np.ndarray:
        """n after the given number of arrivals."""
        return np.minimum(self.size, self.start + arrival * self.grow_by)

    def points(self, count: int, every: int | None = None) -> list[tuple[int, int]]:
        """Points at `count` even steps of n from T0 to N.

        They follow the last update at the first n ≥ T0 + round(i(N - T0)/count), i = 0..count. With `every`
        they are at n ≥ T0 + i * every and at N. Points that coincide are one.
        """
        span = self.size - self.start
        marks = [round(i * span / count) for i in range(count + 1)]
        if every is not None:
            marks = [*range(0, span, every), span]
        arrival = np.unique([-(-mark // self.grow_by) for mark in marks])
        made = self.updates_per_growth * (arrival + 1)
        made[-1] = self.updates
        return list(zip(made.tolist(), self.visible(arrival).tolist(), strict=True))

    def refreshes(self, count: int) -> list[tuple[int, int]]:
        """At T0 and at `count` even steps of n, except at N: it would follow the last row and change no
        result."""
        return [(0, self.start)] + [point for point in self.points(count)[1:] if point[1] < self.size]

    def positions(self, first: int, last: int, rng: np.random.Generator, batch_size: int) -> np.ndarray:
        """Uniform with replacement over the window, except for transitions that have just arrived.

        These overwrite the tail of the first minibatch after their arrival, oldest first. If they do not
        fit, they fill the following minibatches in turn.
        """
        update = np.arange(first, last, dtype=np.int64)[:, None]
        arrival, turn = np.divmod(update, self.updates_per_growth)
        visible = self.visible(arrival)
        low = window_start(visible, self.window)
        drawn = draw(rng, low, visible, (last - first, batch_size))

        newest = np.where(arrival > 0, self.visible(np.maximum(arrival - 1, 0)), visible) + turn * batch_size
        forced = np.clip(visible - newest, 0, batch_size)
        place = np.arange(batch_size) - (batch_size - forced)
        return np.where(place >= 0, newest + place, drawn).astype(np.int32)


@dataclass(frozen=True)
class Steps:
    """The schedule of `updates_per_size` updates at each of several sizes, sampled from the window."""

    sizes: tuple[int, ...]  # increasing
    updates_per_size: int
    window: int | None

    @property
    def updates(self) -> int:
        return len(self.sizes) * self.updates_per_size

    def points(self, count: int, every: int | None = None) -> list[tuple[int, int]]:
        """After the last update at each size, whatever the arguments."""
        return [((i + 1) * self.updates_per_size, size) for i, size in enumerate(self.sizes)]

    def refreshes(self, count: int) -> list[tuple[int, int]]:
        """Before the first update at each size, whatever the argument."""
        return [(i * self.updates_per_size, size) for i, size in enumerate(self.sizes)]

    def visible_at(self, updates: np.ndarray) -> np.ndarray:
        return np.array(self.sizes)[updates // self.updates_per_size]

    def positions(self, first: int, last: int, rng: np.random.Generator, batch_size: int) -> np.ndarray:
        update = np.arange(first, last, dtype=np.int64)[:, None]
        visible = self.visible_at(update)
        low = window_start(visible, self.window)
        return draw(rng, low, visible, (last - first, batch_size)).astype(np.int32)


@dataclass(frozen=True)
class Interaction:
    """The schedule of `updates_per_step` updates after each of `steps` steps in a training environment.

    Positions from `size` on are the transitions that the replica has collected, in order. `share` of a
    minibatch is sampled from them and the rest from the dataset; if None, both are sampled as one. Only the
    newest `window` of all these transitions may be sampled: once none of the dataset is among them,
    minibatches hold online data alone.
    """

    size: int  # N
    steps: int
    updates_per_step: int
    window: int | None
    share: float | None

    @property
    def updates(self) -> int:
        return self.steps * self.updates_per_step

    def points(self, count: int, every: int | None = None) -> list[tuple[int, int]]:
        """Points at `count` even numbers of steps up to the last one, or after `every` steps; none at 0."""
        marks = [round(i * self.steps / count) for i in range(count + 1)]
        if every is not None:
            marks = [*range(0, self.steps, every), self.steps]
        return [(mark * self.updates_per_step, self.size + mark) for mark in sorted(set(marks) - {0})]

    def refreshes(self, count: int) -> list[tuple[int, int]]:
        """None: the normalizer stays unchanged online."""
        return []

    def visible_at(self, updates: np.ndarray) -> np.ndarray:
        return self.size + 1 + updates // self.updates_per_step

    def positions(self, first: int, last: int, rng: np.random.Generator, batch_size: int) -> np.ndarray:
        update = np.arange(first, last, dtype=np.int64)[:, None]
        visible = self.visible_at(update)
        shape = (last - first, batch_size)
        low = window_start(visible, self.window)
        if self.share is None:
            return draw(rng, low, visible, shape).astype(np.int32)
        online = min(max(1, round(self.share * batch_size)), batch_size - 1)  # at least one of each kind
        offline = (np.arange(batch_size) < batch_size - online) & (low < self.size)
        low = np.where(offline, low, np.maximum(self.size, low))
        return draw(rng, low, np.where(offline, self.size, visible), shape).astype(np.int32)


def window_start(visible: Any, window: int | None) -> Any:
    """The first position that may be sampled when `visible` transitions have arrived; numbers or arrays."""
    return np.maximum(0, visible - window) if window is not None else 0 * visible


def size_grid(start: int, size: int, count: int, spacing: Literal["linear", "geometric"]) -> tuple[int, ...]:
    """`count` sizes from `start` to `size`, with constant differences or constant ratios.

    Raises UserError if there are not that many different sizes.
    """
    if count == 1:
        return (size,)
    if start > size or count > size - start + 1:
        raise UserError(
            f"protocol.sizes: no {count} different sizes lie between start = {start} and {size} transitions"
        )
    space = np.linspace if spacing == "linear" else np.geomspace
    # Near the start a geometric grid of whole numbers can repeat a size: each is at least one more.
    sizes = np.round(space(start, size, count)).astype(int)
    for i in range(1, count):
        sizes[i] = max(sizes[i], sizes[i - 1] + 1)
    return tuple(np.minimum(sizes, size - np.arange(count)[::-1]).tolist())
