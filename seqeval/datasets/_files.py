"""Shared by sources of files: paths, environments and reference returns."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqeval import environments, references
from seqeval.datasets import LoadOptions, _images, _rules
from seqeval.errors import UserError
from seqeval.references import without_module
from seqeval.types import Continuous, Dataset, Discrete, Environment, Image, Reference, Vector

ATTRIBUTE_BYTES = 1 << 20  # of a file's attribute, at most
REFERENCE_KEYS = ("reference_min", "reference_max", "reference_source")
NO_ENVIRONMENT = "none"  # the value of --env for data without an environment
BOUND_KEYS = ("action_low", "action_high")
BOUNDS = f"attributes {' and '.join(BOUND_KEYS)}"


def existing(name: str) -> Path:
    """The path of a file. Raises UserError if it does not exist."""
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return path


def assemble(
    path: Path, raw: dict[str, np.ndarray], attributes: dict[str, Any], options: LoadOptions
) -> Dataset:
    """The dataset of a file's raw fields, named after the file without its ending; see `_rules.assemble`.

    The environment is `options.env_id`, otherwise the attribute `env_id`. The attributes `reference_min`,
    `reference_max` and `reference_source` are the returns that are scored 0 and 100, used if D4RL publishes
    none for the environment. `action_low` and `action_high` are the bounds of actions that the environment
    does not bound. All attributes together are the dataset's card. Raises UserError if no environment is
    named, if the file's own would import a module, or if references or bounds are invalid.

    With `options.env_id` "none" the data has no environment, and the file alone says what its spaces are.
    """
    if options.env_id == NO_ENVIRONMENT:
        spaces = _spaces_of_file(path, raw, attributes)
        reference = _reference(path, attributes)
        return _rules.assemble(str(path), path.stem, raw, None, reference, attributes, options.rules, spaces)
    recorded = attributes.get("env_id")
    if recorded and not options.env_id:
        environments.refuse_import(str(path), str(recorded))
    env_id = options.env_id or recorded
    if not env_id:
        raise UserError(
            f"{path}: no attribute 'env_id' names its environment; pass --env, e.g. --env Hopper-v4, or "
            "--env none for data without one"
        )
    env_id = str(env_id)
    reference = references.of_environment(env_id)
    # References hold for one environment only.
    if reference is None and without_module(env_id) == without_module(str(recorded or env_id)):
        reference = _reference(path, attributes)
    logged_in, notes = None, []
    if bounds := _bounds(path, attributes):
        if environments.has_bounded_actions(env_id):
            if not _are_bounds_of(env_id, bounds):
                notes.append(f"{BOUNDS} are not used: {env_id} has bounds of its own")
        else:
            try:
                logged_in = environments.describe(env_id, bounds)
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
    source = str(path)
    dataset = _rules.assemble(source, path.stem, raw, env_id, reference, attributes, options.rules, logged_in)
    return replace(dataset, notes=(*dataset.notes, *notes))


def _spaces_of_file(path: Path, raw: dict[str, Any], attributes: dict[str, Any]) -> Environment:
    """What a file says about the environment that it was logged in: vectors of observations, or images in
    stacks of the attribute `frame_stack`; and integer actions counted from 0, or vectors of actions with
    bounds. Raises UserError if it does not say enough."""
    _rules.require_fields(path, raw)
    observations, actions = raw["observations"], raw["actions"]
    observation: Vector | Image
    if _images.holds_images(observations):
        observation = _images.image_of(path, observations, _frame_stack(path, attributes))
    elif observations.ndim == 2:
        observation = Vector(observations.shape[1])
    else:
        raise UserError(
            f"{path}: field 'observations' has shape {observations.shape}; store each one as a vector"
        )
    if actions.dtype.kind in "iu":
        chosen = _rules.read(str(path), "actions", actions)
        if chosen.size and chosen.min() < 0:
            raise UserError(f"{path}: field 'actions' holds {chosen.min()}; number actions from 0")
        space: Continuous | Discrete = Discrete(int(chosen.max(initial=0)) + 1, 0)
    else:
        bounds = _bounds(path, attributes)
        if bounds is None:
            raise UserError(
                f"{path}: without an environment the bounds of its actions are unknown; set the file's "
                f"{BOUNDS}, e.g. file.attrs['action_low'] = [-1.0, -1.0] with h5py"
            )
        low, high = (np.array(bound, np.float32) for bound in bounds)
        space = Continuous(low, high)
    return Environment(path.stem, observation, space, None)


def _frame_stack(path: Path, attributes: dict[str, Any]) -> int:
    """The attribute `frame_stack`, 1 if there is none. Raises UserError if it is not a whole number."""
    stack = attributes.get("frame_stack", 1)
    if isinstance(stack, bool) or not isinstance(stack, int) or stack < 1:
        raise UserError(f"{path}: attribute 'frame_stack' must be a whole number from 1 on, not {stack!r}")
    return stack


def _bounds(path: Path, attributes: dict[str, Any]) -> environments.Bounds | None:
    """The bounds of actions among a file's attributes, if any. Raises UserError if they are invalid."""
    missing = [key for key in BOUND_KEYS if key not in attributes]
    if len(missing) == len(BOUND_KEYS):
        return None
    if missing:
        raise UserError(
            f"{path}: attribute {missing[0]!r} is missing; {' and '.join(BOUND_KEYS)} belong together"
        )
    low, high = (np.atleast_1d(attributes[key]) for key in BOUND_KEYS)
    if low.dtype.kind not in "fiu" or high.dtype.kind not in "fiu" or low.ndim > 1 or low.shape != high.shape:
        raise UserError(f"{path}: {BOUNDS} must hold one number for each action")
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise UserError(f"{path}: {BOUNDS} must be finite, and each low below its high")
    return tuple(low.tolist()), tuple(high.tolist())


def plain(value: Any) -> Any:
    """A NumPy value or bytes as a plain Python value that can be printed.

    h5py passes on bytes that are not UTF-8 as code points that cannot be printed; they become U+FFFD.
    """
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        value = value.encode(errors="surrogateescape")
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _are_bounds_of(env_id: str, bounds: environments.Bounds) -> bool:
    """Whether bounds are those of a bounded environment's own actions."""
    actions = environments.describe(env_id).actions
    return isinstance(actions, Continuous) and all(
        np.array_equal(np.array(given, np.float32), own)
        for given, own in zip(bounds, (actions.low, actions.high), strict=True)
    )


def _reference(path: Path, attributes: dict[str, Any]) -> Reference | None:
    """The reference returns among a file's attributes, if any. Raises UserError if they are invalid."""
    missing = [key for key in REFERENCE_KEYS if key not in attributes]
    if len(missing) == len(REFERENCE_KEYS):
        return None
    if missing:
        raise UserError(
            f"{path}: attribute {missing[0]!r} is missing; {', '.join(REFERENCE_KEYS)} must be given together"
        )
    low, high, source = (attributes[key] for key in REFERENCE_KEYS)
    for key, value in (("reference_min", low), ("reference_max", high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{path}: attribute {key!r} must be a finite number, not {value!r}")
    if low >= high:
        raise UserError(f"{path}: attribute 'reference_max' is {high}, not above 'reference_min', {low}")
    return Reference(float(low), float(high), str(source))
