"""Environments and configurations for the tests of data collection, and readers of its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np

from seqeval.collect.config import CollectConfig


class Push(gymnasium.Env):
    """An environment whose reward is the action times `sign`.

    Episodes have 5 to 8 steps; those of odd length terminate, the others are truncated. The observation
    consists of the steps left and the length, so observations recur.
    """

    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)
    action_space: gymnasium.Space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.length = self.left = int(self.np_random.integers(5, 9))
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        return np.array([self.left, self.length], np.float32)

    def reward(self, action: Any) -> float:
        assert self.action_space.contains(action)
        return self.sign * float(action[0])

    def step(self, action):
        reward = self.reward(action)
        self.left -= 1
        last, odd = self.left == 0, self.length % 2 == 1
        return self._observe(), reward, last and odd, last and not odd, {}


class Choose(Push):
    """Push with three discrete actions, with rewards -1, 0 and 1."""

    action_space = gymnasium.spaces.Discrete(3)

    def reward(self, action: Any) -> float:
        return self.sign * (int(action) - 1.0)


class FromOne(Choose):
    action_space = gymnasium.spaces.Discrete(3, start=1)


gymnasium.register("Push-v0", entry_point=Push)
gymnasium.register("Idle-v0", entry_point=Push, kwargs={"sign": 0.0})
gymnasium.register("Choose-v0", entry_point=Choose)
gymnasium.register("FromOne-v0", entry_point=FromOne)

SMALL = {"net_arch": (8, 8), "learning_rate": 1e-2, "batch_size": 16, "learning_starts": 60}
SAC = CollectConfig("Push-v0", "SAC", steps=240, transitions=101, checkpoints=3, settings=SMALL)
DQN = CollectConfig(
    *("Choose-v0", "DQN"),
    steps=200,
    transitions=600,
    checkpoints=2,
    settings=SMALL | {"train_freq": 48, "gradient_steps": 48, "exploration_final_eps": 0.3},
)
TD3 = CollectConfig("Push-v0", "TD3", steps=150, transitions=80, checkpoints=1, settings=SMALL)
FIELDS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
Arrays = dict[str, np.ndarray]


def read(path: Path) -> Arrays:
    with h5py.File(path) as file:
        return {key: values[...] for key, values in file.items()}


def card_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text())


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
