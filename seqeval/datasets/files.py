"""Files given by path: HDF5 in D4RL's layout (arXiv 2004.07219).

Fields `observations`, `actions`, `rewards`, `terminals`, and where they exist `timeouts` and
`next_observations`; the attribute `env_id` names the Gymnasium environment, `behaviour` how it was logged.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seqeval import scores
from seqeval.datasets import _rules
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset

ENDINGS = (".hdf5", ".h5")


def names() -> list[str]:
    return []


def handles(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def load(name: str, env_id: str | None, rules: DataRules) -> Dataset:
    """The dataset of a file, called after it without the ending. `env_id` goes before the file's own."""
    path = Path(os.path.expanduser(name))
    raw, attributes = read_hdf5(path)
    env_id = env_id or attributes.get("env_id")
    if not env_id:
        raise UserError(
            f"{path}: no attribute 'env_id' names its environment; pass --env, e.g. --env Hopper-v4"
        )
    env_id = str(env_id)
    reference = scores.of_environment(env_id)
    return _rules.assemble(str(path), path.stem, raw, env_id, reference, attributes, rules)


def read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """D4RL's fields of an HDF5 file, and its attributes. Raises UserError where it is no such file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            wanted = (*_rules.REQUIRED, *_rules.OPTIONAL)
            fields = {key: file[key] for key in wanted if isinstance(file.get(key), h5py.Dataset)}
            arrays = {key: np.zeros(0) if v.shape is None else v[...] for key, v in fields.items()}
            return arrays, {key: _plain(value) for key, value in file.attrs.items()}
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file ({str(error).splitlines()[0]})") from error


def _plain(value: Any) -> Any:
    """An HDF5 attribute as a plain value."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
