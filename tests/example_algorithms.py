"""Small algorithms for the tests, loaded by path as a user's own are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, final

import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, Batch, Config, Sampling, SingleAlgorithm


@final
class Noisy(SingleAlgorithm):
    """Uses torch's global random numbers, and its learning rate falls until the last update."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.net = torch.nn.Linear(self.spec.observation_size, self.spec.action_size)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.updates += 1
        rate = 0.1 * (1 - self.updates / self.total_updates)
        loss = (self.net(batch.observations) - batch.actions + torch.randn(())).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter -= rate * parameter.grad
                parameter.grad = None
        return {"loss": loss.detach()}

    def act(self, observations: Tensor) -> Tensor:
        return self.net(observations).tanh()

    def explore(self, observations: Tensor) -> Tensor:
        return (self.act(observations) + torch.randn(())).clamp(-1, 1)


@final
class CountsInPython(Algorithm):
    """Declares a period although Python decides what an update does."""

    period = 1

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.net = torch.nn.ParameterDict({"sum": torch.zeros(len(self.seeds))}).requires_grad_(False)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.updates += 1
        self.net["sum"] += self.updates * batch.rewards.mean(-1)
        return {"sum": self.net["sum"].clone()}

    def act(self, observations: Tensor) -> Tensor:
        return torch.zeros(*observations.shape[:-1], 1)


@dataclass(frozen=True)
class SamplingConfig(Config):
    """The settings of `Sampling`."""

    kind: str = "transitions"
    length: int = 1
    discount: float = 1.0
    next_actions: bool = False
    returns_to_go: bool = False
    rows: bool = False
    times: bool = False
    best_episodes: float | None = None


def _declared(config: SamplingConfig) -> Sampling:
    return Sampling(**{field.name: getattr(config, field.name) for field in fields(Sampling)})


FIELDS = (
    "observations", "actions", "rewards", "next_observations", "terminated", "next_actions",
    "next_actions_mask", "returns_to_go", "returns_to_go_mask", "rows", "times", "steps", "mask",
)  # fmt: skip


def _sums(batch: Batch) -> dict[str, Tensor]:
    """Sums over a batch, (R,) by field; an infinite return to go counts as -1000."""
    values = {name: getattr(batch, name) for name in FIELDS}
    return {
        name: value.to(torch.get_default_dtype()).clamp(min=-1000).flatten(1).sum(1)
        for name, value in values.items()
        if value is not None
    }


@final
class Summing(Algorithm):
    """Adds up what its batches hold, so that it tells of every number that it has seen."""

    Config = SamplingConfig
    period = 1

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.net = torch.nn.ParameterDict({"sum": torch.zeros(len(self.seeds))}).requires_grad_(False)

    @property
    def sampling(self) -> Sampling:
        return _declared(self.config)

    @classmethod
    def depends_on_total_updates(cls, config: Any) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.updates += 1
        sums = _sums(batch)
        for value in sums.values():
            self.net["sum"] += value
        return sums

    def act(self, observations: Tensor) -> Tensor:
        action = (self.net["sum"] / 1000).tanh().view(-1, 1, 1)
        return action.expand(*observations.shape[:-1], self.spec.action_size).contiguous()


@final
class SingleSumming(SingleAlgorithm):
    """`Summing` for one agent."""

    Config = SamplingConfig

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.net = torch.nn.ParameterDict({"sum": torch.zeros(())}).requires_grad_(False)

    @property
    def sampling(self) -> Sampling:
        return _declared(self.config)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.updates += 1
        values = {name: getattr(batch, name) for name in FIELDS}
        sums = {
            name: value.to(torch.get_default_dtype()).clamp(min=-1000).flatten().sum()
            for name, value in values.items()
            if value is not None
        }
        for value in sums.values():
            self.net["sum"] += value
        return sums

    def act(self, observations: Tensor) -> Tensor:
        action = (self.net["sum"] / 1000).tanh()
        return action.expand(*observations.shape[:-1], self.spec.action_size).contiguous()
