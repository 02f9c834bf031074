"""Pickle files, given by path: lists of trajectories, and replay buffers of Stable-Baselines3.

Trajectories have Decision Transformer's layout (Chen et al., arXiv 2106.01345; its
download_d4rl_datasets.py): a list of dicts, one per trajectory, with the arrays `observations`, `actions`,
`rewards`, `terminals` and optionally `next_observations`. A trajectory whose last step is not terminal was
truncated there.

A replay buffer is a file written by a model's `save_replay_buffer` (see `_replay_buffers`). It is an
object, so loading it runs code; this happens only if the user trusts the file. Neither layout names its
environment.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqeval.datasets import LoadOptions, Source, _files, _replay_buffers, _rules, _unpickling
from seqeval.errors import UserError, one_line
from seqeval.types import Dataset

# Upper bound of the arrays' size, in units of the file's size: next observations may have to be created, and
# trajectories are copied when they are joined.
PICKLED = 2.2


def load(name: str, options: LoadOptions) -> Dataset:
    """The dataset of a file. Code in it runs only with `options.trust_pickle`.

    Raises UserError if the file holds code and is not trusted, if it has neither layout and, before it is
    read, if memory may not suffice, estimated by the size of the file.
    """
    path = _files.existing(name)
    _rules.check_memory(str(path), int(PICKLED * path.stat().st_size), " by the size of the file")
    content = _unpickled(path, options.trust_pickle)
    if not options.env_id:
        raise UserError(f"{path}: a pickle names no environment; pass --env, e.g. --env Hopper-v4")
    if isinstance(content, list):
        return _files.assemble(path, _joined(path, content), {}, options)
    raw, notes, partial = _replay_buffers.fields(path, content, options.env_id)
    dataset = _files.assemble(path, raw, {}, options)
    complete = dataset.episode_complete.copy()
    complete[partial] = False
    complete.setflags(write=False)
    return replace(dataset, notes=(*notes, *dataset.notes), episode_complete=complete)


SOURCE = Source(load, endings=(".pkl", ".pickle"))


def _unpickled(path: Path, trusted: bool) -> Any:
    """The content of a pickle. Raises UserError if it is not a pickle, or holds code and is not trusted."""
    try:
        return _unpickling.load(path)
    except _unpickling.UnsafePickleError:
        if not trusted:
            raise
    with path.open("rb") as file:
        try:
            return pickle.load(file)
        except Exception as error:  # its code may raise anything, most often because a module is missing
            kind = type(error).__name__
            raise UserError(f"{path}: cannot be unpickled ({kind}: {one_line(error)})") from error


def _joined(path: Path, trajectories: list[Any]) -> dict[str, np.ndarray]:
    """The fields of all trajectories, each with a timeout at its end unless that is terminal.

    Raises UserError if a trajectory does not have the layout or does not match the first.
    """
    if not trajectories:
        raise UserError(f"{path}: the list of trajectories is empty")
    parts: list[dict[str, np.ndarray]] = []
    for number, trajectory in enumerate(trajectories):
        location, steps = f"{path}: trajectory {number}", {}
        if not isinstance(trajectory, dict):
            raise UserError(f"{location}: must be a dict of arrays, not a {type(trajectory).__name__}")
        optional = ["next_observations"] if "next_observations" in trajectories[0] else []
        for key in (*_rules.REQUIRED, *optional):
            if key not in trajectory:
                raise UserError(_rules.missing_field(location, key, map(str, trajectory)))
            values = trajectory[key]
            values = values.values if isinstance(values, _unpickling.Array) else values
            if not isinstance(values, np.ndarray) or not values.ndim or not values.size:
                raise UserError(f"{location}: field {key!r} must be a NumPy array with one row per step")
            steps[key] = values
            first = parts[0][key] if parts else values
            shape = (len(steps["observations"]), *first.shape[1:])
            if values.shape != shape:
                raise UserError(f"{location}: field {key!r} has shape {values.shape}, but expected {shape}")
        steps["timeouts"] = np.zeros(len(values), bool)
        steps["timeouts"][-1] = not np.any(steps["terminals"][-1])
        parts.append(steps)
    # Trajectories of a pickle may share their arrays, so that they become larger than the file.
    total = sum(len(part["rewards"]) for part in parts)
    joined = {key: ((total, *values.shape[1:]), values.dtype) for key, values in parts[0].items()}
    _rules.check_memory(str(path), _rules.size_of(joined))
    return {key: np.concatenate([part.pop(key) for part in parts]) for key in list(parts[0])}
