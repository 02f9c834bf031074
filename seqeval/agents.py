"""R agents at work: an algorithm, and the scales between it and the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, join_replicas, select_replica
from seqeval.scaling import ObservationScale, action_scale
from seqeval.types import Environment


class Agents:
    """R agents that act in an environment's own units.

    `observations` is None where the algorithm sees observations as they are.
    """

    def __init__(self, algorithm: Algorithm, environment: Environment) -> None:
        self.algorithm = algorithm
        self.actions = action_scale(environment.actions, algorithm.device)
        self.observations: ObservationScale | None = None
        if algorithm.config.normalize_observations:
            self.observations = ObservationScale.identity(
                len(algorithm.seeds), environment.observation_size, algorithm.device
            )

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The deterministic policies: (R, E, observation) -> (R, E, action), or (R, E) where discrete."""
        with torch.no_grad():
            return self.actions.to_environment(self.algorithm.act(self._seen(observations))).cpu().numpy()

    def explore(self, observations: np.ndarray, noise: np.ndarray) -> Tensor:
        """What the agents do where they learn online, as an algorithm has actions.

        (R, E, observation) and `noise` (R, E, action), N(0, 1), -> (R, E, action), or (R, E) where discrete.
        """
        with torch.no_grad():
            return self.algorithm.explore(self._seen(observations), self._tensor(noise))

    def _seen(self, observations: np.ndarray) -> Tensor:
        """Observations as the algorithm sees them."""
        plain = self._tensor(observations)
        return plain if self.observations is None else self.observations(plain)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.get_default_dtype(), device=self.algorithm.device)

    def state_of(self, replica: int) -> dict[str, Any]:
        """All that one agent has learnt, for `load_states` of agents like these."""
        scale = (
            None
            if self.observations is None
            else {"mean": self.observations.mean, "std": self.observations.std}
        )
        return {
            "algorithm": self.algorithm.state_of(replica),
            "observations": select_replica(scale, replica),
        }

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes what `state_of` gave of each agent, in their order."""
        self.algorithm.load_states([state["algorithm"] for state in states])
        if self.observations is not None:
            joined = join_replicas([state["observations"] for state in states])
            self.observations = ObservationScale(
                **{name: value.to(self.algorithm.device) for name, value in joined.items()}
            )
