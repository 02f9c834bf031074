"""Conversions between the environment's units and what an algorithm sees: observations, actions, rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqeval.errors import UserError
from seqeval.types import Continuous, Dataset, Discrete

ACTION_MARGIN = 1e-5  # data actions stay this far inside [-1, 1], where tanh can still reach them
STD_EPS = 1e-3


@dataclass(frozen=True)
class ActionScale:
    """Maps continuous actions of the environment to [-1, 1] and back. With a replica axis in both fields each
    replica has its own environment."""

    centre: Tensor  # (action,), or (R, 1, action)
    half_range: Tensor  # likewise

    def to_algorithm(self, actions: Tensor) -> Tensor:
        """Actions of the data, (..., action), mapped and then clipped to ±(1 - 1e-5)."""
        margin = 1 - ACTION_MARGIN
        return (actions - self.centre).div_(self.half_range).clamp_(-margin, margin)

    def to_environment(self, actions: Tensor) -> Tensor:
        return self.centre + self.half_range * actions.clamp(-1, 1)


@dataclass(frozen=True)
class ActionOffset:
    """Maps discrete actions of the environment to 0, 1, 2, … and back."""

    first: Tensor  # (), or (R, 1)

    def to_algorithm(self, actions: Tensor) -> Tensor:
        return actions - self.first

    def to_environment(self, actions: Tensor) -> Tensor:
        return actions + self.first


ActionMapping = ActionScale | ActionOffset


def action_mapping(actions: Continuous | Discrete, device: torch.device) -> ActionMapping:
    """The mapping between an environment's actions and an algorithm's."""
    if isinstance(actions, Discrete):
        return ActionOffset(torch.tensor(actions.first, device=device))
    low = torch.as_tensor(actions.low, device=device, dtype=torch.get_default_dtype())
    high = torch.as_tensor(actions.high, device=device, dtype=torch.get_default_dtype())
    return ActionScale((low + high) / 2, (high - low) / 2)


def batched_action_mapping(actions: Sequence[Continuous | Discrete], device: torch.device) -> ActionMapping:
    """The mapping of R replicas, each with its environment's actions: all continuous or all discrete."""
    mappings = [action_mapping(space, device) for space in actions]
    stacked = [
        torch.stack(values).unsqueeze(1) for values in zip(*(vars(m).values() for m in mappings), strict=True)
    ]
    return type(mappings[0])(*stacked)


class ObservationNormalizer:
    """Observations minus their mean, divided by their standard deviation plus 1e-3, for each replica.

    The tensors are updated in place, since captured CUDA graphs read them where they are. Source: TD3+BC
    (Fujimoto & Gu, arXiv 2106.06860), section 5.
    """

    def __init__(self, replicas: int, observation_size: int, device: torch.device) -> None:
        """Leaves observations as they are until `set` is called."""
        shape = (replicas, 1, observation_size)
        self.mean = torch.zeros(shape, device=device)
        self.std = torch.ones(shape, device=device)  # includes the 1e-3

    def __call__(self, observations: Tensor) -> Tensor:
        """(R, B, observation) -> (R, B, observation)."""
        return (observations - self.mean) / self.std

    def set(self, replica: int, mean: Tensor, std: Tensor) -> None:
        """Sets one replica's mean and std: (observation,), or (1, 1, observation) from `state_of`."""
        self.mean[replica : replica + 1] = mean
        self.std[replica : replica + 1] = std

    def state_of(self, replica: int) -> dict[str, Tensor]:
        return {name: values[replica : replica + 1].clone() for name, values in vars(self).items()}


@dataclass(frozen=True)
class RewardScale:
    """r -> factor · r + offset."""

    factor: float = 1.0
    offset: float = 0.0

    @classmethod
    def known_before_data(cls, dataset: Dataset) -> RewardScale:
        """The reward scale of IQL (Kostrikov et al., arXiv 2110.06169, appendix) without looking at the data.

        Locomotion rewards are divided by a span of returns and multiplied by 1000. The span is that of the
        reference returns; the paper uses the dataset's best and worst episode, which reveals data that has
        not arrived. AntMaze: r - 1. Other rewards are unchanged. Raises UserError for a locomotion
        environment without reference returns.
        """
        if _is_locomotion(dataset) and dataset.reference is None:
            raise UserError(
                f"{dataset.name}: rewards of {dataset.environment} are scaled by its reference returns, "
                "which are not known; set scale_rewards=False in the algorithm's config to leave them"
            )
        reference = dataset.reference
        return cls._of(dataset, reference.maximum - reference.minimum if reference else 1.0)

    @classmethod
    def known_from_all_data(cls, dataset: Dataset) -> RewardScale:
        """The paper's own: by the best and worst episode of the whole dataset, which is a leak."""
        return cls._of(dataset, float(dataset.episode_returns.max() - dataset.episode_returns.min()))

    @classmethod
    def _of(cls, dataset: Dataset, span: float) -> RewardScale:
        if _environment_name(dataset).startswith("antmaze"):
            return cls(offset=-1.0)
        return cls(factor=1000.0 / span) if _is_locomotion(dataset) else cls()


def _is_locomotion(dataset: Dataset) -> bool:
    return _environment_name(dataset).startswith(("hopper", "halfcheetah", "walker2d"))


def _environment_name(dataset: Dataset) -> str:
    """The environment of the log, without options and without the module that registers it."""
    return dataset.environment.partition("?")[0].rpartition(":")[2].lower()
