"""Files given by path: HDF5 in D4RL's layout (arXiv 2004.07219).

Fields `observations`, `actions`, `rewards`, `terminals`, and where they exist `timeouts` and
`next_observations`; the attribute `env_id` names the Gymnasium environment, `behaviour` how it was logged.
The attributes `reference_min`, `reference_max` and `reference_source` are the returns that are scored 0 and
100, where D4RL publishes none for the environment.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seqeval import scores
from seqeval.datasets import _rules
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset, Reference

ENDINGS = (".hdf5", ".h5")


def names() -> list[str]:
    return []


def handles(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def load(name: str, env_id: str | None, rules: DataRules) -> Dataset:
    """The dataset of a file, called after it without the ending. `env_id` goes before the file's own."""
    path = Path(os.path.expanduser(name))
    raw, attributes = read_hdf5(path)
    own_env_id = attributes.get("env_id")
    env_id = env_id or own_env_id
    if not env_id:
        raise UserError(
            f"{path}: no attribute 'env_id' names its environment; pass --env, e.g. --env Hopper-v4"
        )
    env_id = str(env_id)
    reference = scores.of_environment(env_id)
    if reference is None and env_id == str(own_env_id or env_id):  # its references are not another's
        reference = _own_reference(path, attributes)
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


def _own_reference(path: Path, attributes: dict[str, Any]) -> Reference | None:
    """The reference returns in a file's attributes, if they are there. Raises UserError where they make no
    scale."""
    keys = ("reference_min", "reference_max", "reference_source")
    if not any(key in attributes for key in keys):
        return None
    for key in keys:
        if key not in attributes:
            raise UserError(f"{path}: attribute {key!r} is missing; {', '.join(keys)} go together")
    low, high, source = (attributes[key] for key in keys)
    for key, value in (("reference_min", low), ("reference_max", high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{path}: attribute {key!r} must be a finite number, not {value!r}")
    if low >= high:
        raise UserError(f"{path}: attribute 'reference_max' is {high}, not above 'reference_min', {low}")
    return Reference(float(low), float(high), str(source))


def _plain(value: Any) -> Any:
    """An HDF5 attribute as a plain value."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
