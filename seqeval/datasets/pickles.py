"""Pickles given by path: lists of trajectories, and replay buffers of Stable-Baselines3.

Trajectories in Decision Transformer's layout (Chen et al., arXiv 2106.01345; its download_d4rl_datasets.py):
a list of dicts, one for each trajectory, with the arrays `observations`, `actions`, `rewards`, `terminals`
and, where they exist, `next_observations`. A trajectory that does not end in a terminal was cut there, as by
a timeout.

A replay buffer is what a model's `save_replay_buffer` writes (`_replay_buffers`). It is an object, so loading
it runs code: that is done for those alone who say they trust it. Neither layout names its environment.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqeval.datasets import _files, _replay_buffers, _rules, _unpickling
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset

# Bytes of the arrays at most, in units of the file's: next observations may have to be made, and what is read
# is copied as it is joined.
PICKLED = 2.2


def names() -> list[str]:
    return []


def handles(name: str) -> bool:
    return name.lower().endswith((".pkl", ".pickle"))


def load(name: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    """The dataset of a file, called after it without the ending.

    With `trust_pickle` code in the file is run. Raises UserError where there is some and it is not trusted,
    for a pickle of neither layout and, before it is read, where memory will not hold it: what is in a pickle
    is not known before, so that is told by the size of the file.
    """
    path = _files.existing(name)
    _rules.check_memory(str(path), int(PICKLED * path.stat().st_size), " by the size of the file")
    content = _unpickled(path, trust_pickle)
    if not env_id:
        raise UserError(f"{path}: a pickle names no environment; pass --env, e.g. --env Hopper-v4")
    if isinstance(content, list):
        return _files.assemble(path, _joined(path, content), {}, env_id, rules)
    raw, notes, partial = _replay_buffers.fields(path, content, env_id)
    dataset = _files.assemble(path, raw, {}, env_id, rules)
    complete = dataset.episode_complete.copy()
    complete[partial] = False
    complete.setflags(write=False)
    return replace(dataset, notes=(*notes, *dataset.notes), episode_complete=complete)


def _unpickled(path: Path, trusted: bool) -> Any:
    """What a pickle holds. Raises UserError where it is none, or runs code and is not trusted."""
    try:
        return _unpickling.load(path)
    except _unpickling.NotPlain:
        if not trusted:
            raise
    with path.open("rb") as file:
        try:
            return pickle.load(file)
        except Exception as error:  # the code in it may raise anything, first of all for want of its modules
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{path}: cannot be unpickled ({reason})") from error


def _joined(path: Path, trajectories: list[Any]) -> dict[str, np.ndarray]:
    """The fields of trajectories, one behind the other. Raises UserError where one does not fit the first."""
    if not trajectories:
        raise UserError(f"{path}: the list of trajectories is empty")
    parts = [_steps(f"{path}: trajectory {number}", each) for number, each in enumerate(trajectories)]
    first = parts[0]
    for number, part in enumerate(parts):
        for key, values in first.items():
            if key not in part:
                raise UserError(f"{path}: trajectory {number}: field {key!r} is missing, trajectory 0 has it")
            if part[key].shape[1:] != values.shape[1:]:
                raise UserError(
                    f"{path}: trajectory {number}: field {key!r} has shape {part[key].shape}, that of "
                    f"trajectory 0 {values.shape}"
                )
    return {key: np.concatenate([part.pop(key) for part in parts]) for key in list(first)}


def _steps(where: str, trajectory: Any) -> dict[str, np.ndarray]:
    """The fields of one trajectory, with a timeout at its end unless that is terminal. Raises UserError where
    it is not as the layout says."""
    if not isinstance(trajectory, dict):
        raise UserError(f"{where}: must be a dict of arrays, not a {type(trajectory).__name__}")
    steps: dict[str, np.ndarray] = {}
    for key in (*_rules.REQUIRED, "next_observations"):
        if key not in trajectory:
            if key in _rules.REQUIRED:
                have = ", ".join(map(repr, trajectory)) or "no fields"
                raise UserError(f"{where}: field {key!r} is missing; it has {have}")
            continue
        values = trajectory[key]
        values = values.values if isinstance(values, _unpickling.Array) else values
        if not isinstance(values, np.ndarray) or not values.ndim or not len(values):
            raise UserError(f"{where}: field {key!r} must be a NumPy array with a row for each step")
        steps[key] = values
        if len(values) != (length := len(steps["observations"])):
            raise UserError(f"{where}: field {key!r} has {len(values)} rows, 'observations' has {length}")
    steps["timeouts"] = np.zeros(length, bool)
    steps["timeouts"][-1] = not np.any(steps["terminals"][-1])
    return steps
