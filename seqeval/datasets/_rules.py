"""Turn the raw arrays of a log into a `Dataset`: the checks and the data rules."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xxhash

from seqeval import environments
from seqeval.datasets import _images, _memory
from seqeval.datasets._mapping import read
from seqeval.errors import UserError, nearest
from seqeval.types import DataRules, Dataset, Environment, Image, Reference, Vector

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("next_observations", "timeouts")
OTHER_NAMES = {  # of required fields in other layouts
    "observations": ("obs", "observation", "states", "state"),
    "actions": ("action", "acts", "act"),
    "rewards": ("reward", "rews", "rew"),
    "terminals": ("dones", "done", "terminal", "terminations", "terminated", "is_terminal"),
    "next_observations": ("next_obs", "next_states"),
}
LISTED = 30  # fields of a source in a message
FLAGS = ("terminals", "timeouts")

CHUNK = 8_192  # rows moved together
HEADROOM = 1.5  # peak memory of loading, in units of the arrays' size


def assemble(
    source: str,
    name: str,
    raw: dict[str, Any],
    env_id: str | None,
    reference: Reference | None,
    card: dict[str, Any],
    rules: DataRules,
    logged_in: Environment | None = None,
) -> Dataset:
    """Check the raw fields of `source` against each other and the environment, and apply the data rules.

    `raw` holds D4RL's fields by name: arrays, or the fields of an open HDF5 file. To save memory, it and its
    arrays are changed in place. The environment is `logged_in` if given, otherwise `env_id`. A step that is
    both terminal and a timeout is terminal; without `timeouts` an episode is truncated at the environment's
    time limit. The rules are described in `_apply_rules`. Raises UserError that names the source, field and
    first bad row.
    """
    environment = logged_in if logged_in is not None else environments.describe(str(env_id))
    notes: list[str] = []
    require_fields(source, raw)
    parts: tuple[np.ndarray, ...] = ()
    if isinstance(environment.observation, Image):
        parts = _images.taken(source, raw, environment.observation, notes)  # leaves numbers of frames
    _check_fields(source, raw, environment)
    _read_all(source, raw)

    terminated, timeouts = _ends(raw, environment, notes)
    ended, truncated = terminated | timeouts, timeouts & ~terminated
    truncated[-1] = not terminated[-1]  # the end of the log truncates as a timeout does
    if isinstance(environment.actions, environments.Discrete):
        raw["actions"] = _integers(source, raw["actions"], environment.actions, environment.name)
    first = np.r_[0, np.flatnonzero(ended[:-1]) + 1]
    lengths = np.diff(np.r_[first, len(ended)])
    notes += _warnings(raw, ended, int(lengths.max()), environment)
    returns, complete = np.add.reduceat(raw["rewards"].astype(np.float64), first), ended[first + lengths - 1]
    if parts:
        raw["first_frames"] = np.repeat(raw["observations"][first], lengths)
    keep = _apply_rules(raw, rules, terminated, timeouts, truncated, notes)
    if not keep.any():
        raise UserError(f"{source}: every transition is truncated and none has a next observation")
    raw |= {"terminated": terminated, "truncated": truncated}
    raw["episode"] = np.repeat(np.arange(len(first), dtype=np.int32), lengths)
    if not keep.all():
        for field, values in raw.items():
            raw[field] = _kept(values, keep)
    arrays: dict[str, Any] = raw | {"episode_returns": returns, "episode_complete": complete}
    for values in arrays.values():
        values.setflags(write=False)
    digested = arrays
    if isinstance(environment.observation, Image):
        digested = arrays | {f"frames {i}": _images.digestible(part) for i, part in enumerate(parts)}
        pair = _images.stacks(source, parts, raw, environment.observation.stack)
        arrays = arrays | dict(zip(_images.FIELDS, pair, strict=True))
        del arrays["first_frames"]
    return Dataset(
        name=name,
        env_id=env_id,
        **arrays,
        segments=(len(arrays["rewards"]),),
        segment_names=(name,),
        reference=reference,
        digest=_digest(_identity(environment, env_id, logged_in), digested),
        notes=tuple(notes),
        card=card,
        logged_in=logged_in,
    )


def with_notes(dataset: Dataset, notes: Sequence[str]) -> Dataset:
    """The dataset with notes of its source before those of the data rules."""
    return replace(dataset, notes=(*notes, *dataset.notes))


def _check_fields(source: str, raw: dict[str, Any], environment: Environment) -> None:
    """Raises UserError if fields are missing, hold no numbers or do not fit together or the environment.

    No field is read for it, except discrete actions stored as a column, which are replaced by a vector.
    """
    for field, values in raw.items():
        if values.dtype.kind not in "fiub":
            raise UserError(f"{source}: field {field!r} holds {str(values.dtype)[:80]}, not numbers")
    widths = {}
    if isinstance(environment.observation, Vector):
        widths = dict.fromkeys(("observations", "next_observations"), environment.observation.size)
    if not isinstance(environment.actions, environments.Discrete):
        widths["actions"] = environment.actions.size
    elif raw["actions"].shape[1:] == (1,):
        raw["actions"] = read(source, "actions", raw["actions"])[:, 0]
    length = raw["observations"].shape[0] if raw["observations"].ndim else 0
    if not length:
        raise UserError(f"{source}: field 'observations' is empty")
    for field, values in raw.items():
        expected = (length, *([widths[field]] if field in widths else []))
        if values.shape != expected:
            advice = "is this the right environment?"
            if values.ndim > len(expected) and math.prod(values.shape) == math.prod(expected):
                advice = "store each row as one vector"
            raise UserError(
                f"{source}: field {field!r} has shape {values.shape}, expected {expected} for {length} "
                f"'observations' of {environment.name}; {advice}"
            )


def require_fields(source: object, present: Collection[str]) -> None:
    """Raises UserError if a required field is not among those that a source has."""
    for field in REQUIRED:
        if field not in present:
            raise UserError(missing_field(source, field, present))


def missing_field(source: object, field: str, present: Iterable[str]) -> str:
    """The message that a field is missing: all fields that are there, and the one that may be it."""
    names = sorted(present)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    message = f"{source}: field {field!r} is missing; it has {', '.join(names[:LISTED]) or 'no fields'}{more}"
    likely = [name for name in names if name.lower() in OTHER_NAMES[field]]
    if not likely:
        return message + nearest(field, set(names).difference(REQUIRED, OPTIONAL))
    meaning = " (ends without a future value, so no timeouts)" if field == "terminals" else ""
    return f"{message}; if {likely[0]!r} holds the {field}{meaning}, rename it to {field!r}"


def _read_all(source: str, raw: dict[str, Any]) -> None:
    """Replace the fields by arrays of float32 or bool.

    Raises UserError if a field cannot be read completely, has a NaN or an infinity, or if a flag is neither 0
    nor 1.
    """
    for field, stored in raw.items():
        values = read(source, field, stored)
        if values.ndim == 1 and field in _images.FIELDS:  # numbers of frames
            continue
        if field in FLAGS:
            if (bad := (values != 0) & (values != 1)).any():
                row = int(bad.argmax())
                raise UserError(f"{source}: field {field!r} is neither 0 nor 1 in row {row}: {values[row]}")
            raw[field] = np.ascontiguousarray(values, bool)
            continue
        with np.errstate(over="ignore"):  # values beyond float32 become infinite, which is refused
            raw[field] = values = np.ascontiguousarray(values, np.float32)
        if not np.isfinite([values.min(), values.max()]).all():  # a NaN makes both NaN
            row = int(np.isfinite(values).reshape(len(values), -1).all(axis=1).argmin())
            raise UserError(f"{source}: field {field!r} is not finite in row {row}: {values[row]}")


def size_of(fields: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> int:
    """Bytes of fields, given by their shapes and types: as read or as float32, whichever is more; images stay
    as they are.

    Next observations count even if the fields lack them, because they are then created, unless they are
    images.
    """
    images = {key for key, (shape, _) in fields.items() if len(shape) > 2}
    sizes = {
        key: math.prod(shape) * (dtype.itemsize if key in images else max(dtype.itemsize, 4))
        for key, (shape, dtype) in fields.items()
    }
    created = 0 if images else sizes.get("observations", 0)
    return sum(({"next_observations": created} | sizes).values())


def fits(size: int) -> bool:
    """Whether arrays of `size` bytes can be loaded into the free memory, as far as that is known."""
    free = _memory.free_memory()
    return free is None or HEADROOM * size <= free


def check_memory(source: str, size: int, basis: str = "") -> None:
    """Raises UserError if arrays of `size` bytes do not fit into the free memory, as far as that is known.

    `basis` says what an estimated size is based on.
    """
    needed, free = HEADROOM * size, _memory.free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{source}: loading needs about {needed / 1e9:.2f} GB of memory{basis}, {free / 1e9:.2f} GB are "
            "free; save fewer transitions, or free some memory"
        )


def _kept(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The rows of `values` to keep, moved together in place, which avoids a copy."""
    count = 0
    for begin in range(0, len(values), CHUNK):
        part = values[begin : begin + CHUNK][keep[begin : begin + CHUNK]]
        values[count : count + len(part)] = part
        count += len(part)
    return values[:count]


def _identity(environment: Environment, env_id: str | None, logged_in: Environment | None) -> str:
    """What identifies the environment of a dataset: its name, and bounds of actions that the file gives."""
    if logged_in is None or logged_in.name != env_id:
        return environment.name
    return json.dumps(logged_in.to_json())


def _digest(environment: str, arrays: dict[str, np.ndarray]) -> str:
    """A 128-bit XXH3 hash of the environment's name and the hash of each array.

    It need not be cryptographic, because it only distinguishes datasets of one name. XXH3 is ten times as
    fast as SHA-256.
    """
    parts = [xxhash.xxh3_128_digest(arrays[field].data) for field in sorted(arrays)]
    return xxhash.xxh3_128_hexdigest(b"".join([environment.encode(), *parts]))


def _ends(
    raw: dict[str, np.ndarray], environment: Environment, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Take from `raw` where episodes terminated and where they were cut by a timeout: (N,) bool each."""
    terminated, timeouts = raw.pop("terminals"), raw.pop("timeouts", None)
    if timeouts is None:
        limit, name, index = environment.time_limit, environment.name, np.arange(len(terminated))
        first = np.maximum.accumulate(np.where(np.r_[True, terminated[:-1]], index, 0))
        steps = index - first + 1
        timeouts = ~terminated & (steps % limit == 0 if limit else False)
        place = f"at {name}'s limit of {limit} steps" if limit else f"nowhere: {name} has no time limit"
        unseen = (
            "; without next_observations too, each is taken from the next row, which is wrong at every end "
            "of an episode that the file does not mark"
        )
        place += "" if "next_observations" in raw else unseen
        notes.append(f"no timeouts field: {int(timeouts.sum())} episodes truncated {place}")
    if both := np.count_nonzero(terminated & timeouts):
        notes.append(f"{both} steps are both terminal and timeout: taken as terminal")
    return terminated, timeouts


def _warnings(
    raw: dict[str, np.ndarray], ended: np.ndarray, longest: int, environment: Environment
) -> list[str]:
    """Notes about data that may not be what it should be."""
    notes, limit = [], environment.time_limit
    if limit is not None and longest > limit:
        notes.append(
            f"an episode has {longest} steps, but {environment.name} truncates at {limit}: are timeouts "
            "missing? Transitions may lead from one episode into the next"
        )
    if "next_observations" in raw:
        differs = raw["next_observations"][:-1] != raw["observations"][1:]
        jumps = differs if differs.ndim == 1 else differs.any(axis=1)  # of images only numbers are compared
        if count := np.count_nonzero(jumps & ~ended[:-1]):
            notes.append(f"{count} next observations inside episodes are not the observation of the next row")
    space, actions = environment.actions, raw["actions"]
    if isinstance(space, environments.Discrete):  # other actions have been refused
        return notes
    # By columns, since NumPy takes twenty times as long for the extremes along rows.
    below = space.low.astype(np.float64) - [column.min() for column in actions.T]
    above = [column.max() for column in actions.T] - space.high.astype(np.float64)
    if (excess := max(below.max(), above.max())) > 1e-3:  # more than rounding
        notes.append(
            f"actions exceed {environment.name}'s bounds by up to {excess:.3g} and are clipped; are they in "
            "its units?"
        )
    return notes


def _apply_rules(
    raw: dict[str, np.ndarray],
    rules: DataRules,
    terminated: np.ndarray,
    timeouts: np.ndarray,
    truncated: np.ndarray,
    notes: list[str],
) -> np.ndarray:
    """Apply the data rules; return the transitions to keep: (N,) bool.

    `strict`: a transition truncated by a timeout or by the end of the log is kept if its next observation is
    known and dropped otherwise. A terminal transition without a next observation gets its own.

    `qlearning`, as D4RL's qlearning_dataset: next observations are the following rows, and every timeout and
    the last transition are dropped.
    """
    if rules == "strict" and "next_observations" in raw:
        return np.ones_like(terminated)
    observations = raw["observations"]
    following = raw["next_observations"] = np.concatenate([observations[1:], observations[-1:]])
    if rules == "qlearning":
        dropped = timeouts.copy()
        dropped[-1] = True
        notes.append(f"dropped {dropped.sum()} transitions as D4RL's qlearning_dataset does")
    else:
        following[terminated] = observations[terminated]
        dropped = truncated
        if dropped.any():
            notes.append(
                f"dropped {dropped.sum()} truncated transitions whose next observation is not in the log"
            )
    return ~dropped


def _integers(source: str, actions: np.ndarray, space: environments.Discrete, name: str) -> np.ndarray:
    """Discrete actions (N,) float32 as int64. Raises UserError if one is not the environment's."""
    last = space.first + space.size - 1
    bad = (actions != np.floor(actions)) | (actions < space.first) | (actions > last)
    if bad.any():
        row = int(bad.argmax())
        raise UserError(
            f"{source}: field 'actions' is {actions[row]:g} in row {row}, but actions of {name} are "
            f"whole numbers from {space.first} to {last}; is this the right environment?"
        )
    return actions.astype(np.int64)
