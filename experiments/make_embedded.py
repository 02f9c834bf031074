"""Make the datasets that ship with the package: the whole life of a SAC agent, in the order it was lived.

    python experiments/make_embedded.py pendulum-replay hopper-replay

Each dataset is an HDF5 file in D4RL's layout and a JSON card beside it. The agent is Stable-Baselines3's
SAC; every environment step it takes while learning is logged, exploration included, so the behaviour
changes along the file from random to good. The reference returns on the card are those of a uniformly
random policy and of the best of the agent's checkpoints, each over 100 fresh episodes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
import warnings
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

OUT = Path(__file__).parents[1] / "seqeval" / "datasets" / "data"
REFERENCE_EPISODES = 100


@dataclass(frozen=True)
class Recipe:
    env_id: str
    steps: int
    checkpoint_every: int
    seed: int = 0
    sac: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "pendulum-replay": Recipe(
        "Pendulum-v1",
        steps=20_000,
        checkpoint_every=2_000,
        sac={"learning_rate": 1e-3, "learning_starts": 1_000},
    ),
    "hopper-replay": Recipe(
        "Hopper-v4",
        steps=60_000,
        checkpoint_every=5_000,
        seed=1,
        sac={"learning_starts": 1_000, "learning_rate": 1e-3, "batch_size": 256},
    ),
}


class Logbook(gym.Wrapper):
    """Writes down every step of an environment: D4RL's fields, actions in the environment's own units."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.fields: dict[str, list] = {
            name: []
            for name in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
        }

    def reset(self, **kwargs):
        self.observation, info = self.env.reset(**kwargs)
        return self.observation, info

    def step(self, action):
        following, reward, terminated, truncated, info = self.env.step(action)
        step = (self.observation, action, reward, following, terminated, truncated and not terminated)
        for values, value in zip(self.fields.values(), step, strict=True):
            values.append(np.copy(value))
        self.observation = following
        return following, reward, terminated, truncated, info

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            name: np.asarray(values, dtype=bool if name in ("terminals", "timeouts") else np.float32)
            for name, values in self.fields.items()
        }


def episode_returns(env_id: str, act, seed: int, episodes: int) -> np.ndarray:
    env = gym.make(env_id)
    env.action_space.seed(seed)
    returns = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(env, observation))
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    env.close()
    return np.array(returns)


class Checkpoints(BaseCallback):
    """Keeps the weights of the best deterministic policy seen, by 10 episodes at each checkpoint."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe, self.best, self.step, self.weights = recipe, -np.inf, 0, None
        self.began = time.monotonic()

    def _on_step(self) -> bool:
        if self.num_timesteps % self.recipe.checkpoint_every == 0:
            score = episode_returns(self.recipe.env_id, policy_of(self.model), 10_000, 10).mean()
            print(
                f"{self.num_timesteps:>7} steps  {time.monotonic() - self.began:6.0f} s  return {score:9.2f}",
                flush=True,
            )
            if score > self.best:
                self.best, self.step = score, self.num_timesteps
                self.weights = {k: v.clone() for k, v in self.model.policy.state_dict().items()}
        return True


def policy_of(model):
    return lambda env, observation: model.predict(observation, deterministic=True)[0]


def make(name: str, recipe: Recipe, out: Path) -> None:
    logbook = Logbook(gym.make(recipe.env_id))
    model = SAC("MlpPolicy", logbook, seed=recipe.seed, device="cpu", **recipe.sac)
    checkpoints = Checkpoints(recipe)
    model.learn(recipe.steps, callback=checkpoints)
    model.policy.load_state_dict(checkpoints.weights)
    best = episode_returns(recipe.env_id, policy_of(model), 20_000, REFERENCE_EPISODES)
    random = episode_returns(
        recipe.env_id, lambda env, _: env.action_space.sample(), 30_000, REFERENCE_EPISODES
    )

    arrays = logbook.arrays()
    behaviour = f"Stable-Baselines3 SAC while it learns, steps 0 to {recipe.steps}, seed {recipe.seed}"
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs["env_id"], file.attrs["behaviour"] = recipe.env_id, behaviour
        for key, values in arrays.items():
            file.create_dataset(key, data=values, compression="gzip", compression_opts=9, shuffle=True)
    card = {
        "name": name,
        "env_id": recipe.env_id,
        "behaviour": behaviour,
        "behaviour_settings": recipe.sac,
        "transitions": len(arrays["rewards"]),
        "episodes": int((arrays["terminals"] | arrays["timeouts"]).sum()),
        "reference_min": float(random.mean()),
        "reference_max": float(best.mean()),
        "reference_source": (
            f"mean return over {REFERENCE_EPISODES} episodes of a uniformly random policy and of the best "
            f"checkpoint of the behaviour agent (step {checkpoints.step}, deterministic)"
        ),
        "reference_std": [float(random.std()), float(best.std())],
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("gymnasium", "mujoco", "stable-baselines3", "torch", "numpy")},
        "licence": "Apache-2.0",
        "made_by": f"experiments/make_embedded.py {name}",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (out / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    size = path.stat().st_size / 1e6
    print(f"{path}: {size:.2f} MB, {card['transitions']} transitions, best {card['reference_max']:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*is out of date.*")
    for name in options.names:
        make(name, RECIPES[name], options.out)


if __name__ == "__main__":
    main()
