"""The data, once on the device, with room for what agents add to it, and the minibatches drawn from it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from seqeval.replay.normalization import (
    ACTION_MARGIN,
    STD_EPS,
    ActionNumbers,
    ActionScale,
    ObservationScale,
    RewardScale,
)
from seqeval.types import Batch, Dataset

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated")
CHUNK = 8_192  # rows that the normaliser takes at once: few enough for the allocator to give them back


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    """On the CPU a view of the dataset's own memory, where it has the right type; elsewhere a copy."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        whole = values.dtype == np.int64  # discrete actions stay numbers
        return torch.from_numpy(values).to(device, torch.int64 if whole else torch.get_default_dtype())


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device: on the CPU a view of it; to a GPU it goes while the host goes on."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Buffer:
    """N transitions on a device, stored once for all replicas, and behind them `room` more for each replica.

    Actions are stored as algorithms have them, in [-1, 1] or as numbers from 0; observations and rewards as
    logged, scaled as they are drawn. With `room` the data is copied into memory of the final size, which is
    never allocated anew; without it nothing here writes to the dataset's own memory.
    """

    def __init__(
        self,
        dataset: Dataset,
        actions: ActionScale | ActionNumbers,
        rewards: RewardScale,
        device: torch.device,
        room: int = 0,
        replicas: int = 0,
    ) -> None:
        self.device, self.room, self.replicas = device, room, replicas
        self.size = len(dataset)
        self.reward_scale = rewards
        self.observations = self._with_room(_tensor(dataset.observations, device))
        self.next_observations = self._with_room(_tensor(dataset.next_observations, device))
        self.actions = self._with_room(actions.to_algorithm(_tensor(dataset.actions, device)))
        self.rewards = self._with_room(_tensor(dataset.rewards, device))
        self.terminated = self._with_room(_tensor(dataset.terminated, device))

    def _with_room(self, values: Tensor) -> Tensor:
        if not self.room:
            return values
        larger = values.new_zeros(self.size + self.replicas * self.room, *values.shape[1:])
        larger[: self.size] = values
        return larger

    def own_rows(self, replica: int) -> np.ndarray:
        """The rows of what a replica adds, in the order of adding: (room,) int32."""
        first = self.size + replica * self.room
        return np.arange(first, first + self.room, dtype=np.int32)

    def add(
        self,
        place: int,
        observations: np.ndarray,
        actions: Tensor,
        rewards: np.ndarray,
        next_observations: np.ndarray,
        terminated: np.ndarray,
    ) -> None:
        """Writes a transition of each replica, its `place`-th, counted from 0.

        (R, observation), (R, action) or (R,) as an algorithm has actions, and (R,).
        """
        rows = self.size + place + self.room * torch.arange(self.replicas, device=self.device)
        if actions.is_floating_point():
            actions = actions.clamp(-(1 - ACTION_MARGIN), 1 - ACTION_MARGIN)
        self.actions[rows] = actions
        for mine, values in (
            (self.observations, observations),
            (self.next_observations, next_observations),
            (self.rewards, rewards),
            (self.terminated, terminated),
        ):
            mine[rows] = torch.as_tensor(values, dtype=mine.dtype, device=self.device)

    def own(self, replica: int, count: int) -> dict[str, Tensor]:
        """Copies of the first `count` transitions that a replica has added, by field, for `restore`."""
        rows = slice(self.size + replica * self.room, self.size + replica * self.room + count)
        return {name: getattr(self, name)[rows].clone() for name in FIELDS}

    def restore(self, replica: int, transitions: Mapping[str, Tensor]) -> None:
        """Writes what `own` gave as a replica's first transitions."""
        first = self.size + replica * self.room
        for name in FIELDS:
            values = transitions[name].to(self.device)
            getattr(self, name)[first : first + len(values)] = values

    def batch(self, rows: Tensor, scale: ObservationScale | None, noise: dict[str, Tensor]) -> Batch:
        """The minibatch of `rows` (R, B) of the dataset, observations scaled where a scale is given."""
        replicas, size = rows.shape
        flat = rows.reshape(-1)

        def gather(values: Tensor) -> Tensor:
            return values.index_select(0, flat).view(replicas, size, *values.shape[1:])

        observations, next_observations = gather(self.observations), gather(self.next_observations)
        if scale is not None:
            observations, next_observations = scale(observations), scale(next_observations)
        rewards = gather(self.rewards)
        if self.reward_scale != RewardScale():
            rewards = rewards * self.reward_scale.factor + self.reward_scale.offset
        return Batch(
            observations=observations,
            actions=gather(self.actions),
            rewards=rewards,
            next_observations=next_observations,
            terminated=gather(self.terminated),
            noise=noise,
        )

    def observation_scale(self, rows: Sequence[np.ndarray]) -> ObservationScale:
        """The normaliser of each replica, from the observations in its rows (n,) alone; in float64."""
        means, stds = [], []
        for mine in rows:
            count, mean, scatter = 0, torch.zeros(()), torch.zeros(())
            for chunk in np.array_split(mine, -(-len(mine) // CHUNK)):
                values = self.observations[upload(chunk, self.device)].double()
                # Chan's pairwise update: no squares of large means are taken from each other.
                size, here = len(chunk), values.mean(0)
                between = (here - mean).square() * (count * size / (count + size))
                scatter = scatter + (values - here).square().sum(0) + between
                mean = mean + (here - mean) * (size / (count + size))
                count += size
            means.append(mean)
            stds.append((scatter / count).sqrt() + STD_EPS)
        return ObservationScale(*(torch.stack(v)[:, None].to(self.rewards.dtype) for v in (means, stds)))
