"""Datasets of random images, for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gymnasium
import numpy as np

from seqeval.datasets import _rules
from seqeval.types import Dataset, Discrete, Environment, Image

GAME = "ImageGame-v0"  # made up: see `Game`


class Game(gymnasium.Env):
    """Random frames of 2 channels, height 3 and width 4, channels last; 5 steps an episode. The reward is 1
    for the action that the first number of the frame asks for."""

    observation_space = gymnasium.spaces.Box(0, 255, (3, 4, 2), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._frame(), {}

    def _frame(self) -> np.ndarray:
        self.frame = self.np_random.integers(0, 256, (3, 4, 2), np.uint8)
        return self.frame

    def step(self, action):
        self.steps += 1
        reward = float(int(action) == self.frame[0, 0, 0] % 3)
        ends = self.steps == 5
        # Whether an episode terminates or is cut depends on what it shows.
        terminated = bool(ends and self.frame[0, 0, 1] % 2)
        return self._frame(), reward, terminated, ends and not terminated, {}


if GAME not in gymnasium.registry:
    gymnasium.register(GAME, Game, disable_env_checker=True)


def env_id(stack: int) -> str:
    return f"{GAME}?frame_stack={stack}"


def image_dataset(
    lengths: Sequence[int] = (4, 2, 5, 3, 6, 4, 5, 5, 3, 7, 6),
    stack: int = 3,
    seed: int = 0,
    name: str = "images",
    size: tuple[int, int, int] = (2, 3, 4),
) -> Dataset:
    """Random episodes, every other one terminated and the others truncated, with their last next frame."""
    rng, count = np.random.default_rng(seed), sum(lengths)
    frames = rng.integers(0, 256, (count + len(lengths), *size), np.uint8)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    last = np.cumsum(lengths) - 1
    terminated, timeouts = np.zeros(count, bool), np.zeros(count, bool)
    terminated[last[::2]], timeouts[last[1::2]] = True, True
    current = (np.arange(count) + episode).astype(np.int32)
    raw = {
        "frames": [frames],
        "observations": current,
        "next_observations": current + np.int32(1),
        "actions": rng.integers(0, 3, count),
        "rewards": rng.random(count, np.float32),
        "terminals": terminated,
        "timeouts": timeouts,
    }
    logged_in = Environment(GAME, Image(*size, stack), Discrete(3, 0), None)
    dataset = _rules.assemble(name, name, raw, None, None, {}, "strict", logged_in)
    return replace(dataset, env_id=env_id(stack), logged_in=None) if size == (2, 3, 4) else dataset


def slow_stack(frames: Sequence[np.ndarray], newest: int, stack: int) -> np.ndarray:
    """The newest `stack` of an episode's frames up to one, the first repeated: what an environment shows."""
    chosen = [frames[max(newest - age, 0)] for age in reversed(range(stack))]
    return np.concatenate(chosen)
