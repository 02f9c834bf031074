"""From a schedule to draws: what each replica draws at each update, from streams of its own seed.

Everything random is drawn for a block of updates at a time and moved to the device at once. How the updates
are cut into blocks changes no number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Noise
from seqeval.replay.buffer import upload
from seqeval.seeding import stream
from seqeval.slicing import Schedule

BLOCK = 256  # updates drawn at once, at most
BLOCK_NOISE = 2**18  # random numbers of one replica drawn at once: few enough to stay in a cache


class Draw(NamedTuple):
    """What is drawn for one update of R replicas."""

    rows: Tensor  # (R, B) int32, of a buffer
    noise: dict[str, Tensor]  # (R, *shape) each


class Minibatches:
    """The draws of R replicas, update after update, as a schedule allows."""

    def __init__(
        self,
        device: torch.device,
        schedules: Sequence[Schedule],
        orders: Sequence[np.ndarray],
        seeds: Sequence[int],
        batch_size: int,
        noise: Mapping[str, Noise],
        phase: tuple[str, ...] = (),
    ) -> None:
        """`schedules`, `orders` (the row of each position) and `seeds` have an entry for each replica.
        Streams of another `phase` are others."""
        self.device, self.schedules, self.orders = device, schedules, orders
        self.batch_size, self.noise = batch_size, noise
        self.drawn = 0  # updates whose draws were handed out
        self._streams = [stream(seed, *phase, "minibatch") for seed in seeds]
        self._noise_streams = {
            name: [stream(seed, *phase, "noise", name) for seed in seeds] for name in noise
        }
        each = sum(math.prod(n.shape) for n in noise.values())
        self._block_size = min(BLOCK, max(1, BLOCK_NOISE // max(1, each)))
        # A GPU is faster than one core draws dropout's masks for it. Streams know nothing of each other, and
        # NumPy lets threads fill arrays beside each other.
        self._map = ThreadPoolExecutor().map if device.type == "cuda" else map
        self._block: list[Draw] = []
        self._block_began = 0, self._random_states()

    def state_of(self, replica: int) -> dict[str, Any]:
        """Where one replica's draws stand; `load_states` takes it."""
        block, states = self._block_began
        return {"drawn": self.drawn, "block": block, "random": states[replica]}

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes what `state_of` gave of each replica after equally many updates, in their order."""
        for replica, state in enumerate(states):
            self._streams[replica].bit_generator.state = state["random"]["minibatch"]
            for name, streams in self._noise_streams.items():
                streams[replica].bit_generator.state = state["random"]["noise"][name]
        # What was drawn of the block is drawn again, and dropped.
        self.drawn = states[0]["block"]
        until = states[0]["drawn"]
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

    def until(self, updates: int) -> Iterator[Draw]:
        """The draws of the updates from here up to `updates`, which is not among them."""
        while self.drawn < updates:
            if not self._block:
                self._block = self._draw_block()
            self.drawn += 1
            rows, noise = self._block.pop()
            dtype = torch.get_default_dtype()
            yield Draw(rows, {name: values.to(dtype) for name, values in noise.items()})

    def _draw_block(self) -> list[Draw]:
        self._block_began = self.drawn, self._random_states()
        return self._draw(min(self._block_size, self.schedules[0].updates - self.drawn))

    def _draw(self, count: int) -> list[Draw]:
        """The draws of the next updates, last first; their noise as `draw_noise` gives it."""
        of_replica = partial(self._draw_of, count)
        drawn = list(self._map(of_replica, range(len(self.schedules))))
        noises = {
            name: upload(_side_by_side([noise[name] for _, noise in drawn]), self.device).unbind()
            for name in self.noise
        }
        rows = upload(_side_by_side([rows for rows, _ in drawn]), self.device).unbind()
        return [
            Draw(rows[u], {name: noise[u] for name, noise in noises.items()}) for u in reversed(range(count))
        ]

    def _draw_of(self, count: int, replica: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One replica's rows (count, B), and its noise."""
        span, rng = (self.drawn, self.drawn + count), self._streams[replica]
        positions = self.schedules[replica].positions(*span, rng, self.batch_size)
        noise = {
            name: draw_noise(noise, count, self._noise_streams[name][replica])
            for name, noise in self.noise.items()
        }
        return self.orders[replica][positions], noise


def _side_by_side(of_replicas: list[np.ndarray]) -> np.ndarray:
    """(updates, ...) of each replica -> (updates, R, ...); of one replica alone it is not copied."""
    return of_replicas[0][:, None] if len(of_replicas) == 1 else np.stack(of_replicas, 1)


def draw_noise(noise: Noise, count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of `count` updates: (count, *shape) float32, or bool."""
    shape = (count, *noise.shape)
    if noise.kind == "normal":
        return rng.standard_normal(shape, np.float32)
    if noise.kind == "uniform":
        return rng.random(shape, np.float32)
    # Four decisions from each 64-bit word: dropout asks for very many.
    size = math.prod(noise.shape)
    bits = rng.integers(0, 2**64, (count, -(-size // 4)), np.uint64).view(np.uint16)
    return (bits[:, :size] < round(noise.probability * 2**16)).reshape(shape)
