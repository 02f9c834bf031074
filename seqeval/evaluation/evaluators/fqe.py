"""Fitted Q evaluation: the value of the agents' policies by critics of their own, fitted to the visible data.

Le, Voloshin, Yue, *Batch Policy Learning under Constraints* (arXiv 1903.08738), with a target network that
follows the critic, as in Paine et al., *Hyperparameter Selection for Offline Reinforcement Learning* (arXiv
2007.09055).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqeval.config import Evaluation, Study
from seqeval.errors import UserError
from seqeval.evaluation import Evaluator, Metric, Policies, Results, Rows, VisibleData
from seqeval.evaluation.evaluators._means import column, complete_episodes, first_rows, mean
from seqeval.replay.buffer import Buffer, upload
from seqeval.seeding import stream
from seqeval.types import Dataset, Image

ACTIONS = 4096  # next actions of the policy that are computed at a time


@dataclass(frozen=True)
class Config:
    updates: int = 500
    """M: updates at each point."""
    learning_rate: float = 3e-4
    batch_size: int = 256
    """Visible transitions in a minibatch."""
    target_rate: float = 0.005
    """Polyak averaging: weight of the new parameters."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""

    def __post_init__(self) -> None:
        for name, low in (("updates", 1), ("batch_size", 1), ("learning_rate", 0), ("target_rate", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name} must be at least {low}, not {getattr(self, name)}")
        if min(self.hidden, default=1) < 1:
            raise UserError(f"hidden must be widths of at least 1, not {self.hidden}")


class FQE(Evaluator):
    """A critic for each replica, regressed on r + γ Q'(s', π(s')) with the discount of the algorithm.

    At each point the critic continues from the previous one, with the policy of this point and M updates on
    uniform samples of all visible transitions; in `retrain` every size has a critic of its own. It sees
    observations and rewards as logged, so its values are in units of return for every algorithm. A truncated
    transition has a value behind it, a terminated one has none.
    """

    Config = Config
    metrics = {
        "fqe": Metric("discounted return", "higher"),
        "held_out_fqe": Metric("discounted return", "higher"),
        "behaviour_return": Metric("discounted return", None),
    }

    def __init__(
        self, env_id: str | None, seeds: Sequence[int], settings: Evaluation, config: Any = None
    ) -> None:
        super().__init__(env_id, seeds, settings, config)
        self._critics: list[Critic] = []  # created with the first evaluation, which knows their sizes
        self._saved: Sequence[Mapping[str, Any]] | None = None

    @classmethod
    def check(cls, dataset: Dataset, study: Study) -> None:
        if isinstance(dataset.observation, Image):
            raise UserError(
                f"{dataset.name}: fqe has no critic for images; remove fqe from --evaluation.metrics"
            )
        if len(dataset) and not dataset.episode_complete.any():
            raise UserError(
                f"{dataset.name}: fqe needs to know where episodes end and start, but the data has neither "
                "terminals nor timeouts; add them to the file, or remove fqe from --evaluation.metrics"
            )

    def evaluate(self, agents: Policies, visible: VisibleData) -> Results:
        """`fqe` and `held_out_fqe`: mean Q(s₀, π(s₀)) over the first observations of visible and held-out
        episodes. `behaviour_return`: the mean discounted return of the logged episodes that are complete and
        visible as a whole."""
        rows, held_out, dataset = visible.rows, visible.held_out, visible.dataset
        assert rows is not None
        assert held_out is not None
        assert dataset is not None
        if not min(len(rows(replica)) for replica in range(len(self.seeds))):
            return {}
        if agents.algorithm.remembers:  # its actions depend on more than an observation
            return {}
        self._train(agents, visible, rows)
        values: dict[str, list[float | None] | None] = {
            "fqe": self._initial_values(agents, visible, rows),
            "held_out_fqe": self._initial_values(agents, visible, held_out),
            "behaviour_return": _behaviour_returns(agents, visible, rows),
        }
        return {name: found for name, found in values.items() if found is not None}

    def _train(self, agents: Policies, visible: VisibleData, rows: Rows) -> None:
        """Makes M updates of every critic."""
        buffer = visible.buffer
        assert buffer is not None
        if not self._critics:
            self._create(agents)
        shape = (self.config.updates, self.config.batch_size)
        drawn = []
        for replica, (seed, n) in enumerate(zip(self.seeds, visible.samples, strict=True)):
            chosen = rows(replica)
            drawn.append(chosen[stream(seed, "fqe", n).integers(0, len(chosen), shape)])
        places = upload(np.stack(drawn).astype(np.int64), buffer.device)  # (R, M, B)
        next_actions = _next_actions(agents, buffer, places)
        discounts = column(agents.discounts, buffer.device)
        for replicas, critic in self._blocks():
            for update in range(shape[0]):
                batch = places[replicas, update]
                critic.update(
                    buffer.observations[batch],
                    buffer.actions[batch],
                    buffer.rewards[batch],
                    buffer.next_observations[batch],
                    next_actions[replicas, update],
                    discounts[replicas] * (1 - buffer.terminated[batch]),
                )

    def _create(self, agents: Policies) -> None:
        """The critics. On the CPU one for each replica, whose numbers do not depend on the others; on a GPU
        one for all of them."""
        algorithm = agents.algorithm
        groups = [self.seeds] if algorithm.device.type == "cuda" else [(seed,) for seed in self.seeds]
        spec = algorithm.spec
        sizes = spec.observation_size, spec.action_size
        self._critics = [
            Critic(self.config, *sizes, spec.discrete, group, algorithm.device) for group in groups
        ]
        if self._saved is not None:
            self._load(self._saved)

    def _blocks(self) -> list[tuple[slice, Critic]]:
        """The critics with their replicas."""
        size = len(self.seeds) // len(self._critics)
        return [(slice(i * size, (i + 1) * size), critic) for i, critic in enumerate(self._critics)]

    def _initial_values(
        self, agents: Policies, visible: VisibleData, rows: Rows
    ) -> list[float | None] | None:
        buffer, dataset = visible.buffer, visible.dataset
        assert buffer is not None
        assert dataset is not None

        def values(places: Tensor) -> Tensor:
            observations = buffer.observations[places.long()]
            actions = agents.policy_actions(observations)
            with torch.no_grad():
                found = [critic(observations[part], actions[part]) for part, critic in self._blocks()]
            return torch.cat(found)

        return mean(agents, lambda place: first_rows(dataset, visible.offset, rows(place)), values)

    def state_of(self, replica: int) -> dict[str, Any]:
        if not self._critics:
            return {}
        for replicas, critic in self._blocks():
            if replicas.start <= replica < replicas.stop:
                return critic.state_of(replica - replicas.start)
        raise IndexError(replica)

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        if not states[0]:  # saved before the first evaluation
            return
        self._saved = states
        if self._critics:
            self._load(states)

    def _load(self, states: Sequence[Mapping[str, Any]]) -> None:
        for replicas, critic in self._blocks():
            critic.load_states(states[replicas])


class Critic:
    """Q networks of some replicas with ReLU between layers, their targets and optimizers (Adam).

    Where actions are discrete, the network has an output for each of them.
    """

    def __init__(
        self,
        config: Config,
        observation_size: int,
        action_size: int,
        discrete: bool,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        self.discrete, self._rate = discrete, config.target_rate
        inputs, outputs = (observation_size, action_size) if discrete else (observation_size + action_size, 1)
        sizes = [inputs, *config.hidden, outputs]
        parts: list[list[np.ndarray]] = [[] for _ in range(2 * (len(sizes) - 1))]
        for seed in seeds:
            rng = stream(seed, "fqe", "weights")
            for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
                bound = 1 / math.sqrt(fan_in)
                parts[2 * layer].append(rng.uniform(-bound, bound, (fan_in, fan_out)))
                parts[2 * layer + 1].append(rng.uniform(-bound, bound, (1, fan_out)))
        dtype = torch.get_default_dtype()
        # Weights (r, in, out) and biases (r, 1, out) in turn.
        self.parameters = [nn.Parameter(torch.from_numpy(np.stack(p)).to(device, dtype)) for p in parts]
        self.targets = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.learning_rate)

    def __call__(self, observations: Tensor, actions: Tensor, targets: bool = False) -> Tensor:
        """(r, B, observation), (r, B, action) or (r, B) -> (r, B)."""
        parameters = self.targets if targets else self.parameters
        # Either is new memory: products may round differently where a replica's part of a tensor starts.
        x = observations.clone() if self.discrete else torch.cat([observations, actions], -1)
        for layer in range(0, len(parameters), 2):
            x = torch.baddbmm(parameters[layer + 1], x, parameters[layer])
            x = x.relu() if layer + 2 < len(parameters) else x
        return (x.gather(-1, actions.unsqueeze(-1)) if self.discrete else x).squeeze(-1)

    def update(
        self,
        observations: Tensor,
        actions: Tensor,
        rewards: Tensor,
        next_observations: Tensor,
        next_actions: Tensor,
        discounts: Tensor,
    ) -> None:
        """One update; (r, B, ...) each."""
        with torch.no_grad():
            next_value = self(next_observations, next_actions, targets=True)
            # A terminated transition may have any next observation.
            target = rewards + torch.where(discounts > 0, discounts * next_value, 0.0)
        self.optimizer.zero_grad()
        with torch.enable_grad():
            (self(observations, actions) - target).square().mean(-1).sum().backward()
        self.optimizer.step()
        with torch.no_grad():
            for own, parameter in zip(self.targets, self.parameters, strict=True):
                own.lerp_(parameter, self._rate)

    def state_of(self, replica: int) -> dict[str, Any]:
        """The state of one of the replicas."""
        moments = [self.optimizer.state[p] for p in self.parameters]
        groups = {
            "parameters": [p.detach() for p in self.parameters],
            "targets": self.targets,
            "exp_avg": [m["exp_avg"] for m in moments],
            "exp_avg_sq": [m["exp_avg_sq"] for m in moments],
        }
        chosen = {name: [t[replica].clone() for t in tensors] for name, tensors in groups.items()}
        return {**chosen, "steps": int(moments[0]["step"])}

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Loads the states of all of the replicas."""

        def joined(name: str, number: int) -> Tensor:
            return torch.stack([state[name][number] for state in states]).to(self.parameters[0].device)

        for number, parameter in enumerate(self.parameters):
            parameter.data.copy_(joined("parameters", number))
            self.targets[number].copy_(joined("targets", number))
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(states[0]["steps"])),
                "exp_avg": joined("exp_avg", number),
                "exp_avg_sq": joined("exp_avg_sq", number),
            }


def _next_actions(agents: Policies, buffer: Buffer, places: Tensor) -> Tensor:
    """The policies' actions at the next observations of rows (R, M, B): (R, M, B, action) or (R, M, B)."""
    flat = places.flatten(1)
    parts = []
    for first in range(0, flat.shape[1], ACTIONS):
        # A terminated transition may have a next observation that is not finite.
        observations = buffer.next_observations[flat[:, first : first + ACTIONS]]
        parts.append(agents.policy_actions(observations))
    return torch.cat(parts, 1).unflatten(1, places.shape[1:])


def _behaviour_returns(agents: Policies, visible: VisibleData, rows: Rows) -> list[float | None]:
    """The mean discounted return of the visible complete episodes; None where there is none."""
    dataset, offset = visible.dataset, visible.offset
    assert dataset is not None
    found: list[float | None] = []
    for replica in range(len(agents.seeds)):
        complete = complete_episodes(dataset, offset, rows(replica))
        chosen = np.flatnonzero(complete[dataset.episode])
        episode = dataset.episode[chosen]
        step = chosen - np.searchsorted(dataset.episode, episode)
        discounted = agents.discounts[replica] ** step * dataset.rewards[chosen]
        found.append(float(discounted.sum() / complete.sum()) if complete.any() else None)
    return found
