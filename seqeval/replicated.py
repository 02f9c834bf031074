"""R instances of a `SingleAlgorithm` as one `Algorithm` with a replica axis."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, Noise, Sampling, SingleAlgorithm
from seqeval.seeding import stream
from seqeval.types import Batch, Spec

DECLARATIONS = (  # of a class, which the class of its replicas shares
    *("Config", "action_spaces", "image_action_spaces", "learns_offline", "learns_online", "needs_episodes"),
    *("updates_per_step", "mix", "check_data"),
)


class Replicated(Algorithm):
    """One `SingleAlgorithm` per seed, updated one after the other.

    Each agent has its own copy of torch's global random state, so its numbers do not depend on the other
    replicas. `replicate` makes the subclass for a single algorithm.
    """

    single: ClassVar[type[SingleAlgorithm]]

    def __init__(
        self, spec: Spec, config: Any, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        self._agents: list[SingleAlgorithm] = []
        self._random: list[dict[str, Tensor]] = []
        for seed in self.seeds:
            with _fork(device):
                torch.manual_seed(int(stream(seed, "torch").integers(2**63)))
                self._agents.append(self.single(spec, config, seed, total_updates, device))
                self._random.append(_random_state(device))

    @property
    def noise(self) -> Mapping[str, Noise]:
        return self._agents[0].noise

    @property
    def sampling(self) -> Sampling:
        return self._agents[0].sampling

    def start_online(self) -> None:
        for agent in self._agents:
            agent.start_online()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        metrics = []
        for replica, agent in enumerate(self._agents):
            with self._random_state_of(replica):
                values = agent.update(_select_batch(batch, replica))
            metrics.append({k: torch.as_tensor(v, device=self.device).detach() for k, v in values.items()})
        self.updates = self._agents[0].updates
        return {key: torch.stack([values[key] for values in metrics]) for key in metrics[0]}

    @property
    def discount(self) -> float | Tensor:
        return self._agents[0].discount

    def act(self, observations: Tensor) -> Tensor:
        return torch.stack([agent.act(o) for agent, o in zip(self._agents, observations, strict=True)])

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        return _stack(
            agent.log_prob(*inputs)
            for agent, *inputs in zip(self._agents, observations, actions, strict=True)
        )

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        return _stack(
            agent.q_value(*inputs) for agent, *inputs in zip(self._agents, observations, actions, strict=True)
        )

    def td_error(self, batch: Batch) -> Tensor | None:
        errors = []
        for replica, agent in enumerate(self._agents):
            with _fork(self.device):  # the agent's random state stays as it is
                _set_random_state(self._random[replica], self.device)
                errors.append(agent.td_error(_select_batch(batch, replica)))
        return _stack(errors)

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        actions = []
        for replica, agent in enumerate(self._agents):
            with self._random_state_of(replica):
                actions.append(agent.explore(observations[replica]))
        return torch.stack(actions)

    @contextmanager
    def _random_state_of(self, replica: int) -> Iterator[None]:
        """Use the replica's random state as torch's global one, and keep what it becomes."""
        with _fork(self.device):
            _set_random_state(self._random[replica], self.device)
            yield
            self._random[replica] = _random_state(self.device)

    def state_dict(self) -> dict[str, Any]:
        agents = zip(self._agents, self._random, strict=True)
        return {
            "updates": self.updates,
            "replicas": [{"agent": agent.state_dict(), "random": random} for agent, random in agents],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        for replica, saved in enumerate(state["replicas"]):
            # Copied, because torch's optimizers keep the tensors they load and change them in place.
            self._agents[replica].load_state_dict(copy.deepcopy(saved["agent"]))
            # A state saved on another kind of device lacks this one's random state, which then stays.
            self._random[replica] = self._random[replica] | saved["random"]

    def state_of(self, replica: int) -> dict[str, Any]:
        state = self.state_dict()
        return copy.deepcopy(state | {"replicas": [state["replicas"][replica]]})

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        replicas = [replica for state in states for replica in state["replicas"]]
        self.load_state_dict({"updates": states[0]["updates"], "replicas": replicas})

    def policy_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "replicas": [agent.policy_dict() for agent in self._agents]}

    def policy_of(self, replica: int) -> dict[str, Any]:
        policy = self._agents[replica].policy_dict()
        return copy.deepcopy({"updates": self.updates, "replicas": [policy]})

    def load_policy_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        for agent, policy in zip(self._agents, state["replicas"], strict=True):
            agent.load_policy_dict(copy.deepcopy(policy))


@cache
def replicate(single: type[SingleAlgorithm]) -> type[Algorithm]:
    """The `Algorithm` of R instances of `single`, with its name, module, docstring and config."""
    names = {"__module__": single.__module__, "__doc__": single.__doc__, "__qualname__": single.__qualname__}
    same = {name: getattr(single, name) for name in DECLARATIONS}
    return type(single.__name__, (Replicated,), {**names, **same, "single": single})


def _stack(values: Iterable[Tensor | None]) -> Tensor | None:
    """The values of all agents, or None if the algorithm has none."""
    found = [value for value in values if value is not None]
    return torch.stack(found) if found else None


def _select_batch(batch: Batch, replica: int) -> Batch:
    """One replica's part of a batch, without the replica axis."""
    values = {f.name: getattr(batch, f.name) for f in fields(batch) if f.name != "noise"}
    return Batch(
        **{name: value[replica] for name, value in values.items() if value is not None},
        noise={name: value[replica] for name, value in batch.noise.items()},
    )


@contextmanager
def _fork(device: torch.device) -> Iterator[None]:
    """Restore torch's global random state at the end."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
