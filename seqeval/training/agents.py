"""R agents: an algorithm, and the conversions between it and its environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, Config
from seqeval.replay.indices import Indices
from seqeval.replay.normalization import ObservationNormalizer, batched_action_mapping
from seqeval.replay.samplers import Sampler
from seqeval.types import Discrete, Environment, Spec, Vector


def spec_of(environment: Environment) -> Spec:
    """What algorithms know about an environment."""
    discrete = isinstance(environment.actions, Discrete)
    return Spec(Vector(environment.observation_size), environment.actions.size, discrete)


class Agents:
    """R agents that act in the units of their environments.

    `normalizer` is None if the algorithm sees observations as they are.
    """

    def __init__(
        self,
        algorithm: type[Algorithm],
        config: Config,
        environments: Sequence[Environment],
        seeds: Sequence[int],
        total_updates: int,
        device: torch.device,
    ) -> None:
        """Fresh agents; `environments` and `seeds` have an entry for each replica."""
        self.seeds = tuple(seeds)
        self.algorithm = algorithm(spec_of(environments[0]), config, seeds, total_updates, device)
        self.actions = batched_action_mapping([environment.actions for environment in environments], device)
        self.normalizer: ObservationNormalizer | None = None
        if config.normalize_observations:
            size = environments[0].observation_size
            self.normalizer = ObservationNormalizer(len(seeds), size, device)

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The deterministic policies: (R, E, observation) -> (R, E, action), or (R, E) where discrete."""
        with torch.no_grad():
            actions = self.algorithm.act(self.normalized(self._tensor(observations)))
            return self.actions.to_environment(actions).cpu().numpy()

    def explore(self, observations: np.ndarray, noise: np.ndarray) -> Tensor:
        """Actions of the online phase, as the algorithm sees actions.

        (R, E, observation) and `noise` (R, E, action), N(0, 1), -> (R, E, action), or (R, E) where discrete.
        """
        with torch.no_grad():
            return self.algorithm.explore(self.normalized(self._tensor(observations)), self._tensor(noise))

    def normalized(self, observations: Tensor) -> Tensor:
        """(R, E, observation) as the algorithm sees them."""
        return observations if self.normalizer is None else self.normalizer(observations)

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


class AgentGroup:
    """Some consecutive replicas of `agents`, as an evaluator sees them: `evaluation.Policies`."""

    def __init__(self, agents: Agents, replicas: slice, sampler: Sampler | None = None) -> None:
        """`sampler` makes the minibatches of `td_error`; None in a process without the data."""
        self.agents, self.replicas, self._sampler = agents, replicas, sampler
        self.seeds = agents.seeds[replicas]
        self.algorithm = agents.algorithm

    def act(self, observations: np.ndarray) -> np.ndarray:
        """As `Agents.act`, for these replicas."""
        count = len(self.agents.seeds)
        if len(self.seeds) == count:
            return self.agents.act(observations)
        # An algorithm acts with all of its replicas at once; the others' actions are dropped.
        padded = np.zeros((count, *observations.shape[1:]), observations.dtype)
        padded[self.replicas] = observations
        return self.agents.act(padded)[self.replicas]

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

    def _padded(self, values: Tensor) -> Tensor:
        """The values of these replicas among zeros for the others."""
        count = len(self.agents.seeds)
        if len(self.seeds) == count:
            return values
        padded = values.new_zeros(count, *values.shape[1:])
        padded[self.replicas] = values
        return padded

    def states(self) -> list[dict[str, Any]]:
        """What `load_states` accepts in a group of these replicas alone."""
        return [self.agents.state_of(replica) for replica in range(len(self.agents.seeds))[self.replicas]]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """As `Agents.load_states`; the group has all replicas."""
        self.agents.load_states(states)
