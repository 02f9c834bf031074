"""The contract between the suite and an algorithm.

An algorithm file holds a frozen `Config` and one final subclass of `Algorithm`; `algos/td3_bc.py` is a good
one to read first. `SingleAlgorithm` is the same contract for one agent, without what follows. Every tensor of
an `Algorithm` starts with the replica axis R: R agents that differ in their seed alone
learn in lock-step, and each must end as it would have ended alone. Four rules make that true:

1. A loss is reduced within a replica, to (R,), and then summed over R.
2. Batch statistics stay within a replica: never a bare `.mean()`.
3. Gradients are clipped within a replica.
4. All randomness of an update comes in with the batch, from streams of each replica's own seed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from seqeval.errors import UserError
from seqeval.seeding import stream
from seqeval.types import Batch, Spec

__all__ = [
    "ActionSpace",
    "Algorithm",
    "Batch",
    "Config",
    "Noise",
    "SingleAlgorithm",
    "Spec",
    "UserError",
    "stream",
]


@dataclass(frozen=True)
class Config:
    """What the suite itself must know of an algorithm; every algorithm's own `Config` extends it.

    `limits` are the lowest and the highest that a number, or each number of a tuple, may be: what lies
    beyond raises UserError.
    """

    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"batch_size": (1, inf)}

    batch_size: int = 256  # transitions in a minibatch
    normalize_observations: bool = False  # by mean and std of the visible data
    scale_rewards: bool = False  # as in the IQL paper: locomotion to returns of about 1000, AntMaze r - 1

    def __post_init__(self) -> None:
        limits = {
            name: span for cls in type(self).__mro__ for name, span in getattr(cls, "limits", {}).items()
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not all(low <= number <= high for number in (value if isinstance(value, tuple) else (value,))):
                span = f"at least {low:g}" if high == inf else f"between {low:g} and {high:g}"
                raise UserError(f"{name} must be {span}, not {value}")


@dataclass(frozen=True)
class Noise:
    """Random numbers that one update needs, for one replica: `batch.noise[name]` is then (R, *shape).

    `normal` is N(0, 1), `uniform` U[0, 1), `bernoulli` 1 with `probability` (to 16 bits) and else 0.
    """

    kind: Literal["normal", "uniform", "bernoulli"]
    shape: tuple[int, ...]
    probability: float = 0.5


ActionSpace = Literal["continuous", "discrete"]


class _Learner:
    """What one agent and R of them have in common."""

    Config: ClassVar[type[Config]] = Config
    action_spaces: ClassVar[tuple[ActionSpace, ...]] = ("continuous",)  # that it can be used with
    learns_online: ClassVar[bool] = True  # False: once the data is used up its policy stays as it is
    updates: int = 0  # made so far; `update` counts them

    @property
    def noise(self) -> Mapping[str, Noise]:
        """The random numbers an update needs, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that learning has changed: by default the number of updates and each attribute that
        has a `state_dict` of its own. Of an `Algorithm`, tensors with an axis start with R, those without
        are shared."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {"updates": self.updates, **parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if hasattr(value, "state_dict")}


class Algorithm(_Learner, ABC):
    """R agents of one algorithm, one for each seed.

    Subclasses build their networks in `__init__` in torch's default dtype, and take initial weights from
    `stream(seed, ...)` of each replica's seed.
    """

    def __init__(
        self, spec: Spec, config: Any, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        self.spec, self.config, self.seeds = spec, config, tuple(seeds)
        self.total_updates, self.device = total_updates, device

    @property
    def period(self) -> int | None:
        """Updates after which the host does the same again; None if that cannot be said.

        With a period, updates on a GPU are captured as CUDA graphs, one for each of so many updates, and
        replayed without a line of Python. Update u + period must then call the operators of update u, with
        the same numbers, on the same tensors. So the host reads no value of a tensor; what changes from
        update to update stands in tensors that are changed in place, and `updates` is the only number on
        the host to change. Metrics have the same names. `seqeval check` says whether all that is so.
        """
        return None

    @classmethod
    def counts_down(cls, config: Any) -> bool:
        """Whether `total_updates` changes what an update does, as where a learning rate falls until the last.

        Where it does, agents on datasets that differ in their number of updates do not learn together.
        """
        return True

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient update of every replica. Returns metrics, each (R,), detached, left on the device."""

    @abstractmethod
    def act(self, observations: Tensor) -> Tensor:
        """The deterministic policy: (R, E, observation) -> (R, E, action), actions within [-1, 1].

        Discrete actions are (R, E) int64, numbered from 0. Called without gradients; changes nothing.
        """

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        """As `act`, but as the agent acts where it learns online: the same as `act`, unless it is overridden.

        `noise` (R, E, action) is N(0, 1), from streams of each replica's own seed.
        """
        return self.act(observations)

    def state_of(self, replica: int) -> dict[str, Any]:
        """What one replica has learnt, copied: `load_state_dict` takes it into an algorithm with R = 1."""
        return select_replica(self.state_dict(), replica)

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes R states that `state_of` gave, after equally many updates, in the order of the replicas."""
        self.load_state_dict(join_replicas(states))


class SingleAlgorithm(_Learner, ABC):
    """One agent: the contract of `Algorithm` without the replica axis.

    A study builds one for each seed. torch's global random state is the agent's own while it is built, while
    it updates and while it explores, seeded by its seed: `torch.randn` and the like may be used as they are.
    """

    def __init__(self, spec: Spec, config: Any, seed: int, total_updates: int, device: torch.device) -> None:
        self.spec, self.config, self.seed = spec, config, seed
        self.total_updates, self.device = total_updates, device

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, float | Tensor]:
        """One gradient update. The batch's tensors are (B, ...); metrics are numbers or tensors ()."""

    @abstractmethod
    def act(self, observations: Tensor) -> Tensor:
        """The deterministic policy: (E, observation) -> (E, action), actions within [-1, 1].

        Discrete actions are (E,) int64, numbered from 0. Called without gradients; changes nothing.
        """

    def explore(self, observations: Tensor) -> Tensor:
        """As `act`, but as the agent acts where it learns online: the same as `act`, unless it is overridden.

        torch's global random state is the agent's own here too.
        """
        return self.act(observations)


def select_replica(state: Any, index: int) -> Any:
    """The part of a `state_dict` that is one replica's: itself a state of an algorithm with R = 1.

    The tensors are copies, so that saving one does not save its neighbours with it.
    """
    if isinstance(state, Tensor):
        return state[index : index + 1].clone() if state.dim() else state.clone()
    if isinstance(state, Mapping):
        return {key: select_replica(value, index) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(select_replica(value, index) for value in state)
    return state


def join_replicas(states: Sequence[Any]) -> Any:
    """The state of R replicas from those that `select_replica` took from it."""
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(list(states)) if first.dim() else first.clone()
    if isinstance(first, Mapping):
        return {key: join_replicas([state[key] for state in states]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(join_replicas(values) for values in zip(*states, strict=True))
    return first
