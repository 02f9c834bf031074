"""Between the world's units and what an algorithm sees: observations, actions, rewards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqeval.errors import UserError
from seqeval.types import Continuous, Dataset, Discrete

ACTION_MARGIN = 1e-5  # actions of the data stay this far inside [-1, 1], where tanh can still reach them
STD_EPS = 1e-3


@dataclass(frozen=True)
class ActionScale:
    """Maps an environment's continuous actions to [-1, 1] and back."""

    centre: Tensor  # (action,)
    half_range: Tensor  # (action,)

    @classmethod
    def of(cls, actions: Continuous, device: torch.device) -> ActionScale:
        low = torch.as_tensor(actions.low, device=device, dtype=torch.get_default_dtype())
        high = torch.as_tensor(actions.high, device=device, dtype=torch.get_default_dtype())
        return cls((low + high) / 2, (high - low) / 2)

    def to_algorithm(self, actions: Tensor) -> Tensor:
        """Actions of the data, (..., action), mapped and then clipped to ±(1 - 1e-5)."""
        margin = 1 - ACTION_MARGIN
        return (actions - self.centre).div_(self.half_range).clamp_(-margin, margin)

    def to_environment(self, actions: Tensor) -> Tensor:
        return self.centre + self.half_range * actions.clamp(-1, 1)


@dataclass(frozen=True)
class ActionNumbers:
    """Numbers an environment's discrete actions from 0, and back: (...) int64."""

    first: int

    def to_algorithm(self, actions: Tensor) -> Tensor:
        return actions - self.first

    def to_environment(self, actions: Tensor) -> Tensor:
        return actions + self.first


def action_scale(actions: Continuous | Discrete, device: torch.device) -> ActionScale | ActionNumbers:
    """Between an environment's actions and an algorithm's."""
    return ActionNumbers(actions.first) if isinstance(actions, Discrete) else ActionScale.of(actions, device)


@dataclass(frozen=True)
class ObservationScale:
    """Observations less their mean, over their standard deviation plus 1e-3, for each replica its own.

    Source: TD3+BC (Fujimoto & Gu, arXiv 2106.06860), section 5.
    """

    mean: Tensor  # (R, 1, observation)
    std: Tensor  # (R, 1, observation), the 1e-3 added

    @classmethod
    def identity(cls, replicas: int, observation_size: int, device: torch.device) -> ObservationScale:
        shape = (replicas, 1, observation_size)
        return cls(torch.zeros(shape, device=device), torch.ones(shape, device=device))

    def __call__(self, observations: Tensor) -> Tensor:
        return (observations - self.mean) / self.std


@dataclass(frozen=True)
class RewardScale:
    """r -> factor · r + offset."""

    factor: float = 1.0
    offset: float = 0.0

    @classmethod
    def known_before_data(cls, dataset: Dataset) -> RewardScale:
        """The reward scale of IQL (Kostrikov et al., arXiv 2110.06169, appendix) without a look at the data.

        Locomotion rewards are divided by the span of returns and multiplied by 1000; the span is that of
        the reference returns, where the paper takes the dataset's best and worst episode, which would tell
        of data yet to arrive. AntMaze rewards lose 1. Others stay. Raises UserError for a locomotion
        environment without reference returns.
        """
        if _is_locomotion(dataset) and dataset.reference is None:
            raise UserError(
                f"{dataset.name}: rewards of {dataset.environment} are scaled by its reference returns, and "
                "none are known; leave them as they are with scale_rewards=False in the algorithm's config"
            )
        reference = dataset.reference
        return cls._of(dataset, reference.maximum - reference.minimum if reference else 1.0)

    @classmethod
    def known_from_all_data(cls, dataset: Dataset) -> RewardScale:
        """The same as the paper has it, by the best and the worst episode of the whole dataset: a leak."""
        return cls._of(dataset, float(dataset.episode_returns.max() - dataset.episode_returns.min()))

    @classmethod
    def _of(cls, dataset: Dataset, span: float) -> RewardScale:
        if _plain_name(dataset).startswith("antmaze"):
            return cls(offset=-1.0)
        return cls(factor=1000.0 / span) if _is_locomotion(dataset) else cls()


def _is_locomotion(dataset: Dataset) -> bool:
    return _plain_name(dataset).startswith(("hopper", "halfcheetah", "walker2d"))


def _plain_name(dataset: Dataset) -> str:
    """The environment that it was logged in, without options and without the module that registers it."""
    return dataset.environment.partition("?")[0].rpartition(":")[2].lower()
