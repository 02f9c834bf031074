"""R agents: an algorithm, and the conversions between it and its environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, Config, Memory, merge_configs
from seqeval.replay.indices import Indices
from seqeval.replay.normalization import ObservationNormalizer, batched_action_mapping
from seqeval.replay.samplers import Sampler
from seqeval.types import Discrete, Environment, Image, Spec

V = TypeVar("V", np.ndarray, Tensor)


def spec_of(environment: Environment) -> Spec:
    """What algorithms know about an environment."""
    discrete = isinstance(environment.actions, Discrete)
    return Spec(environment.observation, environment.actions.size, discrete)


class Agents:
    """R agents that act in the units of their environments.

    `normalizer` is None if the algorithm sees observations as they are.
    """

    def __init__(
        self,
        algorithm: type[Algorithm],
        configs: Sequence[Config],
        environments: Sequence[Environment],
        seeds: Sequence[int],
        total_updates: int,
        device: torch.device,
    ) -> None:
        """Fresh agents; `configs` (of equal structure), `environments` and `seeds` have an entry for each
        replica."""
        self.seeds = tuple(seeds)
        config = merge_configs(configs, device)
        self.algorithm = algorithm(spec_of(environments[0]), config, seeds, total_updates, device)
        self.actions = batched_action_mapping([environment.actions for environment in environments], device)
        self.normalizer: ObservationNormalizer | None = None
        if config.normalize_observations:
            size = environments[0].observation_size
            self.normalizer = ObservationNormalizer(len(seeds), size, device)

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The deterministic policies: (R, E, observation) -> (R, E, action), or (R, E) where discrete."""
        with torch.no_grad():
            actions = self.algorithm.act(self._observations(observations))
            return self.actions.to_environment(actions).cpu().numpy()

    @property
    def target_returns(self) -> tuple[float, ...]:
        """See `Algorithm.target_returns`."""
        return self.algorithm.target_returns

    def start_episodes(self, count: int, target: int = 0) -> Memory:
        """See `Algorithm.start_episodes`."""
        with torch.no_grad():
            return self.algorithm.start_episodes(count, target)

    def act_in_episodes(self, observations: np.ndarray, rewards: np.ndarray, memory: Memory) -> np.ndarray:
        """As `act`, for the next step of episodes; `rewards` (R, E) are those of the step before, or 0."""
        with torch.no_grad():
            actions = self.algorithm.act_in_episodes(
                self._observations(observations), self._tensor(rewards), memory
            )
            return self.actions.to_environment(actions).cpu().numpy()

    def explore_in_episodes(
        self, observations: np.ndarray, noise: np.ndarray, rewards: np.ndarray, memory: Memory
    ) -> Tensor:
        """Actions of the online phase, as the algorithm sees actions.

        (R, E, observation), N(0, 1) `noise` (R, E, exploration_size), and `rewards` as in `act_in_episodes`
        -> (R, E, action), or (R, E) where discrete.
        """
        with torch.no_grad():
            return self.algorithm.explore_in_episodes(
                self._observations(observations), self._tensor(noise), self._tensor(rewards), memory
            )

    def normalized(self, observations: Tensor) -> Tensor:
        """(R, E, observation) as the algorithm sees them."""
        return observations if self.normalizer is None else self.normalizer(observations)

    def _observations(self, observations: np.ndarray) -> Tensor:
        """Observations of environments as the algorithm sees them; images stay uint8."""
        if isinstance(self.algorithm.spec.observation, Image):
            return torch.as_tensor(observations, dtype=torch.uint8, device=self.algorithm.device)
        return self.normalized(self._tensor(observations))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.get_default_dtype(), device=self.algorithm.device)

    def state_of(self, replica: int) -> dict[str, Any]:
        """Everything that one agent has learned, for `load_states`."""
        normalizer = None if self.normalizer is None else self.normalizer.state_of(replica)
        return {"algorithm": self.algorithm.state_of(replica), "normalizer": normalizer}

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Loads what `state_of` returned for each agent, in their order."""
        self.algorithm.load_states([state["algorithm"] for state in states])
        if self.normalizer is not None:
            for replica, state in enumerate(states):
                self.normalizer.set(replica, **state["normalizer"])

    def policy_of(self, replica: int) -> dict[str, Any]:
        """What one agent's deterministic policy depends on, for `load_policy`."""
        normalizer = None if self.normalizer is None else self.normalizer.state_of(replica)
        return {"algorithm": self.algorithm.policy_of(replica), "normalizer": normalizer}

    def load_policy(self, policy: Mapping[str, Any]) -> None:
        """Loads what `policy_of` returned into a single agent."""
        self.algorithm.load_policy_dict(policy["algorithm"])
        if self.normalizer is not None:
            self.normalizer.set(0, **policy["normalizer"])


class AgentGroup:
    """Some consecutive replicas of `agents`, as an evaluator sees them: `evaluation.Policies`."""

    def __init__(self, agents: Agents, replicas: slice, sampler: Sampler | None = None) -> None:
        """`sampler` makes the minibatches of `td_error`; None in a process without the data."""
        self.agents, self.replicas, self._sampler = agents, replicas, sampler
        self.seeds = agents.seeds[replicas]
        self.algorithm = agents.algorithm
        discount = torch.as_tensor(self.algorithm.discount, dtype=torch.float64).expand(len(agents.seeds))
        self.discounts = tuple(discount[replicas].tolist())

    @property
    def target_returns(self) -> tuple[float, ...]:
        """See `Algorithm.target_returns`."""
        return self.agents.target_returns

    def act(self, observations: np.ndarray) -> np.ndarray:
        """As `Agents.act`, for these replicas."""
        return self.agents.act(self._padded(observations))[self.replicas]

    def start_episodes(self, count: int, target: int = 0) -> Memory:
        """As `Agents.start_episodes`; the memory is that of all agents."""
        return self.agents.start_episodes(count, target)

    def act_in_episodes(self, observations: np.ndarray, rewards: np.ndarray, memory: Memory) -> np.ndarray:
        """As `Agents.act_in_episodes`, for these replicas."""
        padded = self._padded(observations), self._padded(rewards)
        return self.agents.act_in_episodes(*padded, memory)[self.replicas]

    @torch.no_grad()
    def policy_actions(self, observations: Tensor) -> Tensor:
        return self.algorithm.act(self.agents.normalized(self._padded(observations)))[self.replicas]

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        return self._of_pairs(self.algorithm.log_prob, observations, actions)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        return self._of_pairs(self.algorithm.q_value, observations, actions)

    @torch.no_grad()
    def td_error(self, rows: Tensor, visible: Tensor, noise: Mapping[str, Tensor]) -> Tensor | None:
        assert self._sampler is not None
        padded = {name: self._padded(values) for name, values in noise.items()}
        indices = Indices(self._padded(rows), self._padded(visible), padded)
        return self._select(self.algorithm.td_error(self._sampler.sample(indices)))

    @torch.no_grad()
    def _of_pairs(
        self, function: Callable[[Tensor, Tensor], Tensor | None], observations: Tensor, actions: Tensor
    ) -> Tensor | None:
        normalized = self.agents.normalized(self._padded(observations))
        return self._select(function(normalized, self._padded(actions)))

    def _select(self, values: Tensor | None) -> Tensor | None:
        return None if values is None else values[self.replicas]

    def _padded(self, values: V) -> V:
        """The values of these replicas among zeros for the others: an algorithm takes those of all."""
        count = len(self.agents.seeds)
        if len(self.seeds) == count:
            return values
        shape = (count, *values.shape[1:])
        padded = values.new_zeros(shape) if isinstance(values, Tensor) else np.zeros(shape, values.dtype)
        padded[self.replicas] = values
        return padded

    def states(self) -> list[dict[str, Any]]:
        """What `load_states` accepts in a group of these replicas alone."""
        return [self.agents.state_of(replica) for replica in range(len(self.agents.seeds))[self.replicas]]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """As `Agents.load_states`; the group has all replicas."""
        self.agents.load_states(states)
