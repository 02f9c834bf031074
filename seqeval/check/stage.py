"""The made-up agents and data that an evaluator under test gets: a study in small, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval import environments
from seqeval.algorithm import ActionSpace, Algorithm, Config, Noise
from seqeval.config import Protocol
from seqeval.evaluation import VisibleData
from seqeval.replay.buffer import Buffer
from seqeval.replay.normalization import RewardScale, action_mapping
from seqeval.replay.samplers import make_sampler
from seqeval.seeding import stream
from seqeval.slicing import arriving_size
from seqeval.training.agents import AgentGroup, Agents
from seqeval.training.arrival import arrival
from seqeval.types import Batch, Dataset, Discrete

CPU = torch.device("cpu")
ENVIRONMENTS: dict[ActionSpace, str] = {
    "continuous": "Pendulum-v1?max_episode_steps=5",
    "discrete": "CartPole-v1?max_episode_steps=5",
}
SHARES = (0.4, 0.7, 1.0)  # of the data that is visible at the points of a curve
HOLD_OUT = 0.2
DISCOUNT = 0.9


@dataclass(frozen=True)
class Situation:
    """How a stage differs from the usual one."""

    hold_out: float = HOLD_OUT
    bare: bool = False  # deterministic policies without critics
    reward_factor: float = 1.0  # of the algorithm's rewards; critics are in its units
    behind_others: bool = False  # the buffer holds another dataset before this one
    hidden: float | None = None  # overwrites with it what has not arrived one point later


class MadeUpAgents(Algorithm):
    """Linear stochastic policies with two critics. `move` takes the place of training.

    Every number is computed element by element, so it does not depend on the other replicas.
    """

    action_spaces = ("continuous", "discrete")

    def __init__(
        self, spec: Any, config: Any, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        shape = (spec.observation_size, spec.action_size)
        drawn = [stream(seed, "check", "agents").standard_normal(shape) for seed in seeds]
        weights = torch.from_numpy(np.stack(drawn)).to(device, torch.get_default_dtype())
        self.net = torch.nn.ParameterDict({"weights": torch.nn.Parameter(weights)})
        self.net.requires_grad_(False)
        self._first = weights.clone()
        self.reward_factor = 1.0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def move(self, point: int) -> None:
        """To the policies of a point of the curve."""
        self.updates = point + 1
        self.net["weights"].copy_(self._first * (1 + 0.3 * point) - 0.1 * point)

    @property
    def discount(self) -> float:
        return DISCOUNT

    @property
    def noise(self) -> dict[str, Noise]:
        return {"target": Noise("normal", (self.config.batch_size,))}

    def _preferences(self, observations: Tensor) -> Tensor:
        weights = self.net["weights"].unsqueeze(2)
        parts = [observations[..., i : i + 1] * weights[:, i] for i in range(weights.shape[1])]
        return sum(parts[1:], parts[0])

    def act(self, observations: Tensor) -> Tensor:
        preferences = self._preferences(observations)
        return preferences.argmax(-1) if self.spec.discrete else preferences.tanh()

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        preferences = self._preferences(observations)
        if self.spec.discrete:
            return preferences.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return torch.distributions.Normal(preferences.tanh(), 0.5).log_prob(actions).sum(-1)

    def _values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(R, C, B), in the units of the scaled rewards."""
        actions = (
            torch.nn.functional.one_hot(actions, self.spec.action_size) if self.spec.discrete else actions
        )
        value = (self._preferences(observations) * actions).sum(-1) * self.reward_factor
        return torch.stack([value, 0.5 * value], 1)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        return self._values(observations, actions).amin(1)

    def td_error(self, batch: Batch) -> Tensor | None:
        following = batch.next_observations
        jitter = 0.1 * self.reward_factor * batch.noise["target"]
        value = self._values(following, self.act(following)).amin(1) + jitter
        target = batch.rewards + torch.where(batch.terminated > 0, 0.0, DISCOUNT * value)
        return self._values(batch.observations, batch.actions) - target.unsqueeze(1)


class BareAgents(MadeUpAgents):
    """Deterministic policies without critics."""

    def log_prob(self, observations: Tensor, actions: Tensor) -> None:
        return None

    def q_value(self, observations: Tensor, actions: Tensor) -> None:
        return None

    def td_error(self, batch: Batch) -> None:
        return None


class Stage:
    """R agents and a dataset that arrives for them; `at` is a point of their curves."""

    def __init__(self, space: ActionSpace, seeds: Sequence[int], situation: Situation) -> None:
        self.seeds, self.situation = tuple(seeds), situation
        dataset = made_up_dataset(space)
        protocol = Protocol(order="episodes", hold_out=situation.hold_out)
        size = arriving_size(situation.hold_out, dataset.episode_lengths)
        self.samples = [round(share * size) for share in SHARES]
        if situation.hidden is not None:
            (seed,) = self.seeds
            found = arrival(protocol, dataset, seed, size)
            dataset = _overwritten(dataset, found.order[self.samples[1] :], situation.hidden)
        self.dataset = dataset
        environment = environments.of(dataset)
        mapping = action_mapping(environment.actions, CPU)
        others = [made_up_dataset(space, 13, seed=1)] if situation.behind_others else []
        self.buffer = Buffer([*others, dataset], [mapping] * (len(others) + 1), CPU)
        self.offset = self.buffer.offsets[-1]
        self.arrivals = [arrival(protocol, dataset, seed, size, self.offset) for seed in self.seeds]
        found_class = BareAgents if situation.bare else MadeUpAgents
        configs, worlds = [Config(batch_size=16)] * len(self.seeds), [environment] * len(self.seeds)
        self.agents = Agents(found_class, configs, worlds, self.seeds, 100, CPU)
        self.agents.algorithm.reward_factor = situation.reward_factor  # type: ignore[attr-defined]
        scales = [RewardScale(situation.reward_factor)] * len(self.seeds)
        orders = [found.order for found in self.arrivals]
        sampling = self.agents.algorithm.sampling
        self._sampler = make_sampler(self.buffer, sampling, scales, None, orders, [*others, dataset])

    def at(self, point: int, with_data: bool = True) -> tuple[AgentGroup, VisibleData]:
        """The agents of a point, and what they have seen."""
        self.agents.algorithm.move(point)  # type: ignore[attr-defined]
        first, last = self.samples[point], self.samples[min(point + 1, len(self.samples) - 1)]
        samples = (first,) * len(self.seeds)
        everyone = slice(0, len(self.seeds))
        if not with_data:
            return AgentGroup(self.agents, everyone), VisibleData(samples)
        visible = VisibleData(
            samples,
            self.buffer,
            rows=lambda place: self.arrivals[place].order[:first],
            arriving=lambda place: self.arrivals[place].order[first:last],
            held_out=lambda place: self.arrivals[place].held_out,
            dataset=self.dataset,
            offset=self.offset,
            reward_factors=(self.situation.reward_factor,) * len(self.seeds),
        )
        return AgentGroup(self.agents, everyone, self._sampler), visible

    def contents(self) -> dict[str, Any]:
        """Everything that an evaluator is given, by name: tensors and arrays."""
        names = ("observations", "actions", "rewards", "next_observations", "terminated")
        buffer = {f"the buffer's {name}": getattr(self.buffer, name) for name in names}
        data = {f"the dataset's {name}": getattr(self.dataset, name) for name in (*names, "episode_returns")}
        rows = {f"the rows of replica {place}": found.order for place, found in enumerate(self.arrivals)}
        held = {f"the held-out rows of replica {i}": found.held_out for i, found in enumerate(self.arrivals)}
        return {**buffer, **data, **rows, **held}


def made_up_dataset(space: ActionSpace, episodes: int = 20, seed: int = 0) -> Dataset:
    """Random transitions of episodes of 4 to 7 steps, half of which terminate and half of which succeed."""
    rng = np.random.default_rng(seed)
    environment = environments.describe(ENVIRONMENTS[space])
    lengths = 4 + np.arange(episodes) % 4
    episode = np.repeat(np.arange(episodes, dtype=np.int32), lengths)
    size = len(episode)
    ends = np.append(episode[1:] != episode[:-1], True)
    rewards = rng.uniform(-1, 1, size).astype(np.float32) + np.float32(0.3) * (-1.0) ** episode.astype(
        np.float32
    )
    observations = rng.standard_normal((2, size, environment.observation_size)).astype(np.float32)
    if isinstance(environment.actions, Discrete):
        actions = rng.integers(environment.actions.size, size=size)
    else:
        low, high = environment.actions.low, environment.actions.high
        actions = rng.uniform(low, high, (size, len(low))).astype(np.float32)
    fields = {
        "observations": observations[0],
        "actions": actions,
        "rewards": rewards.astype(np.float32),
        "next_observations": observations[1],
        "terminated": ends & (episode % 2 == 0),
        "truncated": ends & (episode % 2 == 1),
        "episode": episode,
        "episode_returns": np.bincount(episode, rewards),
        "episode_complete": np.ones(episodes, bool),
    }
    for values in fields.values():
        values.flags.writeable = False
    return Dataset(
        "made-up", ENVIRONMENTS[space], segments=(size,), reference=None, digest=f"made-up {seed}", **fields
    )


def _overwritten(dataset: Dataset, rows: np.ndarray, value: float) -> Dataset:
    """The dataset with other values in some rows, and other returns of their episodes."""
    changes = {}
    for name in ("observations", "actions", "rewards", "next_observations"):
        changed = getattr(dataset, name).copy()
        changed[rows] = 0 if changed.dtype == np.int64 else value
        changes[name] = changed
    for name in ("terminated", "truncated"):
        changes[name] = getattr(dataset, name).copy()
        changes[name][rows] ^= True
    returns = dataset.episode_returns.copy()
    returns[np.unique(dataset.episode[rows])] = value
    return replace(dataset, **changes, episode_returns=returns)
