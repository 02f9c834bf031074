"""An algorithm under test, and the made-up inputs that it gets."""

from __future__ import annotations

import copy
import io
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import ActionSpace, Algorithm, Config
from seqeval.loading import one_line
from seqeval.replay.indices import draw_noise
from seqeval.replicated import Replicated
from seqeval.seeding import stream
from seqeval.types import Batch, Spec, Vector

SPECS: dict[ActionSpace, tuple[Spec, Spec]] = {
    "continuous": (Spec(observation=Vector(5), action_size=2), Spec(observation=Vector(3), action_size=1)),
    "discrete": (
        Spec(observation=Vector(5), action_size=3, discrete=True),
        Spec(observation=Vector(3), action_size=2, discrete=True),
    ),
}
SEEDS = (3, 0, 7)
BATCH_SIZE = 16
UPDATES = 8
HALF = UPDATES // 2
TOTAL_UPDATES = 100
STATES = 4  # per call of `act`
MANY_STATES = 64  # enough for two policies to differ in one, and for exploration to reach its bounds
CPU = torch.device("cpu")


class Subject:
    """An algorithm under test with actions of one kind."""

    def __init__(self, found: type[Algorithm], config: Config, space: ActionSpace) -> None:
        self.found, self.config, self.space = found, config, space

    def make(
        self, seeds: Sequence[int] = SEEDS, spec: Spec | None = None, device: torch.device = CPU
    ) -> Algorithm:
        return self.found(spec or SPECS[self.space][0], self.config, seeds, TOTAL_UPDATES, device)

    def make_all_sizes(self) -> list[Algorithm]:
        """One and three replicas, for two sizes of observations and actions."""
        return [self.make(seeds, spec) for spec in SPECS[self.space] for seeds in (SEEDS[:1], SEEDS)]

    @cached_property
    def untrained(self) -> list[Algorithm]:
        """All sizes, without an update."""
        return self.make_all_sizes()

    @cached_property
    def trained(self) -> list[Algorithm]:
        """All sizes, with `UPDATES` updates."""
        algorithms = self.make_all_sizes()
        for algorithm in algorithms:
            self.train(algorithm)
        return algorithms

    def batch(self, algorithm: Algorithm, update: int, data_seeds: Sequence[int] | None = None) -> Batch:
        """The batch of an update. A replica's part depends on its seed alone, not on the other replicas.

        `data_seeds` replace the seeds of the replicas.
        """
        spec, sampling = algorithm.spec, algorithm.sampling
        shape: tuple[int, ...] = (self.config.batch_size,)
        if sampling.kind == "sequences":
            shape = (*shape, sampling.length)
        rngs = [stream(seed, "check", update) for seed in (data_seeds or algorithm.seeds)]

        def tensor(draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
            return _tensor([draw(rng) for rng in rngs], algorithm)

        def observations(rng: np.random.Generator) -> np.ndarray:
            return rng.standard_normal((*shape, spec.observation_size))

        def actions(rng: np.random.Generator) -> np.ndarray:
            if spec.discrete:
                return rng.integers(spec.action_size, size=shape)
            return rng.uniform(-1, 1, (*shape, spec.action_size))

        batch = Batch(
            observations=tensor(observations),
            actions=tensor(actions),
            rewards=tensor(lambda rng: rng.standard_normal(shape)),
            next_observations=tensor(observations),
            terminated=tensor(lambda rng: rng.random(shape) < 0.3),
            noise={
                name: _tensor([draw_noise(noise, 1, rng)[0] for rng in rngs], algorithm)
                for name, noise in algorithm.noise.items()
            },
        )
        optional: dict[str, Any] = {}
        if sampling.next_actions:
            optional["next_actions"] = tensor(actions)
            optional["next_actions_mask"] = tensor(lambda rng: rng.random(shape) < 0.8)
        if sampling.returns_to_go:
            known = optional["returns_to_go_mask"] = tensor(lambda rng: rng.random(shape) < 0.8)
            optional["returns_to_go"] = batch.rewards.where(known > 0, -torch.inf)
        if sampling.rows:
            optional["rows"] = tensor(lambda rng: rng.integers(1000, size=shape))
        if sampling.times:
            optional["times"] = tensor(lambda rng: rng.integers(1000, size=shape))
        if sampling.kind == "n_step":
            optional["steps"] = tensor(lambda rng: rng.integers(1, sampling.length + 1, shape))
        if sampling.kind == "sequences":
            lengths = tensor(lambda rng: rng.integers(1, sampling.length + 1, (shape[0], 1)))
            places = torch.arange(sampling.length, device=lengths.device)
            optional["mask"] = (places < lengths).to(batch.rewards.dtype)
        return replace(batch, **optional)

    def train(self, algorithm: Algorithm, first: int = 0, last: int = UPDATES) -> list[dict[str, Tensor]]:
        """Makes the updates from `first` up to `last`, and returns their metrics."""
        return [algorithm.update(self.batch(algorithm, update)) for update in range(first, last)]

    def observations(self, algorithm: Algorithm, states: int) -> Tensor:
        """Observations (R, states, observation) of sizes from 0.1 to 1000, the same for every replica."""
        values = stream(0, "check", "act").standard_normal((states, algorithm.spec.observation_size))
        values *= np.logspace(-1, 3, states)[:, None]
        return _tensor([values] * len(algorithm.seeds), algorithm)

    def act(self, algorithm: Algorithm, states: int = STATES) -> Tensor:
        with torch.no_grad():
            return algorithm.act(self.observations(algorithm, states))

    def explore(self, algorithm: Algorithm) -> Tensor:
        """Exploration with the same observations for every replica, and with noise of its seed."""
        shape = (MANY_STATES, algorithm.exploration_size)
        noise = [stream(seed, "check", "explore").standard_normal(shape) for seed in algorithm.seeds]
        with torch.no_grad():
            return algorithm.explore(self.observations(algorithm, MANY_STATES), _tensor(noise, algorithm))

    def learned(self, algorithm: Algorithm) -> Any:
        """A copy of the state of an algorithm, without the random state of single agents."""
        state = algorithm.state_dict()
        if isinstance(algorithm, Replicated):
            state = state | {"replicas": [replica["agent"] for replica in state["replicas"]]}
        return copy.deepcopy(state)

    def snapshot(self, algorithm: Algorithm, replica: int | None = None) -> dict[str, Any]:
        """The state and the actions of an algorithm, or of one of its replicas."""
        # A policy that acts at random breaks the rule on that, but not every rule that compares actions.
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
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
        return one_line(error) + self.location(lines[-1] if lines else None)


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it is read back from a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _tensor(replicas: Sequence[np.ndarray], algorithm: Algorithm) -> Tensor:
    values = np.stack(replicas)
    dtype = torch.int64 if values.dtype == np.int64 else torch.get_default_dtype()
    return torch.from_numpy(values).to(algorithm.device, dtype)
