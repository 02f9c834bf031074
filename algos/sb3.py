"""The off-policy algorithms of Stable-Baselines3 (Raffin et al., JMLR 22(268), 2021) and, if installed, of
sb3-contrib: `sb3:SAC`, `sb3:TD3` and so on.

SAC (Haarnoja et al., arXiv 1801.01290 and 1812.05905), TD3 (Fujimoto et al., arXiv 1802.09477), DDPG
(Lillicrap et al., arXiv 1509.02971) and DQN (Mnih et al., Nature 518, 2015); contrib's TQC (Kuznetsov et al.,
arXiv 2005.04269), CrossQ (Bhatt et al., ICLR 2024) and QR-DQN (Dabney et al., arXiv 1710.10044). Networks,
losses, optimizers and defaults are those of SB3; the minibatches come from seqeval. An update calls SB3's
`train` for one gradient step, and then does what SB3 does at each environment step: update the target network
and the exploration rate of DQN and QR-DQN. Both count updates here: `target_update_interval` is a number of
updates, of which SB3 makes one per four environment steps, and the exploration rate falls over a share of all
updates of a run, offline updates included.

The protocol replaces SB3's `learning_starts`, `train_freq` and `gradient_steps`, and normalizes observations
and rewards instead of `VecNormalize`. There are no n-step returns and no gSDE. TD3 and DDPG explore with
normal noise of std `exploration_noise`, 0.1 as in TD3's paper; SB3 has none by default. SAC and TQC have no
`target_update_interval` here: it counts within a call of `train`, so it would have no effect. There is no
`td_error`: SB3 computes targets inside `train` only.

Images go through SB3's NatureCNN, or below 36 pixels through the network of MinAtar's authors (Young and
Tian, arXiv 1903.03176); `net_arch` are the layers behind it.
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
import numpy as np
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn
from torch.distributions import Distribution

from seqeval import algorithm
from seqeval.algorithm import Batch, Image, SingleAlgorithm, Spec, UserError, Vector

CONTRIB = ("TQC", "CrossQ", "QRDQN")  # for the message that sb3-contrib is not installed


class Setting(NamedTuple):
    """A parameter of SB3's constructors that still applies when minibatches come from seqeval."""

    comment: str
    limits: tuple[float, float] | None = None  # None: not checked


ACTING = ("actor", "q_net", "quantile_net")  # parts of SB3's policies that choose actions
CNN_SIZE = 36  # pixels: the smallest images that SB3's convolutional network takes
COMMON = {
    "learning_rate": Setting("of all networks", (0, inf)),
    "tau": Setting("Polyak averaging: weight of the new parameters", (0, 1)),
    "gamma": Setting("discount", (0, 1)),
}


class _SB3Algorithm(SingleAlgorithm):
    """An SB3 model trained on given minibatches; subclasses explore differently."""

    model_class: ClassVar[type[OffPolicyAlgorithm]]
    settings: ClassVar[Mapping[str, Setting]]

    def __init__(self, spec: Spec, config: Any, seed: int, total_updates: int, device: torch.device) -> None:
        super().__init__(spec, config, seed, total_updates, device)
        net_arch: Any = list(config.net_arch)
        if hasattr(config, "critic_net_arch"):
            net_arch = {"pi": net_arch, "qf": list(config.critic_net_arch)}
        options = {name: getattr(config, name) for name in self.settings if hasattr(config, name)}
        options |= {"policy_kwargs": {"net_arch": net_arch}, "batch_size": config.batch_size}
        self.model = _build(self.model_class, spec, device, **options)
        self.model.replay_buffer = self._buffer = _MinibatchBuffer()
        self.model.policy.set_training_mode(False)  # CrossQ's batch normalization requires it to act

    def update(self, batch: Batch) -> dict[str, float | Tensor]:
        self.updates += 1
        self._buffer.samples = ReplayBufferSamples(
            observations=batch.observations,
            actions=batch.actions.unsqueeze(-1) if self.spec.discrete else batch.actions,
            next_observations=batch.next_observations,
            dones=batch.terminated.unsqueeze(-1),
            rewards=batch.rewards.unsqueeze(-1),
        )
        self.model._update_current_progress_remaining(self.updates, self.total_updates)
        with _without_validation():
            self.model.train(gradient_steps=1, batch_size=len(batch.rewards))
        del self._buffer.samples
        self.model.policy.set_training_mode(False)
        self.model._on_step()
        recorded = {
            name.removeprefix("train/"): float(value)
            for name, value in self.model.logger.name_to_value.items()
            if name.startswith("train/") and name not in ("train/n_updates", "train/learning_rate")
        }
        self.model.logger.dump()  # clears the values
        return recorded

    def act(self, observations: Tensor) -> Tensor:
        return self._policy(observations, deterministic=True)

    @property
    def discount(self) -> float:
        return self.config.gamma

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        q = self.model.critic(observations, actions)
        if isinstance(q, Tensor):  # TQC: (B, critics, quantiles)
            return q.mean(-1).amin(-1)
        return torch.cat(q, -1).amin(-1)

    def _policy(self, observations: Tensor, deterministic: bool) -> Tensor:
        with _without_validation():
            return self.model.policy._predict(observations, deterministic)

    def state_dict(self) -> dict[str, Any]:
        _, variables = self.model._get_torch_save_params()  # the entropy coefficient
        return {
            "updates": self.updates,
            "parameters": self.model.get_parameters(),
            "variables": {name: getattr(self.model, name).detach() for name in variables},
        }

    def policy_dict(self) -> dict[str, Any]:
        networks = self.model.policy.state_dict()
        acting = {name: value for name, value in networks.items() if name.partition(".")[0] in ACTING}
        return {"updates": self.updates, "parameters": {"policy": acting}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        # SB3's counters: each update calls `train` and `_on_step` once.
        self.updates = self.model._n_updates = self.model._n_calls = state["updates"]
        self.model._update_current_progress_remaining(self.updates, self.total_updates)
        self.model.set_parameters(state["parameters"])
        with torch.no_grad():
            for name, value in state["variables"].items():
                getattr(self.model, name).copy_(value)


@dataclass(frozen=True)
class _StochasticConfig(algorithm.Config):
    def __post_init__(self) -> None:
        super().__post_init__()
        if not _is_entropy_coefficient(self.ent_coef):
            raise UserError(
                f"ent_coef must be auto, auto_0.1 or the like, or a number, not {self.ent_coef!r}"
            )
        if isinstance(self.target_entropy, str) and self.target_entropy != "auto":
            raise UserError(f"target_entropy must be auto or a number, not {self.target_entropy!r}")


def _is_entropy_coefficient(value: str | float) -> bool:
    """Whether SB3 accepts it: a number, or `auto` to learn its logarithm, or `auto_` and an initial value."""
    if not isinstance(value, str):
        return value >= 0
    match = re.fullmatch(r"auto(?:_(\d*\.?\d+(?:e-?\d+)?))?", value)
    return match is not None and float(match[1] or 1) > 0


class _Stochastic(_SB3Algorithm):
    """Explores by sampling from its policy."""

    Config = _StochasticConfig
    settings = COMMON | {
        "ent_coef": Setting("entropy coefficient; auto learns it, auto_0.1 starts at 0.1"),
        "target_entropy": Setting("target of auto; auto is minus the action size"),
        "policy_delay": Setting("critic updates per update of the actor", (1, inf)),
        "top_quantiles_to_drop_per_net": Setting(
            "highest of each critic's 25 quantiles, left out of the target", (0, 24)
        ),
    }

    def explore(self, observations: Tensor) -> Tensor:
        return self._policy(observations, deterministic=False)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        actor = self.model.policy.actor
        with _without_validation():
            mean, log_std, _ = actor.get_action_dist_params(observations)
            return actor.action_dist.proba_distribution(mean, log_std).log_prob(actions)


@dataclass(frozen=True)
class _NoisyConfig(algorithm.Config):
    limits = {"exploration_noise": (0, inf)}

    exploration_noise: float = 0.1  # std of the noise on actions online


class _Noisy(_SB3Algorithm):
    """Explores by adding noise to its actions."""

    Config = _NoisyConfig
    settings = COMMON | {
        "policy_delay": Setting("critic updates per update of actor and targets", (1, inf)),
        "target_policy_noise": Setting("std of the noise on the target action", (0, inf)),
        "target_noise_clip": Setting("bound of that noise", (0, inf)),
    }

    def explore(self, observations: Tensor) -> Tensor:
        actions = self.act(observations)
        return (actions + self.config.exploration_noise * torch.randn_like(actions)).clamp(-1, 1)


class _Greedy(_SB3Algorithm):
    """Explores by random actions, whose probability falls over the updates (ε-greedy)."""

    action_spaces = ("discrete",)
    settings = COMMON | {
        "target_update_interval": Setting("updates between two updates of the target network", (1, inf)),
        "exploration_fraction": Setting("share of all updates over which exploration falls", (1e-9, 1)),
        "exploration_initial_eps": Setting("initial probability of random actions online", (0, 1)),
        "exploration_final_eps": Setting("final probability of random actions online", (0, 1)),
        "max_grad_norm": Setting("upper bound of the gradient's norm", (0, inf)),
    }

    def explore(self, observations: Tensor) -> Tensor:
        # SB3's `exploration_rate`, which is not set before the first update.
        rate = self.model.exploration_schedule(self.model._current_progress_remaining)
        greedy = self.act(observations)
        random = torch.rand(greedy.shape, device=self.device) < rate
        return torch.where(random, torch.randint_like(greedy, self.spec.action_size), greedy)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        policy = self.model.policy
        if hasattr(policy, "quantile_net"):  # QR-DQN: (B, quantiles, actions)
            q = policy.quantile_net(observations).mean(1)
        else:
            q = policy.q_net(observations)
        return q.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def names() -> list[str]:
    return [name for name, model_class in _installed().items() if issubclass(model_class, OffPolicyAlgorithm)]


@cache
def find(name: str) -> type[SingleAlgorithm] | None:
    """The algorithm that trains SB3's of this name; None if SB3 has none.

    Raises UserError if it is on-policy or not installed.
    """
    model_class = _installed().get(name)
    if model_class is None:
        if name in CONTRIB:
            raise UserError(
                f"sb3:{name} is in sb3-contrib, which is not installed; run pip install 'seqeval-rl[contrib]'"
            )
        return None
    if not issubclass(model_class, OffPolicyAlgorithm):
        raise UserError(
            f"sb3:{name} cannot learn from logged data: it is on-policy; use one of "
            f"{', '.join(f'sb3:{other}' for other in names())}"
        )
    parameters = inspect.signature(model_class).parameters
    base: type[_SB3Algorithm] = _Noisy
    if "exploration_final_eps" in parameters:
        base = _Greedy
    elif "ent_coef" in parameters:
        base = _Stochastic
    # SB3's docstring up to its list of parameters.
    summary = inspect.cleandoc(model_class.__doc__ or name).partition("\n:param")[0].strip()
    parts = {
        "__module__": __name__,
        "__doc__": f"{summary}\n\n{__doc__}",
        "Config": _config(model_class, base),
        "model_class": model_class,
        "image_action_spaces": base.action_spaces,
    }
    return type(name, (base,), parts)


@cache
def _installed() -> dict[str, type[BaseAlgorithm]]:
    """The installed algorithms of SB3 and sb3-contrib, by name."""
    packages = [stable_baselines3]
    if importlib.util.find_spec("sb3_contrib"):
        packages.append(importlib.import_module("sb3_contrib"))
    return {
        name: value
        for package in packages
        for name, value in vars(package).items()
        if isinstance(value, type) and issubclass(value, BaseAlgorithm)
    }


def _config(model_class: type[OffPolicyAlgorithm], base: type[_SB3Algorithm]) -> type[algorithm.Config]:
    """A config with the parameters of SB3's constructor and their defaults."""
    parameters = inspect.signature(model_class).parameters
    config_fields: list[tuple[str, Any, Any]] = [("batch_size", int, parameters["batch_size"].default)]
    limits = {}
    for name, setting in base.settings.items():
        if name not in parameters:
            continue
        hint, default = _without_schedules(parameters[name].annotation), parameters[name].default
        default = float(default) if hint is float else default
        config_fields.append((name, hint, field(default=default, metadata={"comment": setting.comment})))
        if setting.limits and default is not None:
            limits[name] = setting.limits
    for name, (widths, comment) in _widths(model_class, base).items():
        config_fields.append((name, tuple[int, ...], field(default=widths, metadata={"comment": comment})))
        limits[name] = (1, inf)
    parts = {"__module__": __name__, "limits": limits}
    return make_dataclass("Config", config_fields, bases=(base.Config,), frozen=True, namespace=parts)


def _without_schedules(hint: Any) -> Any:
    """The type of a parameter without the schedules (functions) that SB3 also accepts."""
    types = [value for value in get_args(hint) or (hint,) if value in (int, float, str, NoneType)]
    return reduce(or_, types)


def _widths(
    model_class: type[OffPolicyAlgorithm], base: type[_SB3Algorithm]
) -> dict[str, tuple[tuple[int, ...], str]]:
    """SB3's default widths of hidden layers, read from a model; each with a comment."""
    with torch.random.fork_rng([]):
        spec = Spec(Vector(1), 1, discrete="discrete" in base.action_spaces)
        net_arch = _build(model_class, spec, torch.device("cpu")).policy.net_arch
    if not isinstance(net_arch, dict):
        return {"net_arch": (tuple(net_arch), "widths of the hidden layers")}
    return {
        "net_arch": (tuple(net_arch["pi"]), "widths of the actor's hidden layers"),
        "critic_net_arch": (tuple(net_arch["qf"]), "widths of the critics' hidden layers"),
    }


def _build(model_class: type[OffPolicyAlgorithm], spec: Spec, device: torch.device, **options: Any) -> Any:
    """An SB3 model. SB3's `seed` is not used, since it would seed the whole process."""
    if isinstance(image := spec.observation, Image):
        options["policy_kwargs"]["features_extractor_class"] = NatureCNN if _is_large(image) else _SmallImages
    model = model_class("MlpPolicy", _Spaces(spec), buffer_size=1, device=device, **options)
    model.set_logger(Logger(None, []))
    return model


class _Spaces(gymnasium.Env):
    """An environment for SB3's constructors, which read its spaces only."""

    def __init__(self, spec: Spec) -> None:
        seen = spec.observation
        # SB3 divides bytes by 255, and takes images that are lower than channels for transposed ones.
        self.observation_space = (
            Box(0, 255, seen.shape, np.uint8) if _is_large(seen) else Box(-inf, inf, seen.shape)
        )
        self.action_space = Discrete(spec.action_size) if spec.discrete else Box(-1, 1, (spec.action_size,))


def _is_large(observation: Image | Vector) -> bool:
    """Whether observations are images of a size that SB3's convolutional network takes."""
    return isinstance(observation, Image) and min(observation.height, observation.width) >= CNN_SIZE


class _SmallImages(BaseFeaturesExtractor):
    """The network of MinAtar's authors: 16 convolutions of 3×3 and a linear layer of 128, both with ReLU."""

    def __init__(self, observation_space: Box) -> None:
        super().__init__(observation_space, features_dim=128)
        channels, height, width = observation_space.shape
        size = 16 * (height - 2) * (width - 2)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(size, 128), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, 128)."""
        return self.layers(images / 255)


class _MinibatchBuffer:
    """A replay buffer for SB3 that returns the minibatch of the current update."""

    samples: ReplayBufferSamples

    def sample(self, batch_size: int, env: None = None) -> ReplayBufferSamples:
        return self.samples


@contextmanager
def _without_validation() -> Iterator[None]:
    """torch's distributions accept NaN, which fails one run and must not stop the others."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
