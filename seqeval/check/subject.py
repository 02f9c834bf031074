"""An algorithm under test, and the made-up inputs that it gets."""

from __future__ import annotations

import copy
import io
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import ActionSpace, Algorithm, Config
from seqeval.check.batches import Batches, draw_observations, to_tensor
from seqeval.errors import type_and_message
from seqeval.replicated import Replicated
from seqeval.seeding import stream
from seqeval.types import Batch, Image, Spec, Vector

SPECS: dict[ActionSpace, tuple[Spec, Spec]] = {
    "continuous": (Spec(observation=Vector(5), action_size=2), Spec(observation=Vector(3), action_size=1)),
    "discrete": (
        Spec(observation=Vector(5), action_size=3, discrete=True),
        Spec(observation=Vector(3), action_size=2, discrete=True),
    ),
}
IMAGE_SPECS: dict[ActionSpace, tuple[Spec, Spec]] = {
    space: (
        replace(specs[0], observation=Image(channels=3, height=16, width=16)),
        replace(specs[1], observation=Image(channels=1, height=17, width=19, stack=2)),
    )
    for space, specs in SPECS.items()
}
SEEDS = (3, 0, 7)
BATCH_SIZE = 16
UPDATES = 8  # of a short training
HALF = UPDATES // 2
LONG = 53  # updates of a long training, at least: a prime, and enough for what begins late
LONGEST_DELAY = LONG // 3  # of a setting such as `policy_delay`
TOTAL_UPDATES = 100
STATES = 4  # per call of `act`
MANY_STATES = 64  # enough for two policies to differ in one, and for exploration to reach its bounds
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trained:
    """An algorithm after a training, and the metrics of each update. Rules leave it as it is."""

    algorithm: Algorithm
    metrics: list[dict[str, Tensor]]


class Subject:
    """An algorithm under test with actions and observations of one kind."""

    def __init__(
        self, found: type[Algorithm], config: Config, space: ActionSpace, images: bool = False
    ) -> None:
        self.found, self.config, self.space, self.images = found, config, space, images
        self.specs = (IMAGE_SPECS if images else SPECS)[space]
        self.kind = f"{space} actions{' and images' if images else ''}"
        self._batches = Batches(config.batch_size)

    def make(
        self,
        seeds: Sequence[int] = SEEDS,
        spec: Spec | None = None,
        device: torch.device = CPU,
        total_updates: int = TOTAL_UPDATES,
        config: Config | None = None,
    ) -> Algorithm:
        spec, config = spec or self.specs[0], config or self.config
        return self.found(spec, config, seeds, total_updates, device)

    def make_all_sizes(self) -> list[Algorithm]:
        """One and three replicas, for two sizes of observations and actions."""
        return [self.make(seeds, spec) for spec in self.specs for seeds in (SEEDS[:1], SEEDS)]

    @cached_property
    def untrained(self) -> list[Algorithm]:
        """All sizes, without an update."""
        return self.make_all_sizes()

    @cached_property
    def short(self) -> list[Trained]:
        """All sizes after a short training."""
        return [Trained(algorithm, self.train(algorithm)) for algorithm in self.make_all_sizes()]

    @property
    def trained(self) -> list[Algorithm]:
        return [trained.algorithm for trained in self.short]

    @cached_property
    def long(self) -> int:
        """Updates of a long training: at least three periods, and not a multiple of the period."""
        period = self.untrained[0].period
        return max(LONG, 3 * period + 1) if isinstance(period, int) else LONG

    @cached_property
    def together(self) -> Trained:
        """Three replicas after a long training."""
        return self._train_long(SEEDS)

    @cached_property
    def solo(self) -> list[Trained]:
        """Each seed's agent after a long training of its own."""
        return [self._train_long([seed]) for seed in SEEDS]

    def _train_long(self, seeds: Sequence[int]) -> Trained:
        algorithm = self.make(seeds)
        return Trained(algorithm, self.train(algorithm, 0, self.long))

    @property
    def is_single(self) -> bool:
        return issubclass(self.found, Replicated)

    def batch(self, algorithm: Algorithm, update: int, data_seeds: Sequence[int] | None = None) -> Batch:
        """The batch of an update. A replica's part depends on its seed alone, not on the other replicas.

        `data_seeds` replace the seeds of the replicas.
        """
        return self._batches.make(algorithm, update, data_seeds or algorithm.seeds)

    def train(self, algorithm: Algorithm, first: int = 0, last: int = UPDATES) -> list[dict[str, Tensor]]:
        """Makes the updates from `first` up to `last`, and returns their metrics."""
        return [algorithm.update(self.batch(algorithm, update)) for update in range(first, last)]

    def observations(self, algorithm: Algorithm, states: int, largest: float = 1000) -> Tensor:
        """Observations (R, states, observation) of sizes from 0.1 to `largest`, or images; other ones for
        each seed."""
        values = [
            draw_observations(algorithm.spec, (states,), stream(seed, "check", "act"))
            for seed in algorithm.seeds
        ]
        if isinstance(algorithm.spec.observation, Vector):
            values = [np.geomspace(0.1, largest, states)[:, None] * value for value in values]
        return to_tensor(values, algorithm)

    def noise(self, algorithm: Algorithm, states: int) -> Tensor:
        """The noise (R, states, exploration_size) of `explore`, other for each seed."""
        shape = (states, algorithm.exploration_size)
        values = [stream(seed, "check", "explore").standard_normal(shape) for seed in algorithm.seeds]
        return to_tensor(values, algorithm)

    def act(self, algorithm: Algorithm, states: int = STATES) -> Tensor:
        with torch.no_grad():
            return algorithm.act(self.observations(algorithm, states))

    def explore(self, algorithm: Algorithm) -> Tensor:
        """Exploration with observations and noise of each replica's seed."""
        with torch.no_grad():
            noise = self.noise(algorithm, MANY_STATES)
            return algorithm.explore(self.observations(algorithm, MANY_STATES), noise)

    def learned(self, algorithm: Algorithm) -> Any:
        """A copy of the state of an algorithm, without the random state of single agents."""
        state = algorithm.state_dict()
        if isinstance(algorithm, Replicated):
            state = state | {"replicas": [replica["agent"] for replica in state["replicas"]]}
        return copy.deepcopy(state)

    def snapshot(self, algorithm: Algorithm, replica: int | None = None) -> dict[str, Any]:
        """The state and the actions of an algorithm, or of one of its replicas."""
        actions = self.act(algorithm)
        if replica is None:
            return {"state_dict": algorithm.state_dict(), "act": actions}
        return {"state_dict": algorithm.state_of(replica), "act": actions[replica]}

    @property
    def file(self) -> str | None:
        """The file that defines the algorithm."""
        return getattr(sys.modules.get(self.found.__module__), "__file__", None)

    def location(self, line: int | None) -> str:
        """A line of the algorithm's file, in brackets; empty if there is none."""
        return "" if line is None else f" ({self.file}, line {line})"

    def describe(self, error: Exception) -> str:
        """An exception, with the line of the algorithm's file that it came from."""
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.file]
        return type_and_message(error) + self.location(lines[-1] if lines else None)


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it is read back from a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
