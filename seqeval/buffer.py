"""The data, once on the device, and the minibatches drawn from it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seqeval.scaling import STD_EPS, ActionScale, ObservationScale, RewardScale
from seqeval.types import Batch, Dataset

CHUNK = 8_192  # rows that the normaliser takes at once: few enough for the allocator to give them back


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    """On the CPU a view of the dataset's own memory (nothing here writes to it), elsewhere a copy."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values).to(device, torch.get_default_dtype())


class Buffer:
    """N transitions on a device, stored once for all replicas.

    Actions are stored mapped to [-1, 1]; observations and rewards as logged, scaled as they are drawn.
    """

    def __init__(
        self, dataset: Dataset, actions: ActionScale, rewards: RewardScale, device: torch.device
    ) -> None:
        self.device = device
        self.reward_scale = rewards
        self.observations = _tensor(dataset.observations, device)
        self.next_observations = _tensor(dataset.next_observations, device)
        self.actions = actions.to_unit(_tensor(dataset.actions, device))
        self.rewards = _tensor(dataset.rewards, device)
        self.terminated = _tensor(dataset.terminated, device)

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
                values = self.observations[torch.from_numpy(chunk).to(self.device)].double()
                # Chan's pairwise update: no squares of large means are taken from each other.
                size, here = len(chunk), values.mean(0)
                between = (here - mean).square() * (count * size / (count + size))
                scatter = scatter + (values - here).square().sum(0) + between
                mean = mean + (here - mean) * (size / (count + size))
                count += size
            means.append(mean)
            stds.append((scatter / count).sqrt() + STD_EPS)
        return ObservationScale(*(torch.stack(v)[:, None].to(self.rewards.dtype) for v in (means, stds)))
