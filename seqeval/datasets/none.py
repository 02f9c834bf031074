"""The dataset `none`: no data, for algorithms that learn online from the start."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from seqeval import environments, references
from seqeval.datasets import Listing, LoadOptions, Source
from seqeval.errors import UserError
from seqeval.frames import Frames, FrameStacks
from seqeval.types import Dataset, Image, Vector


def load(name: str, options: LoadOptions) -> Dataset:
    """A dataset without transitions, named after its environment so that two of them differ in name."""
    env_id = options.env_id
    if env_id is None:
        raise UserError("dataset none: name the environment to learn in, e.g. --env Pendulum-v1")
    environment = environments.describe(env_id)
    observations, next_observations = _no_observations(environment.observation)
    discrete = isinstance(environment.actions, environments.Discrete)
    actions = np.zeros(0, np.int64) if discrete else np.zeros((0, environment.actions.size), np.float32)
    return Dataset(
        name=f"none ({env_id})",
        env_id=env_id,
        observations=observations,
        actions=actions,
        rewards=np.zeros(0, np.float32),
        next_observations=next_observations,
        terminated=np.zeros(0, bool),
        truncated=np.zeros(0, bool),
        episode=np.zeros(0, np.int32),
        episode_returns=np.zeros(0),
        episode_complete=np.zeros(0, bool),
        segments=(0,),
        reference=references.of_environment(env_id),
        digest=hashlib.sha256(env_id.encode()).hexdigest(),
    )


def _no_observations(seen: Vector | Image) -> tuple[Any, Any]:
    if isinstance(seen, Vector):
        empty = np.zeros((0, seen.size), np.float32)
        return empty, empty
    numbers = np.zeros(0, np.int32)
    part = np.zeros((0, seen.channels, seen.height, seen.width), np.uint8)
    frames = Frames((part,), numbers, numbers, numbers, seen.stack)
    return FrameStacks(frames, of_next=False), FrameStacks(frames, of_next=True)


def listing(name: str) -> Listing:
    return Listing("no data", reason="in the environment that --env names")


SOURCE = Source(load, names=lambda: ("none",), listing=listing)
