"""What all files given by path have in common: their name, their environment, their own reference returns."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from seqeval import references
from seqeval.datasets import _rules
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset, Reference


def existing(name: str) -> Path:
    """The path of a file. Raises UserError where there is none."""
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return path


def assemble(
    path: Path, raw: dict[str, np.ndarray], attributes: dict[str, Any], env_id: str | None, rules: DataRules
) -> Dataset:
    """The dataset of a file's raw fields, called after it without the ending; see `_rules.assemble`.

    Of the attributes `env_id` names the Gymnasium environment, unless the argument does; `reference_min`,
    `reference_max` and `reference_source` are the returns that are scored 0 and 100, where D4RL publishes
    none for the environment. All of them are the dataset's card. Raises UserError where nothing names an
    environment and for references that make no scale.
    """
    own_env_id = attributes.get("env_id")
    env_id = env_id or own_env_id
    if not env_id:
        raise UserError(
            f"{path}: no attribute 'env_id' names its environment; pass --env, e.g. --env Hopper-v4"
        )
    env_id = str(env_id)
    reference = references.of_environment(env_id)
    if reference is None and env_id == str(own_env_id or env_id):  # its references are not another's
        reference = _own_reference(path, attributes)
    return _rules.assemble(str(path), path.stem, raw, env_id, reference, attributes, rules)


def plain(value: Any) -> Any:
    """An attribute as a plain value."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value


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
