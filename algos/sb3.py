"""The off-policy algorithms of Stable-Baselines3 (Raffin et al., JMLR 22(268), 2021) and, where it is
installed, of its contrib package: a family, `sb3:SAC` and so on.

SAC (Haarnoja et al., arXiv 1801.01290 and 1812.05905), TD3 (Fujimoto et al., arXiv 1802.09477), DDPG
(Lillicrap et al., arXiv 1509.02971) and DQN (Mnih et al., Nature 518, 2015); contrib's TQC (Kuznetsov et al.,
arXiv 2005.04269), CrossQ (Bhatt et al., ICLR 2024) and QR-DQN (Dabney et al., arXiv 1710.10044). Networks,
losses and optimisers are SB3's own, and so are the defaults; the minibatches are this suite's. An update is
`train` for one gradient step, and then what SB3 does at each environment step: the target network and the
exploration rate of DQN and QR-DQN. Both go by updates here: `target_update_interval` counts updates, of which
SB3 makes one in four environment steps, and the exploration rate falls over a share of all updates of a run,
those made offline included.

The protocol decides what SB3's `learning_starts`, `train_freq` and `gradient_steps` would, and it scales
observations and rewards instead of `VecNormalize`; there are no n-step returns, no gSDE and no action noise
but this: TD3 and DDPG explore with normal noise of std `exploration_noise`, 0.1 as in TD3's paper, where SB3
has none unless it is given some. `target_update_interval` of SAC and TQC, which counts within a call of
`train`, would do nothing and is not there.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass
from functools import cache, reduce
from math import inf
from operator import or_
from types import NoneType
from typing import Any, ClassVar, NamedTuple, get_args

import gymnasium
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor
from torch.distributions import Distribution

from seqeval import algorithm
from seqeval.algorithm import Batch, SingleAlgorithm, Spec, UserError, Vector

IN_CONTRIB = ("TQC", "CrossQ", "QRDQN")  # to be told of where the package is missing


class Setting(NamedTuple):
    """A parameter of SB3's constructors that means something where minibatches are fed."""

    comment: str
    limits: tuple[float, float] | None = None  # None where it need not be a number


OF_ALL = {
    "learning_rate": Setting("of all networks", (0, inf)),
    "tau": Setting("share of the way that targets move when they do", (0, 1)),
    "gamma": Setting("discount", (0, 1)),
}


class _Member(SingleAlgorithm):
    """A model of SB3 that is fed minibatches; subclasses differ in how they explore."""

    made_of: ClassVar[type[OffPolicyAlgorithm]]
    settings: ClassVar[Mapping[str, Setting]]

    def __init__(self, spec: Spec, config: Any, seed: int, total_updates: int, device: torch.device) -> None:
        super().__init__(spec, config, seed, total_updates, device)
        net_arch: Any = list(config.net_arch)
        if hasattr(config, "critic_net_arch"):
            net_arch = {"pi": net_arch, "qf": list(config.critic_net_arch)}
        given = {name: getattr(config, name) for name in self.settings if hasattr(config, name)}
        policy = {"net_arch": net_arch}
        self.model = _build(
            self.made_of, spec, device, policy_kwargs=policy, batch_size=config.batch_size, **given
        )
        self.model.replay_buffer = self._feed = _Feed()
        self.model.policy.set_training_mode(False)  # as CrossQ's normalisation must be whenever it acts

    def update(self, batch: Batch) -> dict[str, float | Tensor]:
        self.updates += 1
        self._feed.samples = ReplayBufferSamples(
            observations=batch.observations,
            actions=batch.actions.unsqueeze(-1) if self.spec.discrete else batch.actions,
            next_observations=batch.next_observations,
            dones=batch.terminated.unsqueeze(-1),
            rewards=batch.rewards.unsqueeze(-1),
        )
        self.model._update_current_progress_remaining(self.updates, self.total_updates)
        with _unvalidated():
            self.model.train(gradient_steps=1, batch_size=len(batch.rewards))
        self.model.policy.set_training_mode(False)
        self.model._on_step()
        recorded = {
            name.removeprefix("train/"): float(value)
            for name, value in self.model.logger.name_to_value.items()
            if name.startswith("train/") and name not in ("train/n_updates", "train/learning_rate")
        }
        self.model.logger.dump()  # nowhere: it forgets them
        return recorded

    def act(self, observations: Tensor) -> Tensor:
        return self._policy(observations, deterministic=True)

    def _policy(self, observations: Tensor, deterministic: bool) -> Tensor:
        with _unvalidated():
            return self.model.policy._predict(observations, deterministic)

    def state_dict(self) -> dict[str, Any]:
        _, variables = self.model._get_torch_save_params()  # the entropy's weight
        return {
            "updates": self.updates,
            "parameters": self.model.get_parameters(),
            "variables": {name: getattr(self.model, name).detach() for name in variables},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        # SB3's counters follow: a call of `train` and of `_on_step` to each update.
        self.updates = self.model._n_updates = self.model._n_calls = state["updates"]
        self.model._update_current_progress_remaining(self.updates, self.total_updates)
        self.model.set_parameters(state["parameters"])
        with torch.no_grad():
            for name, value in state["variables"].items():
                getattr(self.model, name).copy_(value)


@dataclass(frozen=True)
class _SamplingConfig(algorithm.Config):
    def __post_init__(self) -> None:
        super().__post_init__()
        if not _is_weight(self.ent_coef):
            raise UserError(
                f"ent_coef must be auto, auto_0.1 or the like, or a number, not {self.ent_coef!r}"
            )
        if isinstance(self.target_entropy, str) and self.target_entropy != "auto":
            raise UserError(f"target_entropy must be auto or a number, not {self.target_entropy!r}")


def _is_weight(value: str | float) -> bool:
    """Whether SB3 takes it for the weight of the entropy, whose logarithm it learns where it is a word."""
    if not isinstance(value, str):
        return value >= 0
    word = re.fullmatch(r"auto(?:_(\d*\.?\d+(?:e-?\d+)?))?", value)
    return word is not None and float(word[1] or 1) > 0


class _Sampling(_Member):
    """Explores by drawing from its policy."""

    Config = _SamplingConfig
    settings = OF_ALL | {
        "ent_coef": Setting("weight of the entropy; auto learns it, auto_0.1 begins with 0.1"),
        "target_entropy": Setting("that auto aims at; auto: less the size of an action"),
        "policy_delay": Setting("critic updates to one of the actor", (1, inf)),
        "top_quantiles_to_drop_per_net": Setting(
            "the highest of each critic's 25, left out of targets", (0, 24)
        ),
    }

    def explore(self, observations: Tensor) -> Tensor:
        return self._policy(observations, deterministic=False)


@dataclass(frozen=True)
class _NoisyConfig(algorithm.Config):
    limits = {"exploration_noise": (0, inf)}

    exploration_noise: float = 0.1  # std of the noise on actions online


class _Noisy(_Member):
    """Explores with noise on its actions."""

    Config = _NoisyConfig
    settings = OF_ALL | {
        "policy_delay": Setting("critic updates to one of actor and targets", (1, inf)),
        "target_policy_noise": Setting("std of the noise on the target action", (0, inf)),
        "target_noise_clip": Setting("bound of that noise", (0, inf)),
    }

    def explore(self, observations: Tensor) -> Tensor:
        actions = self.act(observations)
        return (actions + self.config.exploration_noise * torch.randn_like(actions)).clamp(-1, 1)


class _Greedy(_Member):
    """Explores by random actions now and then, ever more rarely."""

    action_spaces = ("discrete",)
    settings = OF_ALL | {
        "target_update_interval": Setting("updates from one move of the target to the next", (1, inf)),
        "exploration_fraction": Setting("share of all updates in which exploration falls", (1e-9, 1)),
        "exploration_initial_eps": Setting("share of random actions online, at first", (0, 1)),
        "exploration_final_eps": Setting("share of random actions online, in the end", (0, 1)),
        "max_grad_norm": Setting("bound of the gradient's norm", (0, inf)),
    }

    def explore(self, observations: Tensor) -> Tensor:
        # As SB3's own `exploration_rate`, which is not there before the first update.
        rate = self.model.exploration_schedule(self.model._current_progress_remaining)
        greedy = self.act(observations)
        at_random = torch.rand(greedy.shape, device=self.device) < rate
        return torch.where(at_random, torch.randint_like(greedy, self.spec.action_size), greedy)


def names() -> list[str]:
    return [name for name, found in _installed().items() if issubclass(found, OffPolicyAlgorithm)]


@cache
def find(name: str) -> type[SingleAlgorithm] | None:
    """A member of the family; None where SB3 has no algorithm of that name.

    Raises UserError for one that learns from its own episodes alone, and for one that is not installed.
    """
    made_of = _installed().get(name)
    if made_of is None:
        if name in IN_CONTRIB:
            raise UserError(f"sb3:{name} is in sb3-contrib; pip install 'seqeval-rl[contrib]' installs it")
        return None
    if not issubclass(made_of, OffPolicyAlgorithm):
        raise UserError(
            f"sb3:{name} cannot learn from logged data: it is on-policy, and learns from its own policy's "
            f"episodes alone; there are {', '.join(f'sb3:{other}' for other in names())}"
        )
    parameters = inspect.signature(made_of).parameters
    kind: type[_Member] = _Noisy
    if "exploration_final_eps" in parameters:
        kind = _Greedy
    elif "ent_coef" in parameters:
        kind = _Sampling
    # Its own text, before it tells of parameters.
    about = inspect.cleandoc(made_of.__doc__ or name).partition("\n:param")[0].strip()
    parts = {
        "__module__": __name__,
        "__doc__": f"{about}\n\n{__doc__}",
        "Config": _config(made_of, kind),
        "made_of": made_of,
    }
    return type(name, (kind,), parts)


@cache
def _installed() -> dict[str, type[BaseAlgorithm]]:
    """SB3's algorithms by name."""
    packages = [stable_baselines3]
    if importlib.util.find_spec("sb3_contrib"):
        packages.append(importlib.import_module("sb3_contrib"))
    return {
        name: value
        for package in packages
        for name, value in vars(package).items()
        if isinstance(value, type) and issubclass(value, BaseAlgorithm)
    }


def _config(made_of: type[OffPolicyAlgorithm], kind: type[_Member]) -> type[algorithm.Config]:
    """A config of what SB3's constructor takes, with its defaults."""
    parameters = inspect.signature(made_of).parameters
    made: list[tuple[str, Any, Any]] = [("batch_size", int, parameters["batch_size"].default)]
    limits = {}
    for name, setting in kind.settings.items():
        if name not in parameters:
            continue
        plain, default = _plain(parameters[name].annotation), parameters[name].default
        default = float(default) if plain is float else default
        made.append((name, plain, field(default=default, metadata={"comment": setting.comment})))
        if setting.limits and default is not None:
            limits[name] = setting.limits
    for name, (widths, comment) in _widths(made_of, kind).items():
        made.append((name, tuple[int, ...], field(default=widths, metadata={"comment": comment})))
        limits[name] = (1, inf)
    parts = {"__module__": __name__, "limits": limits}
    return make_dataclass("Config", made, bases=(kind.Config,), frozen=True, namespace=parts)


def _plain(hint: Any) -> Any:
    """A parameter's type without the functions of progress that SB3 takes too."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind in (int, float, str, NoneType)]
    return reduce(or_, kinds)


def _widths(made_of: type[OffPolicyAlgorithm], kind: type[_Member]) -> dict[str, tuple[tuple[int, ...], str]]:
    """SB3's own widths of hidden layers, told by a model that has them; each with a comment."""
    with torch.random.fork_rng([]):
        spec = Spec(Vector(1), 1, discrete="discrete" in kind.action_spaces)
        net_arch = _build(made_of, spec, torch.device("cpu")).policy.net_arch
    if not isinstance(net_arch, dict):
        return {"net_arch": (tuple(net_arch), "widths of the hidden layers")}
    return {
        "net_arch": (tuple(net_arch["pi"]), "widths of the actor's hidden layers"),
        "critic_net_arch": (tuple(net_arch["qf"]), "widths of the critics' hidden layers"),
    }


def _build(made_of: type[OffPolicyAlgorithm], spec: Spec, device: torch.device, **given: Any) -> Any:
    """A model of SB3. Without SB3's `seed`, which would seed the whole process: torch's random state is our
    own."""
    model = made_of("MlpPolicy", _StandIn(spec), buffer_size=1, device=device, **given)
    model.set_logger(Logger(None, []))
    return model


class _StandIn(gymnasium.Env):
    """What SB3 takes for an environment: the spaces alone."""

    def __init__(self, spec: Spec) -> None:
        self.observation_space = Box(-inf, inf, (spec.observation_size,))
        self.action_space = Discrete(spec.action_size) if spec.discrete else Box(-1, 1, (spec.action_size,))


class _Feed:
    """What SB3 takes for a replay buffer: whatever it is asked for, it gives the minibatch at hand."""

    samples: ReplayBufferSamples

    def sample(self, batch_size: int, env: None = None) -> ReplayBufferSamples:
        return self.samples


@contextmanager
def _unvalidated() -> Iterator[None]:
    """torch's distributions take NaN: it fails its own seed and does not stop the others."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
