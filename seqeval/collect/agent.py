"""The agent of Stable-Baselines3: found, built, acting and evaluated."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from seqeval import environments
from seqeval.collect.config import Recipe
from seqeval.collect.progress import Tell
from seqeval.errors import UserError, nearest

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

CONTRIB = ("CrossQ", "QRDQN", "TQC")  # the off-policy algorithms of sb3_contrib
# First seeds of the episodes that are evaluated: no evaluation sees another's initial states.
CHECKPOINT_SEED, BEST_SEED, RANDOM_SEED = 10_000, 20_000, 30_000
DEFAULT_NOISE = 0.1  # of a deterministic policy, as a share of half the action range

Act = Callable[[gymnasium.Env, Any], Any]  # a policy: environment and observation to action


def find_algorithm(name: str) -> type[OffPolicyAlgorithm]:
    """The off-policy class of a name. Raises UserError where there is none, or it has no replay buffer."""
    import stable_baselines3
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    modules = [stable_baselines3]
    with suppress(ImportError):
        modules.append(importlib.import_module("sb3_contrib"))
    everything = {key: value for module in modules for key, value in vars(module).items()}
    known = {k: v for k, v in everything.items() if inspect.isclass(v) and issubclass(v, BaseAlgorithm)}
    usable = {k: v for k, v in known.items() if issubclass(v, OffPolicyAlgorithm)}
    if name in usable:
        return usable[name]
    hint = f"off-policy are {', '.join(sorted(usable))}"
    if name in known:
        raise UserError(f"algorithm {name!r} is on-policy and has no replay buffer to make a log of; {hint}")
    if name in CONTRIB:
        raise UserError(
            f"algorithm {name!r} is in sb3_contrib, which is not installed: pip install sb3-contrib"
        )
    raise UserError(f"algorithm {name!r} is not known{nearest(name.upper(), usable)}; {hint}")


def package(recipe: Recipe) -> str:
    """The name of the package that its algorithm is of."""
    contrib = find_algorithm(recipe.algorithm).__module__.startswith("sb3_contrib")
    return "sb3-contrib" if contrib else "Stable-Baselines3"


def is_discrete(cls: type) -> bool:
    """Whether an algorithm is for discrete actions: it then explores ε-greedily."""
    return "exploration_final_eps" in inspect.signature(cls).parameters


def build(recipe: Recipe, env: gymnasium.Env, **changes: Any) -> OffPolicyAlgorithm:
    """The agent of a recipe before training, on an environment; with `changes` to its settings."""
    cls = find_algorithm(recipe.algorithm)
    settings = {"device": "cpu"} | recipe.settings | changes
    if "net_arch" in settings:
        widths = settings.pop("net_arch")
        widths = list(widths) if isinstance(widths, tuple) else widths
        settings["policy_kwargs"] = {**(settings.get("policy_kwargs") or {}), "net_arch": widths}
    if "buffer_size" not in settings:
        default = inspect.signature(cls).parameters["buffer_size"].default
        settings["buffer_size"] = min(default, recipe.steps)
    if "action_noise" in settings or noise_of(recipe):
        settings["action_noise"] = _gaussian(noise_of(recipe), env.action_space)
    return cls("MlpPolicy", env, seed=recipe.seed, **settings)


@contextmanager
def player(recipe: Recipe, weights: Path) -> Iterator[OffPolicyAlgorithm]:
    """The agent at some weights, only to act."""
    import torch

    with closing(environments.make(recipe.env_id)) as env:
        agent = build(recipe, env, buffer_size=1)
        state = torch.load(weights, map_location=agent.device, weights_only=True)
        agent.policy.load_state_dict(state)
        yield agent


def noise_of(recipe: Recipe) -> float:
    """The standard deviation of its Gaussian action noise, as a share of half the action range."""
    from stable_baselines3 import TD3

    default = DEFAULT_NOISE if issubclass(find_algorithm(recipe.algorithm), TD3) else 0.0  # DDPG is a TD3
    return recipe.settings.get("action_noise", default)


def _gaussian(deviation: float, space: gymnasium.Space) -> Any:
    """Noise for actions that are scaled to [-1, 1], as Stable-Baselines3 adds it; None for none."""
    from stable_baselines3.common.noise import NormalActionNoise

    assert space.shape is not None
    return NormalActionNoise(np.zeros(space.shape), np.full(space.shape, deviation)) if deviation else None


def exploration(recipe: Recipe) -> str:
    """How its rollouts explore, in words."""
    cls = find_algorithm(recipe.algorithm)
    if is_discrete(cls):
        default = inspect.signature(cls).parameters["exploration_final_eps"].default
        return f"ε-greedy with ε = {recipe.settings.get('exploration_final_eps', default)}"
    noise = noise_of(recipe)
    return f"with action noise of {noise} of half the action range" if noise else "stochastic"


def greedy(agent: OffPolicyAlgorithm) -> Act:
    """Its deterministic policy."""
    return lambda env, observation: agent.predict(observation, deterministic=True)[0]


def uniform(env: gymnasium.Env, _: Any) -> Any:
    """The policy of random actions."""
    return env.action_space.sample()


def exploring(agent: OffPolicyAlgorithm) -> Act:
    """Its policy as it explores at the end of training (see the package's docstring)."""
    if is_discrete(type(agent)):
        agent.exploration_rate = agent.exploration_final_eps  # type: ignore[attr-defined]

    def act(env: gymnasium.Env, observation: Any) -> Any:
        action, _ = agent.predict(observation, deterministic=False)
        if agent.action_noise is None:
            return action
        scaled = agent.policy.scale_action(action) + agent.action_noise()
        return agent.policy.unscale_action(np.clip(scaled, -1, 1))

    return act


def episode_returns(env_id: str, act: Act, seed: int, episodes: int, tell: Tell | None = None) -> np.ndarray:
    """Undiscounted returns of a policy in an environment of its own: (episodes,) float64."""
    returns = []
    with closing(environments.make(env_id)) as env:
        env.action_space.seed(seed)
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed + episode)
            total, over = 0.0, False
            while not over:
                observation, reward, terminated, truncated, _ = env.step(act(env, observation))
                total += float(reward)
                over = terminated or truncated
            returns.append(total)
            if tell is not None:
                tell(episode + 1, f"mean {np.mean(returns):.1f}")
    return np.array(returns)
