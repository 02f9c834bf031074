"""From the raw arrays of a log to a `Dataset`: the checks and the data rules."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from seqeval import environments
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset, Reference

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("next_observations", "timeouts")
VECTORS = ("observations", "actions", "next_observations")
FLAGS = ("terminals", "timeouts")

CHUNK = 8_192  # rows that are looked at together: what that takes is little memory, and stays in the cache
HEADROOM = 1.5  # peak memory of loading, in units of the arrays


def assemble(
    source: str,
    name: str,
    raw: dict[str, np.ndarray],
    env_id: str,
    reference: Reference | None,
    card: dict[str, Any],
    rules: DataRules,
) -> Dataset:
    """Checks the raw fields of `source` against each other and the environment, and applies the data rules.

    `raw` holds D4RL's fields by name and is emptied, so that a field is never in memory twice for long.
    A transition cut by a timeout or by the end of the log is kept where its next observation is known and
    dropped where it is not; a terminal transition without one gets its own. Where a step is both terminal
    and timeout, terminal wins. Without `timeouts` an episode is cut at the environment's time limit. With the
    rules `qlearning`, D4RL's qlearning_dataset, next observations are the following rows, and every timeout
    and the last transition are dropped.
    Raises UserError that names the source, the field and the first bad row.
    """
    environment = environments.describe(env_id)
    numbered = isinstance(environment.actions, environments.Discrete)
    if numbered and "actions" in raw and raw["actions"].shape[1:] == (1,):
        raw["actions"] = raw["actions"][:, 0]
    _check(source, raw, [field for field in VECTORS if not (numbered and field == "actions")])
    _check_width(source, raw, "observations", environment.observation_size, env_id)
    if isinstance(environment.actions, environments.Discrete):
        raw["actions"] = _numbered(source, raw["actions"], environment.actions, env_id)
    else:
        _check_width(source, raw, "actions", environment.actions.size, env_id)

    notes = []
    terminated = raw.pop("terminals")
    if "timeouts" in raw:
        timeouts = raw.pop("timeouts")
        if both := int((terminated & timeouts).sum()):
            notes.append(f"{both} steps are both terminal and timeout: taken as terminal")
    else:
        timeouts = _cuts_at(environment.time_limit, terminated)
        limit = environment.time_limit
        where = f"{env_id}'s limit of {limit} steps" if limit else f"no step: {env_id} has no time limit"
        notes.append(f"no timeouts field: {int(timeouts.sum())} episodes cut at {where}")

    dropped_by_d4rl = timeouts
    timeouts = timeouts & ~terminated
    ended = terminated | timeouts
    truncated = timeouts.copy()
    truncated[-1] = not terminated[-1]  # the end of the log cuts as a timeout does
    first = np.flatnonzero(np.r_[True, ended[:-1]])
    episode = np.repeat(np.arange(len(first), dtype=np.int32), np.diff(np.r_[first, len(ended)]))
    episode_returns = np.add.reduceat(raw["rewards"].astype(np.float64), first)
    complete = ended[np.r_[first[1:], len(ended)] - 1]
    longest, limit = int(np.diff(np.r_[first, len(ended)]).max()), environment.time_limit
    if limit is not None and longest > limit:
        notes.append(
            f"an episode of {longest} steps, {env_id} cuts at {limit}: are timeouts missing? "
            "Transitions may run from one episode into the next"
        )
    if "next_observations" in raw:
        jumps = int((~ended[:-1] & ~_follows(raw["observations"], raw["next_observations"])).sum())
        if jumps:
            notes.append(f"{jumps} next observations inside episodes are not the observation of the next row")
    if outside := _outside(raw["actions"], environment):
        notes.append(outside)

    keep = np.ones_like(terminated)
    from_rows = rules == "qlearning" or "next_observations" not in raw
    if from_rows:
        raw["next_observations"] = np.concatenate([raw["observations"][1:], raw["observations"][-1:]])
    if rules == "qlearning":
        keep = ~dropped_by_d4rl
        keep[-1] = False
        notes.append(f"dropped {int((~keep).sum())} transitions as D4RL's qlearning_dataset does")
    elif from_rows:
        raw["next_observations"][terminated] = raw["observations"][terminated]
        keep = ~truncated
        if dropped := int(truncated.sum()):
            notes.append(f"dropped {dropped} cut transitions whose next observation is not in the log")
    if not keep.any():
        raise UserError(f"{source}: every transition is cut and none has a next observation to go on with")

    transitions = raw | {"terminated": terminated, "truncated": truncated, "episode": episode}
    raw.clear()
    arrays: dict[str, np.ndarray] = {}
    while transitions:  # one by one, so that a field is never in memory twice for long
        field, values = transitions.popitem()
        arrays[field] = values if keep.all() else _kept(values, keep)
    arrays |= {"episode_returns": episode_returns, "episode_complete": complete}
    for values in arrays.values():
        values.setflags(write=False)
    return Dataset(
        name=name,
        env_id=env_id,
        **arrays,
        segments=(len(arrays["rewards"]),),
        segment_names=(name,),
        reference=reference,
        digest=_digest(env_id, arrays),
        notes=tuple(notes),
        card=card,
    )


def _check(source: str, raw: dict[str, np.ndarray], vectors: Collection[str]) -> None:
    """Converts the fields in place to float32 or bool. Raises UserError for what cannot be used.

    A row of `vectors` is several numbers, a row of another field is one.
    """
    for field in REQUIRED:
        if field not in raw:
            raise UserError(
                f"{source}: field {field!r} is missing; it has {', '.join(sorted(raw)) or 'no fields'}"
            )
    length = raw["observations"].shape[0] if raw["observations"].ndim else 0
    for field, values in raw.items():
        if values.dtype.kind not in "fiub":
            raise UserError(f"{source}: field {field!r} holds {values.dtype}, not numbers")
        if values.ndim != (2 if field in vectors else 1):
            shape = "(transitions, size)" if field in vectors else "(transitions,)"
            raise UserError(f"{source}: field {field!r} has shape {values.shape}, expected {shape}")
        if values.size == 0:
            raise UserError(f"{source}: field {field!r} is empty")
        if len(values) != length:
            raise UserError(f"{source}: field {field!r} has {len(values)} rows, 'observations' has {length}")
        if field in FLAGS:
            if values.dtype != bool and (bad := (values != 0) & (values != 1)).any():
                row = int(bad.argmax())
                raise UserError(f"{source}: field {field!r} is neither 0 nor 1 in row {row}: {values[row]}")
            raw[field] = values.astype(bool)
            continue
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
            values = raw[field] = np.ascontiguousarray(values, np.float32)
        for rows in _chunks(length):
            finite = np.isfinite(values[rows])
            if not finite.all():
                row = rows.start + int(np.argmin(finite if values.ndim == 1 else finite.all(axis=1)))
                raise UserError(f"{source}: field {field!r} is not finite in row {row}: {values[row]}")
    if "next_observations" in raw and raw["next_observations"].shape != raw["observations"].shape:
        shapes = raw["next_observations"].shape, raw["observations"].shape
        raise UserError(
            f"{source}: field 'next_observations' has shape {shapes[0]}, 'observations' {shapes[1]}"
        )


def check_memory(source: str, size: int) -> None:
    """Raises UserError where arrays of `size` bytes do not fit into what memory is free, if that is known."""
    needed, free = HEADROOM * size, _free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{source}: loading needs about {needed / 1e9:.2f} GB of memory, {free / 1e9:.2f} GB are free; "
            "save fewer transitions, or free some memory"
        )


def _free_memory() -> int | None:
    """Bytes that this machine can give without swapping; None where it does not say (Linux does)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _chunks(length: int) -> Iterator[slice]:
    """The rows 0 to length - 1, CHUNK at a time."""
    return (slice(begin, min(begin + CHUNK, length)) for begin in range(0, length, CHUNK))


def _kept(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The rows of `values` to keep, moved together in their own memory, which spares a second copy; memory
    that belongs to another array is left as it is."""
    if not (values.flags.owndata and values.flags.writeable):
        return values[keep]
    count = 0
    for rows in _chunks(len(values)):
        part = values[rows][keep[rows]]
        values[count : count + len(part)] = part
        count += len(part)
    return values[:count]


def _follows(observations: np.ndarray, next_observations: np.ndarray) -> np.ndarray:
    """Whether the next observation of each row but the last is the observation of the row behind it: (n - 1,)
    bool."""
    before, behind = next_observations[:-1], observations[1:]
    return np.concatenate(
        [(before[rows] == behind[rows]).all(axis=1) for rows in _chunks(len(before))] or [np.zeros(0, bool)]
    )


def _digest(env_id: str, arrays: dict[str, np.ndarray]) -> str:
    """sha256 over the environment's name and each array's own sha256.

    That is what takes the longest of all that is done to large data, hence threads: hashing runs beside
    hashing.
    """

    def of(field: str) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(arrays[field]).data).digest()

    with ThreadPoolExecutor() as pool:
        return hashlib.sha256(b"".join([env_id.encode(), *pool.map(of, sorted(arrays))])).hexdigest()


def _cuts_at(limit: int | None, terminated: np.ndarray) -> np.ndarray:
    """Where episodes of at most `limit` steps were cut, given where they terminated: (n,) bool."""
    if limit is None:
        return np.zeros_like(terminated)
    index = np.arange(len(terminated))
    begins = np.r_[0, np.flatnonzero(terminated[:-1]) + 1]
    step = index - begins[np.searchsorted(begins, index, side="right") - 1]
    return (step % limit == limit - 1) & ~terminated


def _check_width(source: str, raw: dict[str, np.ndarray], field: str, expected: int, env_id: str) -> None:
    """Raises UserError where a row of a field is longer or shorter than the environment's."""
    if (width := raw[field].shape[1]) != expected:
        raise UserError(
            f"{source}: field {field!r} has {width} numbers a row, but {field} of {env_id} have {expected}; "
            "is this the right environment?"
        )


def _numbered(source: str, actions: np.ndarray, space: environments.Discrete, env_id: str) -> np.ndarray:
    """Discrete actions (n,) float32 as int64. Raises UserError where one is not the environment's."""
    last = space.first + space.size - 1
    bad = (actions != np.floor(actions)) | (actions < space.first) | (actions > last)
    if bad.any():
        row = int(bad.argmax())
        raise UserError(
            f"{source}: field 'actions' is {actions[row]:g} in row {row}, but actions of {env_id} are "
            f"whole numbers from {space.first} to {last}; is this the right environment?"
        )
    return actions.astype(np.int64)


def _outside(actions: np.ndarray, environment: environments.Environment) -> str | None:
    """A note where actions leave the environment's bounds by more than rounding."""
    space = environment.actions
    if isinstance(space, environments.Discrete):  # which is refused
        return None
    # By columns: NumPy takes several times as long for both along the rows.
    bounds = zip(actions.T, space.low, space.high, strict=True)
    excess = max(
        max(float(low) - float(mine.min()), float(mine.max()) - float(high)) for mine, low, high in bounds
    )
    if excess <= 1e-3:
        return None
    return (
        f"actions leave {environment.env_id}'s bounds by up to {excess:.3g}: clipped; are they in its units?"
    )
