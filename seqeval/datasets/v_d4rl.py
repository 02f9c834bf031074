"""V-D4RL's datasets (Lu et al., arXiv 2206.04779): pixels of dm_control, from a folder of local files.

`v-d4rl:vd4rl_data/main/walker_walk/medium/84px` loads the files of a folder in the order of their names, in
either of V-D4RL's layouts. Rows are time steps: row t holds the image after the action and the reward that
led to it, and the first row of an episode only its first image.

- HDF5 (84 pixels): `observation` (rows, 3, 84, 84), `action`, `reward`, `discount`, and `step_type`: 0 first,
  1 between, 2 last. An episode may continue in the next file.
- npz (64 pixels, an episode in each file): `image` (rows, 64, 64, 3), `action`, `reward`, `is_first`,
  `is_last`, `is_terminal`; older files have `discount` in place of the last.

Actions are within [-1, 1] and repeated twice, observations are stacks of 3 frames, and scores are returns
divided by 10.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seqeval import environments
from seqeval.datasets import LoadOptions, Source, _files, _images, _mapping, _rules
from seqeval.errors import UserError, one_line
from seqeval.types import Continuous, Dataset, Environment, Reference

PREFIX = "v-d4rl:"
STACK = 3
REFERENCE = Reference(0.0, 1000.0, "dm_control: returns are from 0 to 1000")
# The name of its folder -> that of the task in dm_control.
TASKS = {"walker_walk": "walker-walk", "cheetah_run": "cheetah-run", "humanoid_walk": "humanoid-walk"}
HDF5 = ("observation", "action", "reward", "discount", "step_type")
NPZ = ("image", "action", "reward", "is_first", "is_last")


def load(name: str, options: LoadOptions) -> Dataset:
    """The dataset of a folder. The environment is `options.env_id`, otherwise the task that the path names.
    Raises UserError if there are no such files, or if they do not fit together."""
    folder = Path(os.path.expanduser(name.removeprefix(PREFIX)))
    files = sorted(folder.glob("*.hdf5")) or sorted(folder.glob("*.npz"))
    if not files:
        raise UserError(
            f"dataset {name!r}: {folder} has no .hdf5 or .npz files; name a folder such as .../84px"
        )
    notes: list[str] = []
    parts, steps = _hdf5(files, notes) if files[0].suffix == ".hdf5" else _npz(files)
    raw = _transitions(name, steps)
    title = "-".join(folder.parts[-3:])
    env_id, logged_in = _environment(name, folder, options.env_id, parts[0], raw["actions"])
    card = {"behaviour": f"V-D4RL, {folder}"}
    raw["frames"] = parts
    dataset = _rules.assemble(name, title, raw, env_id, REFERENCE, card, options.rules, logged_in)
    return _rules.with_notes(dataset, notes)


SOURCE = Source(load, prefix=PREFIX)


def _environment(
    name: str, folder: Path, env_id: str | None, frames: np.ndarray, actions: np.ndarray
) -> tuple[str | None, Environment | None]:
    """The environment of evaluation, and that of the log if there is none."""
    if env_id == _files.NO_ENVIRONMENT:
        bound = np.ones(actions.shape[1], np.float32)
        image = _images.image_of(name, frames, STACK)
        return None, Environment(folder.name, image, Continuous(-bound, bound), None)
    if env_id is None:
        found = [TASKS[part] for part in reversed(folder.parts) if part in TASKS]
        if not found:
            raise UserError(
                f"dataset {name!r}: no part of the path names a task ({', '.join(TASKS)}); pass --env, or "
                "--env none"
            )
        env_id = f"dm_control_pixels/{found[0]}-v0?size={frames.shape[-1 if frames.shape[1] == 3 else 1]}"
    environments.describe(env_id)
    return env_id, None


def _transitions(name: str, steps: dict[str, np.ndarray]) -> dict[str, Any]:
    """D4RL's fields of time steps, with numbers of frames as observations."""
    first = steps["first"].copy()
    first[0] = True
    rows = np.flatnonzero(~first).astype(np.int32)
    if not len(rows):
        raise UserError(f"dataset {name!r}: its episodes have no steps")
    # The row before the first of the next episode is the last of its own, marked or not.
    last = steps["last"] | np.r_[first[1:], False]
    terminal = steps["terminal"][rows]
    return {
        "observations": rows - np.int32(1),
        "next_observations": rows,
        "actions": steps["action"][rows],
        "rewards": steps["reward"][rows],
        "terminals": terminal,
        "timeouts": last[rows] & ~terminal,
    }


def _hdf5(files: list[Path], notes: list[str]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The frames of all files, mapped if they do not fit into memory, and their time steps."""
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(path)) for path in files]
        for path, file in zip(files, opened, strict=True):
            _require(path, HDF5, file.keys())
            _check_size(path, file["observation"], files[0], opened[0]["observation"])
        fields = [file["observation"] for file in opened]
        if _rules.fits(sum(field.nbytes for field in fields)):
            frames = np.empty((sum(map(len, fields)), *fields[0].shape[1:]), fields[0].dtype)
            first = 0
            for path, field in zip(files, fields, strict=True):
                frames[first : (first := first + len(field))] = _mapping.read(str(path), "observation", field)
            parts = [frames]
        else:
            parts = [_mapped(path, field) for path, field in zip(files, fields, strict=True)]
            notes.append(_mapping.note("images", sum(part.nbytes for part in parts)))
        columns = {
            key: np.concatenate(
                [_mapping.read(str(path), key, file[key]) for path, file in zip(files, opened, strict=True)]
            )
            for key in HDF5[1:]
        }
    kinds, discounts = columns.pop("step_type"), columns.pop("discount")
    return parts, columns | {
        "first": kinds == 0,
        "last": kinds == 2,
        "terminal": (discounts == 0) & (kinds == 2),
    }


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file ({one_line(error)})") from error


def _mapped(path: Path, field: h5py.Dataset) -> np.ndarray:
    values = _mapping.mapped(path, field)
    if values is None:
        raise UserError(
            f"{path}: the images do not fit into memory and cannot be read from the file as they are needed, "
            "since it stores them in chunks; `h5repack -l CONTI` writes it again without"
        )
    return values


def _npz(files: list[Path]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The frames of all episodes, and their time steps."""
    episodes: list[dict[str, np.ndarray]] = []
    for path in files:
        try:
            with np.load(path) as stored:
                _require(path, NPZ, stored.files)
                key = "is_terminal" if "is_terminal" in stored.files else "discount"
                episode = {name: stored[name] for name in (*NPZ, key)}
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable .npz file of numbers ({one_line(error)})") from error
        if key == "discount":
            episode["is_terminal"] = episode["discount"] == 0
        if not episodes:
            size = episode["image"].nbytes * len(files) * 2  # the episodes and the joined array
            _rules.check_memory(str(path.parent), size, " by the size of the first episode")
        else:
            _check_size(path, episode["image"], files[0], episodes[0]["image"])
        episodes.append(episode)

    def joined(key: str) -> np.ndarray:
        return np.concatenate([episode.pop(key) for episode in episodes])

    steps = {"action": joined("action"), "reward": joined("reward")}
    flags = {key: joined(f"is_{key}") != 0 for key in ("first", "last", "terminal")}
    return [joined("image")], steps | flags


def _require(path: Path, needed: tuple[str, ...], there: Any) -> None:
    for key in needed:
        if key not in there:
            raise UserError(f"{path}: field {key!r} of V-D4RL is missing; it has {', '.join(sorted(there))}")


def _check_size(path: Path, values: Any, first_path: Path, first: Any) -> None:
    """Raises UserError if the images of a file have another size than those of the first one."""
    if values.ndim != 4 or values.shape[1:] != first.shape[1:]:
        shapes = ["×".join(map(str, shape[1:])) for shape in (values.shape, first.shape)]
        raise UserError(f"{path}: holds images of {shapes[0]}, but {first_path.name} of {shapes[1]}")
