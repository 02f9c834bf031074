"""Make the embedded dataset breakout-replay: every eighth episode of a DQN that learns MinAtar's Breakout.

    python experiments/make_breakout.py --out datasets

The episodes are in the order of the training, and include exploration, so the behaviour changes from random
to good. Observations are on and off, and are stored as bits. Needs the extra `minatar`; takes about half an
hour on one core. The numbers depend on the processor, because rounding differs and training diverges from the
first update on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import torch
from stable_baselines3 import DQN

from seqeval import environments
from seqeval.errors import UserError

NAME = "breakout-replay"
OUT = Path(__file__).parents[1] / "seqeval" / "datasets" / "data"
ENV_ID = "MinAtar/Breakout-v1?max_episode_steps=1000"
STEPS, EVERY = 400_000, 8  # steps of the training, and of its episodes the share that is kept
CHECKPOINTS, EPISODES = 8, 30  # evaluations of the agent, and episodes of each
CHECKPOINT_SEED, BEST_SEED, RANDOM_SEED = 10_000, 20_000, 30_000
PACKAGES = ("MinAtar", "gymnasium", "stable-baselines3", "torch", "numpy")
SETTINGS: dict[str, Any] = {
    "learning_rate": 3e-4,
    "buffer_size": 100_000,
    "learning_starts": 5_000,
    "batch_size": 64,
    "train_freq": 4,
    "target_update_interval": 1_000,
    "exploration_fraction": 0.25,  # of the steps up to the first checkpoint
    "exploration_final_eps": 0.05,
    "policy_kwargs": {"net_arch": [256, 256]},
}


class Episodes(gymnasium.Wrapper):
    """Logs every eighth episode: bits of observations, actions, rewards and flags."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.columns: dict[str, list[Any]] = {
            name: [] for name in ("observations", "actions", "rewards", "terminals", "timeouts")
        }
        self.episode, self._seen = -1, np.zeros(0, np.uint8)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.episode += 1
        observation, info = self.env.reset(**options)
        self._seen = np.packbits(observation != 0)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self.episode % EVERY == 0:
            values = (self._seen, int(action), float(reward), terminated, truncated and not terminated)
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)
        self._seen = np.packbits(observation != 0)
        return observation, reward, terminated, truncated, info


def mean_return(agent: DQN | None, first_seed: int) -> float:
    """The mean return of a deterministic agent, or of uniformly random actions."""
    env, total = environments.make(ENV_ID), 0.0
    env.action_space.seed(first_seed)
    for seed in range(first_seed, first_seed + EPISODES):
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            action = agent.predict(observation, deterministic=True)[0] if agent else env.action_space.sample()
            observation, reward, terminated, truncated, _ = env.step(action)
            total, done = total + float(reward), terminated or truncated
    env.close()
    return total / EPISODES


def train() -> tuple[dict[str, list[Any]], list[float], float]:
    """The log of the kept episodes, the returns of the checkpoints, and that of the best with other seeds."""
    env = Episodes(environments.make(ENV_ID))
    agent = DQN("MlpPolicy", env, seed=0, device="cpu", **SETTINGS)
    returns, best = [], agent.policy.state_dict()
    for _ in range(CHECKPOINTS):
        agent.learn(STEPS // CHECKPOINTS, reset_num_timesteps=False, log_interval=10**9)
        returns.append(mean_return(agent, CHECKPOINT_SEED))
        print(f"step {agent.num_timesteps}: return {returns[-1]:.2f}", file=sys.stderr, flush=True)
        if returns[-1] == max(returns):
            best = {name: values.clone() for name, values in agent.policy.state_dict().items()}
    agent.policy.load_state_dict(best)
    return env.columns, returns, mean_return(agent, BEST_SEED)


def make(out: Path) -> None:
    """Write the file and its card. Raises UserError if they exist."""
    path = out / f"{NAME}.hdf5"
    for old in (path, path.with_suffix(".json")):
        if old.exists():
            raise UserError(f"{old}: exists already; remove it or give another --out")
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    columns, returns, best = train()
    write(path, columns, returns, best, mean_return(None, RANDOM_SEED))


def write(
    path: Path, columns: Mapping[str, Sequence[Any]], returns: list[float], best: float, random: float
) -> None:
    """Write the whole episodes of a log, and the card: `returns` of the checkpoints, that of the `best` of
    them with other seeds, and that of `random` actions."""
    types = {"actions": np.int8, "rewards": np.float32, "terminals": np.bool_, "timeouts": np.bool_}
    arrays = {name: np.array(values, types.get(name, np.uint8)) for name, values in columns.items()}
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    with h5py.File(path, "w", track_times=False) as file:
        for name, values in arrays.items():
            stored = values[: ends[-1] + 1]
            file.create_dataset(name, data=stored, compression="gzip", compression_opts=9, shuffle=True)
        file["observations"].attrs["bit_packed_shape"] = (4, 10, 10)
    timeouts = int(arrays["timeouts"].sum())
    card = {
        "name": NAME,
        "env_id": ENV_ID,
        "behaviour": f"DQN of Stable-Baselines3 while it learns: every {EVERY}th episode, in order",
        "transitions": int(ends[-1]) + 1 - timeouts,  # the last of an episode that was cut is not used
        "episodes": len(ends),
        "steps": STEPS,
        "checkpoint_returns": returns,
        "reference_min": random,
        "reference_max": best,
        "reference_source": f"mean return over {EPISODES} episodes of uniformly random actions and of the "
        f"best of {CHECKPOINTS} checkpoints of the behaviour agent (deterministic)",
        "behaviour_settings": SETTINGS,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "licence": "Apache-2.0",
        "made_by": "experiments/make_breakout.py",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    size = path.stat().st_size / 1e6
    print(f"{path}: {size:.2f} MB, {card['transitions']} transitions, best {best:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    try:
        make(parser.parse_args().out)
    except UserError as error:
        sys.exit(f"make_breakout: {error}")


if __name__ == "__main__":
    main()
