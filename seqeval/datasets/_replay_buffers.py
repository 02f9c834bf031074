"""Replay buffers of Stable-Baselines3, as a model's `save_replay_buffer` pickles them, as D4RL's fields.

A buffer is a ring of steps, each of `n_envs` environments. Here every environment is a log of its own, from
its oldest step to its newest, one behind the other.

Where its actions are vectors it holds them scaled to [-1, 1]; they are given back in the environment's units.
With `handle_timeout_termination=False`, which `optimize_memory_usage` needs, it does not say which episodes
were cut: then those are taken as cut that are as long as the environment's limit, and the oldest of each
environment where its beginning has been overwritten. With `optimize_memory_usage` the observation behind the
end of an episode is not in it either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from seqeval import environments
from seqeval.errors import UserError


def fields(path: Path, buffer: Any, env_id: str) -> tuple[dict[str, np.ndarray], list[str], np.ndarray]:
    """D4RL's fields of a buffer (T steps of each of E environments: T · E rows), notes, and the numbers of
    the episodes of which a part is not in it.

    Raises UserError where it is no replay buffer with flat observations, empty, or not of the environment.
    """
    from stable_baselines3.common.buffers import ReplayBuffer

    if not isinstance(buffer, ReplayBuffer):
        raise UserError(
            f"{path}: must hold a list of trajectories or a replay buffer, not {type(buffer).__name__}"
        )
    if isinstance(buffer.observations, dict):
        raise UserError(f"{path}: observations are dicts; the suite learns from flat vectors")
    if not buffer.size():
        raise UserError(f"{path}: the replay buffer is empty")
    about = environments.describe(env_id)
    _check_actions(path, buffer.action_space, about)

    steps = np.arange(buffer.size())
    if buffer.full:
        steps = (steps + buffer.pos) % buffer.buffer_size
        if buffer.optimize_memory_usage:  # the newest next observation stands where the oldest one stood
            steps = steps[1:]
    done = buffer.dones[steps] != 0  # (T, E)
    notes = []
    if getattr(buffer, "handle_timeout_termination", False):  # older buffers lack it
        timeout = done & (buffer.timeouts[steps] != 0)
    else:
        timeout = _at_limit(done, about.time_limit, buffer.full)
        notes.append(
            f"the replay buffer tells no timeouts: {int(timeout.sum())} of {int(done.sum())} episode ends "
            "taken as cuts by their length"
        )
    terminal = done & ~timeout
    timeout[-1] |= ~done[-1]  # the log of the next environment follows
    columns = {
        "observations": buffer.observations[steps],
        "actions": buffer.actions[steps],
        "rewards": buffer.rewards[steps],
        "terminals": terminal,
        "timeouts": timeout,
    }
    if not buffer.optimize_memory_usage:
        columns["next_observations"] = buffer.next_observations[steps]
    raw = {key: np.concatenate(np.moveaxis(values, 1, 0)) for key, values in columns.items()}
    if isinstance(about.actions, environments.Continuous):
        low, high = about.actions.low, about.actions.high
        # Stable-Baselines3's own expression: the actions are to the bit what the environment received.
        raw["actions"] = low + (0.5 * (raw["actions"] + 1.0) * (high - low))

    episode = np.cumsum(np.r_[0, (terminal | timeout).T.ravel()[:-1]])
    episode = episode.reshape(done.shape[1], done.shape[0])  # (E, T)
    partial = episode[~done[-1], -1]
    if buffer.full:
        partial = np.r_[partial, episode[:, 0]]
    return raw, notes, partial


def _check_actions(path: Path, space: gymnasium.Space, about: environments.Environment) -> None:
    """Raises UserError where the actions of a buffer are not the environment's."""
    actions = about.actions
    if isinstance(actions, environments.Discrete):
        same = isinstance(space, gymnasium.spaces.Discrete) and space.n == actions.size
    else:
        same = (
            isinstance(space, gymnasium.spaces.Box)
            and np.array_equal(space.low, actions.low)
            and np.array_equal(space.high, actions.high)
        )
    if not same:
        kind = " ".join(str(space).split())
        raise UserError(f"{path}: its actions, {kind}, are not those of {about.name}; is this the right one?")


def _at_limit(done: np.ndarray, limit: int | None, overwritten: bool) -> np.ndarray:
    """Which ends of episodes (T, E) are cuts, if those are that come after at least `limit` steps.

    Where the beginning of the log has been `overwritten`, its first episode may have been as long.
    """
    cuts = np.zeros_like(done)
    if limit is None:
        return cuts
    for environment, flags in enumerate(done.T):
        ends = np.flatnonzero(flags)
        lengths = np.diff(np.r_[-1, ends])
        cuts[ends, environment] = (lengths >= limit) | (overwritten & (np.arange(len(ends)) == 0))
    return cuts
