"""Agents of Stable-Baselines3: their classes, construction, policies and returns."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from seqeval import environments
from seqeval.collect.config import CollectConfig
from seqeval.collect.progress import Report
from seqeval.errors import UserError, nearest

CONTRIB = ("CrossQ", "QRDQN", "TQC")  # the off-policy algorithms of sb3_contrib
# Seeds of the first evaluation episode, far enough apart that no two evaluations share initial states.
CHECKPOINT_SEED, BEST_SEED, RANDOM_SEED = 10_000, 20_000, 30_000
DEFAULT_NOISE = 0.1  # of TD3 and DDPG, as a fraction of half the action range

Policy = Callable[[gymnasium.Env, Any], Any]  # maps environment and observation to an action


def find_algorithm(name: str) -> type[OffPolicyAlgorithm]:
    """The off-policy class with this name. Raises UserError for an unknown or an on-policy algorithm."""
    members = dict(vars(stable_baselines3))
    with suppress(ImportError):
        members |= vars(importlib.import_module("sb3_contrib"))
    known = {k: v for k, v in members.items() if inspect.isclass(v) and issubclass(v, BaseAlgorithm)}
    off_policy = {k: v for k, v in known.items() if issubclass(v, OffPolicyAlgorithm)}
    if name in off_policy:
        return off_policy[name]
    choices = f"choose one of {', '.join(sorted(off_policy))}"
    if name in known:
        raise UserError(f"algorithm {name!r} is on-policy and has no replay buffer to log; {choices}")
    if name in CONTRIB:
        raise UserError(
            f"algorithm {name!r} is part of sb3_contrib, which is not installed: pip install sb3-contrib"
        )
    raise UserError(f"algorithm {name!r} is not known{nearest(name.upper(), off_policy)}; {choices}")


def package_name(config: CollectConfig) -> str:
    """The package that provides the configured algorithm."""
    contrib = find_algorithm(config.algorithm).__module__.startswith("sb3_contrib")
    return "sb3-contrib" if contrib else "Stable-Baselines3"


def is_discrete(algorithm: type) -> bool:
    """Whether an algorithm is for discrete actions; it then explores ε-greedily."""
    return "exploration_final_eps" in inspect.signature(algorithm).parameters


def build(config: CollectConfig, env: gymnasium.Env, **overrides: Any) -> OffPolicyAlgorithm:
    """The untrained agent of a configuration, with `overrides` of its settings."""
    algorithm = find_algorithm(config.algorithm)
    default_size = inspect.signature(algorithm).parameters["buffer_size"].default
    settings = {"device": "cpu", "buffer_size": min(default_size, config.steps)} | config.settings | overrides
    if "net_arch" in settings:
        widths = settings.pop("net_arch")
        widths = list(widths) if isinstance(widths, tuple) else widths
        settings["policy_kwargs"] = {**(settings.get("policy_kwargs") or {}), "net_arch": widths}
    settings.pop("action_noise", None)
    if noise := action_noise(config):  # for actions scaled to [-1, 1], as Stable-Baselines3 adds it
        size = gymnasium.spaces.flatdim(env.action_space)
        settings["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, noise))
    return algorithm("MlpPolicy", env, seed=config.seed, **settings)


@contextmanager
def load(config: CollectConfig, weights: Path) -> Iterator[OffPolicyAlgorithm]:
    """The agent with stored weights, to act but not to train."""
    with closing(environments.make(config.env_id)) as env:
        agent = build(config, env, buffer_size=1)
        state = torch.load(weights, map_location=agent.device, weights_only=True)
        agent.policy.load_state_dict(state)
        yield agent


def action_noise(config: CollectConfig) -> float:
    """The standard deviation of the Gaussian action noise, as a fraction of half the action range."""
    is_td3 = issubclass(find_algorithm(config.algorithm), stable_baselines3.TD3)  # DDPG is a subclass of TD3
    return config.settings.get("action_noise", DEFAULT_NOISE if is_td3 else 0.0)


def describe_exploration(config: CollectConfig) -> str:
    """How the rollouts of a configuration explore, for the dataset card."""
    algorithm = find_algorithm(config.algorithm)
    if is_discrete(algorithm):
        default = inspect.signature(algorithm).parameters["exploration_final_eps"].default
        return f"ε-greedy with ε = {config.settings.get('exploration_final_eps', default)}"
    noise = action_noise(config)
    return f"with action noise of {noise} of half the action range" if noise else "stochastic"


def deterministic_policy(agent: OffPolicyAlgorithm) -> Policy:
    return lambda env, observation: agent.predict(observation, deterministic=True)[0]


def random_policy(env: gymnasium.Env, _: Any) -> Any:
    """Samples actions uniformly at random."""
    return env.action_space.sample()


def exploring_policy(agent: OffPolicyAlgorithm) -> Policy:
    """The agent's policy with its exploration at the end of training (see the package's docstring)."""
    if is_discrete(type(agent)):
        agent.exploration_rate = agent.exploration_final_eps  # type: ignore[attr-defined]

    def act(env: gymnasium.Env, observation: Any) -> Any:
        action, _ = agent.predict(observation, deterministic=False)
        if agent.action_noise is None:
            return action
        scaled = agent.policy.scale_action(action) + agent.action_noise()
        return agent.policy.unscale_action(np.clip(scaled, -1, 1))

    return act


def episode_returns(
    env_id: str, policy: Policy, seed: int, episodes: int, report: Report | None = None
) -> np.ndarray:
    """Undiscounted returns of a policy in a new environment: (episodes,) float64."""
    returns = []
    with closing(environments.make(env_id)) as env:
        env.action_space.seed(seed)
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed + episode)
            total, finished = 0.0, False
            while not finished:
                observation, reward, terminated, truncated, _ = env.step(policy(env, observation))
                total += float(reward)
                finished = terminated or truncated
            returns.append(total)
            if report is not None:
                report(episode + 1, f"mean {np.mean(returns):.1f}")
    return np.array(returns)
