"""The DQN Replay datasets of Atari games (Agarwal et al., arXiv 1907.04543), from a folder of local files.

`dqn-replay:Breakout/1/replay_logs` loads every checkpoint of a folder, in the order of their numbers;
`dqn-replay:Breakout/1/replay_logs?checkpoints=0-3` some of them. A checkpoint is four gzipped NumPy arrays,
`$store$_observation_ckpt.0.gz` (steps, 84, 84), and likewise `action`, `reward` and `terminal`.

Dopamine, which wrote them, pads the beginning of each episode with empty frames; these are left out, and
stacks repeat the first frame as the environment does. Rewards are clipped to [-1, 1] in these logs, those of
the environment are not. An episode that was cut counts as terminated, since the logs do not say it. A
checkpoint does not continue the one before, so that its last step is dropped.
"""

from __future__ import annotations

import gzip
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from seqeval import environments
from seqeval.datasets import LoadOptions, Source, _files, _images, _rules
from seqeval.errors import UserError, one_line
from seqeval.types import Dataset, Discrete, Environment

PREFIX = "dqn-replay:"
STACK = 4
PADDING = STACK - 1  # empty frames before each episode
FIELDS = {"observation": "frames", "action": "actions", "reward": "rewards", "terminal": "terminals"}


def load(name: str, options: LoadOptions) -> Dataset:
    """The dataset of a folder. The environment is `options.env_id`, otherwise the game that the path names.
    Raises UserError if there are no such files or they cannot be read."""
    text, _, chosen = name.removeprefix(PREFIX).partition("?")
    folder = Path(os.path.expanduser(text))
    numbers = _numbers(name, folder, chosen)
    shapes = {number: _shapes(folder, number) for number in numbers}
    size = sum(math.prod(shape) for of_number in shapes.values() for shape in of_number.values())
    if not _rules.fits(size):
        _rules.check_memory(name, size, f" for {len(numbers)} checkpoints; ?checkpoints=0-3 loads fewer")
    columns: dict[str, list[np.ndarray]] = {field: [] for field in (*FIELDS.values(), "kept", "timeouts")}
    for number in numbers:
        for field, values in _checkpoint(folder, number).items():
            columns[field].append(values)
    frames, kept = columns.pop("frames"), columns.pop("kept")
    begins = np.cumsum([0, *map(len, frames[:-1])])
    raw: dict[str, Any] = {field: np.concatenate(values) for field, values in columns.items()}
    rows = np.concatenate([part + begin for part, begin in zip(kept, begins, strict=True)])
    raw |= {"observations": rows.astype(np.int32), "frames": frames}
    env_id, logged_in = _environment(name, folder, options.env_id, frames[0], raw["actions"])
    card = {"behaviour": f"DQN Replay (Agarwal et al., arXiv 1907.04543), {folder}"}
    dataset = _rules.assemble(
        name, "-".join(folder.parts[-3:]), raw, env_id, None, card, options.rules, logged_in
    )
    note = "rewards are clipped to [-1, 1] in the logs, but not in evaluation"
    return _rules.with_notes(dataset, [note])


SOURCE = Source(load, prefix=PREFIX)


def _environment(
    name: str, folder: Path, env_id: str | None, frames: np.ndarray, actions: np.ndarray
) -> tuple[str | None, Environment | None]:
    """The environment of evaluation, and that of the log if there is none."""
    if env_id == _files.NO_ENVIRONMENT:
        space = Discrete(int(actions.max()) + 1, 0)
        return None, Environment(folder.name, _images.image_of(name, frames, STACK), space, None)
    if env_id is None:
        games = [part for part in reversed(folder.parts) if re.fullmatch(r"[A-Z][A-Za-z]+", part)]
        if not games:
            raise UserError(f"dataset {name!r}: no part of the path names a game; pass --env, or --env none")
        env_id = f"ALE/{games[0]}-v5"
    environments.describe(env_id)
    return env_id, None


def _numbers(name: str, folder: Path, chosen: str) -> list[int]:
    """The checkpoints to load. Raises UserError for those that are not there."""
    found = (
        re.fullmatch(r"\$store\$_observation_ckpt\.(\d+)\.gz", path.name) for path in folder.glob("*.gz")
    )
    there = sorted(int(match[1]) for match in found if match)
    if not there:
        raise UserError(f"dataset {name!r}: {folder} has no files $store$_observation_ckpt.N.gz")
    if not chosen:
        return there
    match = re.fullmatch(r"checkpoints=(\d+)(?:-(\d+))?", chosen)
    if not match:
        raise UserError(f"dataset {name!r}: write ?checkpoints=3, or ?checkpoints=0-3, not {chosen!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    if missing := set(range(first, last + 1)) - set(there):
        raise UserError(
            f"dataset {name!r}: {folder} has no checkpoint {min(missing)}; it has {there[0]}-{there[-1]}"
        )
    return list(range(first, last + 1))


def _path(folder: Path, field: str, number: int) -> Path:
    return folder / f"$store$_{field}_ckpt.{number}.gz"


def _shapes(folder: Path, number: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's arrays. Raises UserError if one is missing or they do not fit."""
    shapes = {}
    for field in FIELDS:
        path = _files.existing(str(_path(folder, field, number)))
        try:
            with gzip.open(path) as file:
                np.lib.format.read_magic(file)
                shapes[field], _, _ = np.lib.format.read_array_header_1_0(file)
        except (OSError, EOFError, ValueError) as error:
            raise UserError(f"{path}: not a gzipped NumPy array ({one_line(error)})") from error
        if (
            len(shapes[field]) != (3 if field == "observation" else 1)
            or shapes[field][0] != shapes["observation"][0]
        ):
            raise UserError(
                f"{path}: has shape {shapes[field]}, but the images of the checkpoint {shapes['observation']}"
            )
    return shapes


def _checkpoint(folder: Path, number: int) -> dict[str, np.ndarray]:
    """The frames of a checkpoint, and the other fields of the steps that are not padding."""
    found = {}
    for key, field in FIELDS.items():
        path = _path(folder, key, number)
        try:
            with gzip.open(path) as file:
                found[field] = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise UserError(f"{path}: not a gzipped NumPy array ({one_line(error)})") from error
    kept = np.flatnonzero(~_padding(found["frames"], found["terminals"] != 0))
    timeouts = np.zeros(len(kept), bool)
    timeouts[-1:] = True
    columns = {field: found[field][kept] for field in ("actions", "rewards", "terminals")}
    return columns | {"frames": found["frames"], "kept": kept, "timeouts": timeouts}


def _padding(frames: np.ndarray, terminal: np.ndarray) -> np.ndarray:
    """Which steps are padding: empty frames among the first three of an episode: (steps,) bool."""
    padding, starts = np.zeros(len(frames), bool), np.r_[0, np.flatnonzero(terminal) + 1]
    for age in range(PADDING):
        rows = starts + age
        rows = rows[rows < len(frames)]
        rows = rows[~terminal[rows]]
        before = padding[rows - 1] if age else np.ones(len(rows), bool)
        padding[rows] = before & ~frames[rows].any(axis=(1, 2))
    return padding
