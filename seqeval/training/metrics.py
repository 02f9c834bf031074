"""Means of an algorithm's metrics between two rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


class MetricMeans:
    """Running means of metrics for each of R replicas. They stay on the device until a row is due."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas
        # Modified in place only, since captured updates add to them. -0 is the start because x + -0 is x.
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, np.ndarray] = {}  # (R,) int64, updates since the replica's last `clear`

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Adds the metrics of one update, (R,) each."""
        for name, values in metrics.items():
            if name not in self._sums:
                self._sums[name] = torch.full_like(values, -0.0, dtype=torch.float64)
            self._sums[name].add_(values)
        self.count(metrics)

    def count(self, names: Iterable[str]) -> None:
        """Counts an update whose metrics were added by a replayed CUDA graph."""
        for name in names:
            if name not in self._counts:
                self._counts[name] = np.zeros(self._replicas, np.int64)
            self._counts[name] += 1

    def means(self, replicas: slice) -> list[dict[str, float]]:
        """The means of these replicas since their last `clear`."""
        return [
            {name: total / count for name, (total, count) in state.items()}
            for state in self._states(replicas)
        ]

    def clear(self, replicas: slice) -> None:
        for name in self._counts:
            self._sums[name][replicas] = -0.0
            self._counts[name][replicas] = 0

    def state_of(self, replica: int) -> dict[str, tuple[float, int]]:
        """One replica's sums and counts."""
        return self._states(slice(replica, replica + 1))[0]

    def load_states(self, states: Sequence[Mapping[str, tuple[float, int]]], device: torch.device) -> None:
        for name in dict.fromkeys(name for state in states for name in state):
            sums, counts = zip(*(state.get(name, (-0.0, 0)) for state in states), strict=True)
            self._sums[name] = torch.tensor(sums, dtype=torch.float64, device=device)
            self._counts[name] = np.array(counts, np.int64)

    def _states(self, replicas: slice) -> list[dict[str, tuple[float, int]]]:
        """Sums and counts of the metrics that have been added since the last `clear`."""
        states: list[dict[str, tuple[float, int]]] = [{} for _ in range(self._replicas)[replicas]]
        for name, counts in self._counts.items():
            sums = self._sums[name][replicas].tolist()
            for state, total, count in zip(states, sums, counts[replicas].tolist(), strict=True):
                if count:
                    state[name] = (total, count)
        return states
