"""The contract between the suite and an algorithm.

An algorithm file holds a frozen `Config` and one final subclass of `Algorithm`; read `algos/td3_bc.py` first.
`SingleAlgorithm` is the same contract for a single agent. Every tensor of an `Algorithm` starts with the
replica axis R: R agents that are trained together, and each must end exactly as if it were trained solo. Four
rules ensure that:

1. A loss is reduced within a replica, to (R,), and then summed over R.
2. Batch statistics stay within a replica: never a bare `.mean()`.
3. Gradients are clipped within a replica.
4. All random numbers of an update come with the batch, from streams of each replica's own seed.

On the CPU the built-in algorithms keep to this to the last bit. Kernels round a matrix product differently by
the address at which a factor starts, so an algorithm of your own does the same if its products are those of
`seqeval.algos.networks`, or if its sizes are multiples of 16.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from seqeval.errors import UserError
from seqeval.seeding import stream
from seqeval.slicing import Order
from seqeval.types import Batch, Dataset, Image, Spec, Vector
from seqeval.validation import check_fields

__all__ = [
    "ActionSpace",
    "Algorithm",
    "Batch",
    "Config",
    "Dataset",
    "Image",
    "Memory",
    "Noise",
    "Order",
    "Sampling",
    "SingleAlgorithm",
    "Spec",
    "UserError",
    "Vector",
    "per_replica",
    "replica_values",
    "stream",
]


@dataclass(frozen=True)
class Config:
    """The settings that the suite itself reads; every algorithm's own `Config` extends it.

    `limits` gives the lowest and highest value of a number, or of each number of a tuple. Raises UserError
    for a value outside them, and for a value of a wrong type.

    `batchable` names the numbers that may differ between the replicas of a job, so that a sweep over them is
    trained together. Where they do, the config of the algorithm holds a tensor (R,) in place of the number;
    the algorithm uses it through `per_replica`, and a run's numbers must stay those that it has on its own.

    `ranges` gives the settings that a random search draws if it is given none, and from where: "log(0.5,10)",
    "uniform(0.5,0.95)" or "0.1|0.2" (`seqeval.sweeps`).
    """

    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"batch_size": (1, inf)}
    batchable: ClassVar[tuple[str, ...]] = ()
    ranges: ClassVar[Mapping[str, str]] = {}

    batch_size: int = 256  # transitions in a minibatch
    normalize_observations: bool = False  # by mean and std of the visible data
    scale_rewards: bool = False  # as in the IQL paper: locomotion to returns of about 1000, AntMaze r - 1

    def __post_init__(self) -> None:
        check_fields(self)
        limits = {
            name: span
            for cls in reversed(type(self).__mro__)
            for name, span in getattr(cls, "limits", {}).items()
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            numbers = () if value is None else value if isinstance(value, tuple) else (value,)
            if not all(low <= number <= high for number in numbers):
                span = f"at least {low:g}" if high == inf else f"between {low:g} and {high:g}"
                raise UserError(f"{name} must be {span}, not {value}")


def per_replica(setting: float | Tensor, tensor: Tensor) -> float | Tensor:
    """A batchable setting, to be combined with a tensor (R, ...): a number stays as it is; one value for each
    replica (R,) becomes (R, 1, ...), in the tensor's dtype.

    Put a number on the right of a division: torch divides a number by a tensor with other roundings than a
    tensor by a tensor.
    """
    if not isinstance(setting, Tensor):
        return setting
    return setting.to(tensor.dtype).view(-1, *(1 for _ in tensor.shape[1:]))


def replica_values(setting: float | Tensor, replicas: int) -> list[float]:
    """The number that a batchable setting has in each replica, for computations while agents are built."""
    return setting.tolist() if isinstance(setting, Tensor) else [setting] * replicas


def structure(config: Config) -> tuple[tuple[str, Any], ...]:
    """The settings that must be equal for replicas to be trained together. A batchable one that is None, and
    not a number, is among them."""
    values = ((field.name, getattr(config, field.name)) for field in fields(config))
    return tuple((name, value) for name, value in values if value is None or name not in config.batchable)


def merge_configs(configs: Sequence[Config], device: torch.device) -> Config:
    """One config for replicas of equal `structure`: each setting that differs is a float64 tensor (R,)."""
    merged = copy.copy(configs[0])
    for name in merged.batchable:
        values = [getattr(config, name) for config in configs]
        if any(value != values[0] for value in values):
            # Not by `replace`, since the limits were checked for each number.
            object.__setattr__(merged, name, torch.tensor(values, dtype=torch.float64, device=device))
    return merged


@dataclass(frozen=True)
class Noise:
    """Random numbers that one update needs, for one replica: `batch.noise[name]` is then (R, *shape).

    `normal` is N(0, 1), `uniform` is U[0, 1), `bernoulli` is 1 with `probability` (to 16 bits), otherwise 0.
    """

    kind: Literal["normal", "uniform", "bernoulli"]
    shape: tuple[int, ...]
    probability: float = 0.5


@dataclass(frozen=True)
class Sampling:
    """What a minibatch holds. Nothing in it is used before it has arrived.

    `transitions`: B transitions. `n_step`: the discounted reward of up to `length` consecutive visible
    transitions, and the observation after the last of them. `sequences`: up to `length` consecutive visible
    transitions of one episode, padded and masked. See `Batch` for the fields that the other settings fill.

    With `best_episodes` = q the sampled transitions, and the first ones of sequences, are those of the best
    max(1, ⌊q·m⌋) of the m complete episodes that are visible, within the window; with 1 they are those of all
    complete episodes. Offline only, so it needs `learns_online` False and `needs_episodes` "complete".
    """

    kind: Literal["transitions", "n_step", "sequences"] = "transitions"
    length: int = 1  # n, or L
    discount: float | tuple[float, ...] = 1.0  # of n-step rewards and returns to go; or one for each replica
    next_actions: bool = False
    returns_to_go: bool = False
    rows: bool = False
    times: bool = False
    best_episodes: float | None = None  # q, by the undiscounted return; None: any visible transition


Memory = dict[str, Tensor]
ActionSpace = Literal["continuous", "discrete"]
_OPTIMIZERS = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)


class _Contract:
    """What `Algorithm` and `SingleAlgorithm` have in common."""

    Config: ClassVar[type[Config]] = Config
    action_spaces: ClassVar[tuple[ActionSpace, ...]] = ("continuous",)  # supported with vector observations
    image_action_spaces: ClassVar[tuple[ActionSpace, ...]] = ()  # supported with image observations
    learns_online: ClassVar[bool] = True  # False: the policy stays as it is once the data is used up
    # Attributes that `act` reads, such as ("actor",), which `--keep-policies` stores; None: all that have a
    # state, except torch's optimizers.
    policy_parts: ClassVar[tuple[str, ...] | None] = None
    # False: a fresh agent starts with the online phase, in which it also samples the data.
    learns_offline: ClassVar[bool] = True
    # What it learns from: "parts" of episodes, consecutive transitions, or "complete" episodes. Orders in
    # which the transitions of an episode do not arrive one after the other are refused.
    needs_episodes: ClassVar[Literal["parts", "complete"] | None] = None
    # What its authors use online; the settings of a study that have these names take precedence.
    updates_per_step: ClassVar[int] = 1
    mix: ClassVar[Literal["uniform"] | float] = "uniform"
    config: Any
    updates: int = 0  # made up to now; `update` increments it

    @classmethod
    def check_data(cls, config: Any, dataset: Dataset, order: Order) -> list[str]:
        """Notes for the user on learning from a dataset that arrives in an order of `Protocol.order`.

        Raises UserError, before anything is trained, if it cannot learn from it.
        """
        return []

    @property
    def target_returns(self) -> tuple[float, ...]:
        """The returns that the policy is asked for, one evaluation for each; the first gives the score.
        Empty for a policy that is not conditioned on a return."""
        return ()

    def start_online(self) -> None:
        """Called before the first update of the online phase, and again when that phase is resumed."""

    @property
    def noise(self) -> Mapping[str, Noise]:
        """The random numbers that an update needs, by name."""
        return {}

    @property
    def sampling(self) -> Sampling:
        """What a minibatch holds: by default single transitions."""
        return Sampling()

    @property
    def discount(self) -> float | Tensor:
        """Discount of future rewards, (R,) if replicas differ in it: by default the config's `discount`, 0.99
        if it has none."""
        return getattr(self.config, "discount", 0.99)

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes: by default the number of updates and every attribute that has a
        `state_dict`. In an `Algorithm`, tensors with at least one axis start with R; scalars are shared."""
        parts = {name: part.state_dict() for name, part in self._stateful().items()}
        return {"updates": self.updates, **parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])

    def policy_dict(self) -> dict[str, Any]:
        """The part of `state_dict` that `act` depends on."""
        if self.policy_parts is None:
            optimizers = {name for name, value in vars(self).items() if isinstance(value, _OPTIMIZERS)}
            return {name: part for name, part in self.state_dict().items() if name not in optimizers}
        return {
            "updates": self.updates,
            **{name: getattr(self, name).state_dict() for name in self.policy_parts},
        }

    def load_policy_dict(self, state: Mapping[str, Any]) -> None:
        """Loads what `policy_dict` returned; everything else stays as it is."""
        self.load_state_dict(_merged(self.state_dict(), state))

    def _stateful(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if hasattr(value, "state_dict")}


class Algorithm(_Contract, ABC):
    """R agents of one algorithm, one for each seed.

    Subclasses build their networks in `__init__` in torch's default dtype, and draw initial weights from
    `stream(seed, ...)` of each replica's seed.
    """

    def __init__(
        self, spec: Spec, config: Any, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        self.spec, self.config, self.seeds = spec, config, tuple(seeds)
        self.total_updates, self.device = total_updates, device

    @property
    def period(self) -> int | None:
        """Updates after which the same operators repeat, e.g. 2 with a policy delay of 2; None if unknown.

        With a period, updates on a GPU are captured as CUDA graphs, one for each update of the period, and
        replayed without running Python. Update u + period must call the operators of update u with the same
        numbers on the same tensors: the host reads no tensor's value, what changes between updates is kept in
        tensors that are modified in place, `updates` is the only number on the host that changes, and metrics
        have the same names. `seqeval check` tests all of this.
        """
        return None

    @classmethod
    def depends_on_total_updates(cls, config: Any) -> bool:
        """Whether `total_updates` changes an update, as with a learning rate that decays until the last one.

        If it does, replicas with different numbers of updates are not trained together.
        """
        return True

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient update of every replica. Returns metrics, each (R,), detached, left on the device."""

    @abstractmethod
    def act(self, observations: Tensor) -> Tensor:
        """The deterministic policy: (R, E, observation) -> (R, E, action), actions within [-1, 1].

        Discrete actions are (R, E) int64, counted from 0. Called without gradients; changes nothing. A policy
        that remembers (`start_episodes`) acts as at the start of an episode.
        """

    @property
    def exploration_size(self) -> int:
        """How many random numbers `explore` needs for an action."""
        return self.spec.action_size

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        """The actions of the online phase, shaped as in `act`; by default those of `act`.

        `noise` (R, E, exploration_size) is N(0, 1), from streams of each replica's own seed.
        """
        return self.act(observations)

    def start_episodes(self, count: int, target: int = 0) -> Memory:
        """What the policy remembers at the start of `count` episodes of each replica: by name, tensors
        (R, count, ...); by default nothing. `target` is a place in `target_returns`."""
        return {}

    @property
    def remembers(self) -> bool:
        """Whether an action depends on earlier steps of its episode: evaluators then ask for none in a single
        state, except at the start of an episode. By default: whether there is something to remember."""
        return bool(self.start_episodes(1))

    def act_in_episodes(self, observations: Tensor, rewards: Tensor, memory: Memory) -> Tensor:
        """As `act`, for a policy that remembers: writes to the tensors of `memory`.

        `rewards` (R, E) are those of the previous step, in the environment's units, and 0 at the first.
        """
        return self.act(observations)

    def explore_in_episodes(
        self, observations: Tensor, noise: Tensor, rewards: Tensor, memory: Memory
    ) -> Tensor:
        """As `explore`, for a policy that remembers; see `act_in_episodes`."""
        return self.explore(observations, noise)

    # Evaluators call these three, without gradients; they must change nothing. An algorithm that returns None
    # has no such metric.

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """Log-density of actions under the stochastic policy, their log-probability where they are discrete:
        (R, B, observation), (R, B, action) or (R, B) -> (R, B). None if the policy is deterministic."""
        return None

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """Q of the critics, the minimum if there are several: shapes as in `log_prob`. None without a Q."""
        return None

    def td_error(self, batch: Batch) -> Tensor | None:
        """Q minus its target in `update`, of each of C critics: (R, C, B). None without a target.

        The batch is as in `update`, noise included. A sequence that is cut short (`batch.mask`) and therefore
        has no target has NaN for all critics, and is left out of means.
        """
        return None

    def state_of(self, replica: int) -> dict[str, Any]:
        """A copy of one replica's state: `load_state_dict` accepts it in an algorithm with R = 1."""
        return select_replica(self.state_dict(), replica)

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Loads R states from `state_of`, saved after equal numbers of updates, in the order of the
        replicas."""
        self.load_state_dict(join_replicas(states))

    def policy_of(self, replica: int) -> dict[str, Any]:
        """A copy of one replica's policy: `load_policy_dict` accepts it in an algorithm with R = 1."""
        return select_replica(self.policy_dict(), replica)


class SingleAlgorithm(_Contract, ABC):
    """One agent: the contract of `Algorithm` without the replica axis.

    A study builds one for each seed. While it is built, updates and explores, torch's global random state
    belongs to the agent and is seeded by its seed, so `torch.randn` and the like may be used directly.
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

        Discrete actions are (E,) int64, counted from 0. Called without gradients; changes nothing.
        """

    def explore(self, observations: Tensor) -> Tensor:
        """The actions of the online phase, shaped as in `act`; by default those of `act`."""
        return self.act(observations)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """(B, observation), (B, action) or (B,) -> (B,); see `Algorithm.log_prob`."""
        return None

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """(B, observation), (B, action) or (B,) -> (B,); see `Algorithm.q_value`."""
        return None

    def td_error(self, batch: Batch) -> Tensor | None:
        """(C, B); see `Algorithm.td_error`. Torch's global random state may be used, as in `update`."""
        return None


def select_replica(state: Any, index: int) -> Any:
    """One replica's part of a `state_dict`: itself the state of an algorithm with R = 1.

    The tensors are copies: saving a view would save all replicas.
    """
    if isinstance(state, Tensor):
        return state[index : index + 1].clone() if state.dim() else state.clone()
    if isinstance(state, Mapping):
        return {key: select_replica(value, index) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(select_replica(value, index) for value in state)
    return state


def _merged(state: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """A state with the values of `part`, which may lack some of its keys, at any depth."""
    return {
        key: _merged(value, part[key]) if isinstance(value, Mapping) and key in part else part.get(key, value)
        for key, value in state.items()
    }


def join_replicas(states: Sequence[Any]) -> Any:
    """The state of R replicas from the states that `select_replica` returned for each."""
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(list(states)) if first.dim() else first.clone()
    if isinstance(first, Mapping):
        return {key: join_replicas([state[key] for state in states]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(join_replicas(values) for values in zip(*states, strict=True))
    return first
