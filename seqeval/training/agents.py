"""R agents at work: an algorithm, and the scales between it and the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, join_replicas, select_replica
from seqeval.replay.normalization import ObservationScale, action_scale
from seqeval.types import Environment


class Agents:
    """R agents that act in an environment's own units.

    `observations` is None where the algorithm sees observations as they are. While the agents learn as some
    of another algorithm's replicas, theirs keeps but the number of updates: what has been learnt there is
    brought here once something is asked of the agents.
    """

    def __init__(self, algorithm: Algorithm, environment: Environment) -> None:
        self.algorithm = algorithm
        self.actions = action_scale(environment.actions, algorithm.device)
        self.observations: ObservationScale | None = None
        if algorithm.config.normalize_observations:
            self.observations = ObservationScale.identity(
                len(algorithm.seeds), environment.observation_size, algorithm.device
            )
        self._elsewhere: Callable[[], Sequence[Mapping[str, Any]]] | None = None

    def learnt_elsewhere(self, updates: int, states: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """The agents have made so many updates, and the `states` of the replicas that they now are can be had
        till the next."""
        self.algorithm.updates, self._elsewhere = updates, states

    def come_home(self) -> None:
        """Brings here what has been learnt elsewhere."""
        if self._elsewhere is not None:
            self.algorithm.load_states(self._elsewhere())
            self._elsewhere = None

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The deterministic policies: (R, E, observation) -> (R, E, action), or (R, E) where discrete."""
        self.come_home()
        with torch.no_grad():
            return self.actions.to_environment(self.algorithm.act(self._seen(observations))).cpu().numpy()

    def explore(self, observations: np.ndarray, noise: np.ndarray) -> Tensor:
        """What the agents do where they learn online, as an algorithm has actions.

        (R, E, observation) and `noise` (R, E, action), N(0, 1), -> (R, E, action), or (R, E) where discrete.
        """
        self.come_home()
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
        self.come_home()
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
