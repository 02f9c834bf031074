"""Which rows each replica sees at each update, and the random numbers of the update.

All random numbers are drawn for a block of updates at a time, from streams of each replica's own seed, and
moved to the device at once. How updates are divided into blocks does not affect results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Noise
from seqeval.replay.buffer import upload
from seqeval.replay.episodes import BestEpisodes
from seqeval.seeding import stream
from seqeval.slicing import Schedule

BLOCK = 256  # updates sampled at once, at most
BLOCK_NOISE = 2**18  # random numbers of one replica drawn at once: few enough to stay in the cache


class Indices(NamedTuple):
    """The rows and random numbers of one update of R replicas."""

    rows: Tensor  # (R, B) int32, rows of a buffer
    visible: Tensor  # (R,) int32, transitions that have arrived at this update
    noise: dict[str, Tensor]  # (R, *shape) each


class IndexSampler:
    """Draws the indices of R replicas, update after update, as their schedules allow."""

    def __init__(
        self,
        device: torch.device,
        schedules: Sequence[Schedule],
        orders: Sequence[np.ndarray],
        seeds: Sequence[int],
        batch_size: int,
        noise: Mapping[str, Noise],
        phase: tuple[str, ...] = (),
        episodes: Sequence[BestEpisodes] = (),
    ) -> None:
        """`schedules`, `orders` (the row of each position in the order of arrival) and `seeds` have an entry
        for each replica. A different `phase` uses different random streams. `episodes`, one for each replica
        if any are given, draw the positions in place of the schedules."""
        self.device, self.schedules, self.orders = device, schedules, orders
        self.batch_size, self.noise = batch_size, noise
        self._positions = [source.positions for source in episodes or schedules]
        self.drawn = 0  # updates whose indices were returned
        self._streams = [stream(seed, *phase, "minibatch") for seed in seeds]
        self._noise_streams = {
            name: [stream(seed, *phase, "noise", name) for seed in seeds] for name in noise
        }
        numbers = sum(math.prod(n.shape) for n in noise.values())
        self._block_size = min(BLOCK, max(1, BLOCK_NOISE // max(1, numbers)))
        # One core cannot draw dropout masks as fast as a GPU uses them; NumPy's generators release the GIL.
        self._map = ThreadPoolExecutor().map if device.type == "cuda" else map
        self._block: list[Indices] = []  # of the next updates, last first
        self._block_start = 0, self._random_states()

    def draw(self) -> Indices:
        """The indices of the next update."""
        if not self._block:
            self._block = self._draw_block()
        self.drawn += 1
        rows, visible, noise = self._block.pop()
        dtype = torch.get_default_dtype()
        return Indices(rows, visible, {name: values.to(dtype) for name, values in noise.items()})

    def state_of(self, replica: int) -> dict[str, Any]:
        """One replica's state, for `load_states`."""
        block, states = self._block_start
        return {"drawn": self.drawn, "block": block, "random": states[replica]}

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Loads the states of all replicas in their order, saved after equal numbers of updates."""
        for replica, state in enumerate(states):
            self._streams[replica].bit_generator.state = state["random"]["minibatch"]
            for name, streams in self._noise_streams.items():
                streams[replica].bit_generator.state = state["random"]["noise"][name]
        # The block that was current is drawn again, and what was used of it is dropped.
        self.drawn, until = states[0]["block"], states[0]["drawn"]
        if self.drawn < until:
            self._block = self._draw_block()
            del self._block[len(self._block) - (until - self.drawn) :]
            self.drawn = until

    def _random_states(self) -> list[dict[str, Any]]:
        return [
            {
                "minibatch": rng.bit_generator.state,
                "noise": {
                    name: streams[replica].bit_generator.state
                    for name, streams in self._noise_streams.items()
                },
            }
            for replica, rng in enumerate(self._streams)
        ]

    def _draw_block(self) -> list[Indices]:
        """The indices of the next updates, last first."""
        self._block_start = self.drawn, self._random_states()
        left = min(schedule.updates for schedule in self.schedules) - self.drawn
        count = min(self._block_size, left)
        drawn = list(self._map(partial(self._draw_replica, count), range(len(self.schedules))))
        updates = np.arange(self.drawn, self.drawn + count)
        visible = np.stack([s.visible_at(updates) for s in self.schedules], 1).astype(np.int32)
        noises = {
            name: upload(_stack_replicas([noise[name] for _, noise in drawn]), self.device).unbind()
            for name in self.noise
        }
        rows = upload(_stack_replicas([rows for rows, _ in drawn]), self.device).unbind()
        arrived = upload(visible, self.device).unbind()
        return [
            Indices(rows[u], arrived[u], {name: noise[u] for name, noise in noises.items()})
            for u in reversed(range(count))
        ]

    def _draw_replica(self, count: int, replica: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One replica's rows (count, B), and its noise."""
        span, rng = (self.drawn, self.drawn + count), self._streams[replica]
        positions = self._positions[replica](*span, rng, self.batch_size)
        noise = {
            name: draw_noise(noise, count, self._noise_streams[name][replica])
            for name, noise in self.noise.items()
        }
        return self.orders[replica][positions], noise


def _stack_replicas(arrays: list[np.ndarray]) -> np.ndarray:
    """(updates, ...) of each replica -> (updates, R, ...); a single replica is not copied."""
    return arrays[0][:, None] if len(arrays) == 1 else np.stack(arrays, 1)


def draw_noise(noise: Noise, count: int, rng: np.random.Generator) -> np.ndarray:
    """The noise of `count` updates: (count, *shape) float32, or bool for `bernoulli`."""
    shape = (count, *noise.shape)
    if noise.kind == "normal":
        return rng.standard_normal(shape, np.float32)
    if noise.kind == "uniform":
        return rng.random(shape, np.float32)
    # Four decisions from each 64-bit word, since dropout needs very many.
    size = math.prod(noise.shape)
    bits = rng.integers(0, 2**64, (count, -(-size // 4)), np.uint64).view(np.uint16)
    return (bits[:, :size] < round(noise.probability * 2**16)).reshape(shape)
