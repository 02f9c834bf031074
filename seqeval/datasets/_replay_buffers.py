"""Convert replay buffers of Stable-Baselines3, as pickled by `save_replay_buffer`, to D4RL's fields.

A buffer is a ring of steps, each with one transition of `n_envs` environments. The result holds one
environment after the other, each from its oldest step to its newest.

Continuous actions are stored scaled to [-1, 1]; they are converted back to the environment's units. With
`handle_timeout_termination=False`, which `optimize_memory_usage` requires, the buffer does not record which
episodes were truncated. Then an episode counts as truncated if it is as long as the environment's time
limit; so does the oldest one of each environment if its beginning has been overwritten. With
`optimize_memory_usage` the observation after the end of an episode is not stored either.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from seqeval import environments
from seqeval.errors import UserError


def fields(path: Path, buffer: Any, env_id: str) -> tuple[dict[str, np.ndarray], list[str], np.ndarray]:
    """D4RL's fields of a buffer, notes, and the indices of the episodes that are not completely in it.

    T steps of E environments give T * E rows. Raises UserError if it is not a replay buffer with flat
    observations, if it is empty, or if it belongs to another environment.
    """
    from stable_baselines3.common.buffers import ReplayBuffer

    if not isinstance(buffer, ReplayBuffer):
        raise UserError(
            f"{path}: must hold a list of trajectories or a replay buffer, not {type(buffer).__name__}"
        )
    if isinstance(buffer.observations, dict):
        raise UserError(f"{path}: observations are dicts; only flat vectors are supported")
    if not buffer.size():
        raise UserError(f"{path}: the replay buffer is empty")
    environment = environments.describe(env_id)
    _check_actions(path, buffer.action_space, env_id)

    steps = np.arange(buffer.size())
    if buffer.full:
        steps = (steps + buffer.pos) % buffer.buffer_size
        if buffer.optimize_memory_usage:  # the newest next observation has overwritten the oldest observation
            steps = steps[1:]
    done = buffer.dones[steps] != 0  # (T, E)
    notes = []
    if getattr(buffer, "handle_timeout_termination", False):  # older versions lack it
        timeout = done & (buffer.timeouts[steps] != 0)
    else:
        timeout = _at_limit(done, environment.time_limit, buffer.full)
        notes.append(
            f"the replay buffer records no timeouts: {int(timeout.sum())} of {int(done.sum())} episode ends "
            "count as truncations because of their length"
        )
    terminal = done & ~timeout
    timeout[-1] |= ~done[-1]  # the next row belongs to the next environment
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
    if isinstance(environment.actions, environments.Continuous):
        low, high = environment.actions.low, environment.actions.high
        # Stable-Baselines3's own expression: bit for bit the actions that the environment received.
        raw["actions"] = low + (0.5 * (raw["actions"] + 1.0) * (high - low))

    episode = np.cumsum(np.r_[0, (terminal | timeout).T.ravel()[:-1]])
    episode = episode.reshape(done.shape[1], done.shape[0])  # (E, T)
    partial = episode[~done[-1], -1]
    if buffer.full:
        partial = np.r_[partial, episode[:, 0]]
    return raw, notes, partial


def _check_actions(path: Path, space: Any, env_id: str) -> None:
    """Raises UserError if the actions of a buffer are not those of the environment."""
    with closing(environments.make(env_id)) as env:
        expected: Any = env.action_space
    same = space == expected
    if same and isinstance(space, Box):
        # Equal boxes of Gymnasium may differ by a rounding error, and actions are scaled by their bounds.
        same = np.array_equal(space.low, expected.low) and np.array_equal(space.high, expected.high)
    if not same:
        raise UserError(
            f"{path}: its actions, {' '.join(str(space).split())}, are not those of {env_id}; "
            "is this the right environment?"
        )


def _at_limit(done: np.ndarray, limit: int | None, overwritten: bool) -> np.ndarray:
    """Which ends of episodes are truncations, judged by their length: (T, E) bool, like `done`.

    If the beginning of the log was `overwritten`, its first episode may have reached the limit.
    """
    truncated = np.zeros_like(done)
    if limit is None:
        return truncated
    for environment, flags in enumerate(done.T):
        ends = np.flatnonzero(flags)
        lengths = np.diff(np.r_[-1, ends])
        truncated[ends, environment] = (lengths >= limit) | (overwritten & (np.arange(len(ends)) == 0))
    return truncated
