"""From the raw arrays of a log to a `Dataset`: the checks and the data rules."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from seqeval import environments
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset, Environment, Reference

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("next_observations", "timeouts")
VECTORS = ("observations", "actions", "next_observations")
FLAGS = ("terminals", "timeouts")

CHUNK = 8_192  # rows that are looked at together: what that takes is little memory, and stays in the cache
SCANNED = 2**19  # bytes that a thread looks at together: it waits for its turn after each
HEADROOM = 1.5  # peak memory of loading, in units of the arrays


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
    """Checks the raw fields of `source` against each other and the environment, and applies the data rules.

    The environment is `env_id`, or `logged_in` where that is another, as of `Dataset`.
    `raw` holds D4RL's fields by name: arrays, or those of an open HDF5 file, which are read here. It is
    emptied, so that a field is never in memory twice for long.
    A transition cut by a timeout or by the end of the log is kept where its next observation is known and
    dropped where it is not; a terminal transition without one gets its own. Where a step is both terminal
    and timeout, terminal wins. Without `timeouts` an episode is cut at the environment's time limit. With the
    rules `qlearning`, D4RL's qlearning_dataset, next observations are the following rows, and every timeout
    and the last transition are dropped.
    Raises UserError that names the source, the field and the first bad row.
    """
    environment = logged_in
    if environment is None:
        assert env_id is not None, "something must say what the numbers are"
        environment = environments.describe(env_id)
    numbered = isinstance(environment.actions, environments.Discrete)
    if numbered and "actions" in raw and raw["actions"].shape[1:] == (1,):
        raw["actions"] = read(source, "actions", raw["actions"])[:, 0]
    _check_shapes(source, raw, [field for field in VECTORS if not (numbered and field == "actions")])
    _check_width(source, raw, "observations", environment.observation_size, environment.name)
    if not numbered:
        _check_width(source, raw, "actions", environment.actions.size, environment.name)
    # Nothing is left out of a log that has its next observations: what is read will be the dataset's arrays.
    scan = _Scan(final=rules == "strict" and "next_observations" in raw)
    _read_all(source, raw, scan)

    notes = []
    terminated = raw.pop("terminals")
    timeouts = raw.pop("timeouts", None)
    if timeouts is None:
        timeouts = _cuts_at(environment.time_limit, terminated)
        limit = environment.time_limit
        called = environment.name
        where = f"{called}'s limit of {limit} steps" if limit else f"no step: {called} has no time limit"
        notes.append(f"no timeouts field: {int(timeouts.sum())} episodes cut at {where}")

    dropped_by_d4rl = timeouts
    truncated = timeouts > terminated  # the one and not the other
    if both := np.count_nonzero(timeouts) - np.count_nonzero(truncated):
        notes.append(f"{both} steps are both terminal and timeout: taken as terminal")
    ended = terminated | truncated
    truncated[-1] = not terminated[-1]  # the end of the log cuts as a timeout does
    scan.check_finite(source, raw)  # it has gone on meanwhile
    jumps = scan.jumps(ended)
    if isinstance(environment.actions, environments.Discrete):
        raw["actions"] = _numbered(source, raw["actions"], environment.actions, environment.name)
    first = np.r_[0, np.flatnonzero(ended[:-1]) + 1]
    episode = np.repeat(np.arange(len(first), dtype=np.int32), np.diff(np.r_[first, len(ended)]))
    episode_returns = _sums(raw["rewards"], first)
    complete = ended[np.r_[first[1:], len(ended)] - 1]
    longest, limit = int(np.diff(np.r_[first, len(ended)]).max()), environment.time_limit
    if limit is not None and longest > limit:
        notes.append(
            f"an episode of {longest} steps, {environment.name} cuts at {limit}: are timeouts missing? "
            "Transitions may run from one episode into the next"
        )
    if jumps:
        notes.append(f"{jumps} next observations inside episodes are not the observation of the next row")
    if outside := _outside(raw["actions"], scan.extremes("actions"), environment):
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
        digest=scan.digest(environment.name, arrays),
        notes=tuple(notes),
        card=card,
        logged_in=logged_in,
    )


def _check_shapes(source: str, raw: dict[str, Any], vectors: Collection[str]) -> None:
    """Raises UserError where fields are missing, hold no numbers or do not fit together; none is read for it.

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
    if "next_observations" in raw and raw["next_observations"].shape != raw["observations"].shape:
        shapes = raw["next_observations"].shape, raw["observations"].shape
        raise UserError(
            f"{source}: field 'next_observations' has shape {shapes[0]}, 'observations' {shapes[1]}"
        )


def read(source: str, field: str, values: Any) -> np.ndarray:
    """The array that a field of a file holds. Raises UserError where it cannot be read to its end."""
    try:
        return values if isinstance(values, np.ndarray) else values[...]
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{source}: field {field!r} cannot be read to its end ({reason})") from error


def _read_all(source: str, raw: dict[str, Any], scan: _Scan) -> None:
    """Makes the fields arrays in place, of float32 or bool. Raises UserError where one cannot be read to its
    end, and for flags that are none."""
    # The largest first: to scan them takes longest, and goes on while the others are read. Observations come
    # before the next ones, which are compared with them.
    for field in sorted(raw, key=lambda field: (-raw[field].size, field == "next_observations")):
        values = read(source, field, raw[field])
        if field in FLAGS:
            if values.dtype != bool and (bad := (values != 0) & (values != 1)).any():
                row = int(bad.argmax())
                raise UserError(f"{source}: field {field!r} is neither 0 nor 1 in row {row}: {values[row]}")
            raw[field] = np.ascontiguousarray(values, bool)
        else:
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused
                raw[field] = np.ascontiguousarray(values, np.float32)
            scan.begin(field, raw[field])


def size_of(fields: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> int:
    """Bytes of fields, given by their shapes and types: as they are read or then as numbers of four bytes,
    whichever is more, and with next observations, which are made where there are none."""
    sizes = {key: math.prod(shape) * max(dtype.itemsize, 4) for key, (shape, dtype) in fields.items()}
    return sum(({"next_observations": sizes.get("observations", 0)} | sizes).values())


def check_memory(source: str, size: int, how: str = "") -> None:
    """Raises UserError where arrays of `size` bytes do not fit into what memory is free, if that is known.

    `how` says where the size comes from, if it is a guess.
    """
    needed, free = HEADROOM * size, _free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{source}: loading needs about {needed / 1e9:.2f} GB of memory{how}, {free / 1e9:.2f} GB are "
            "free; save fewer transitions, or free some memory"
        )


def _free_memory() -> int | None:
    """Bytes that this machine can give without swapping; None where it does not say (Linux does)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _chunks(length: int, size: int = CHUNK) -> Iterator[slice]:
    """The rows 0 to length - 1, so many at a time."""
    return (slice(begin, min(begin + size, length)) for begin in range(0, length, size))


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


@dataclass(frozen=True)
class _Seen:
    """What there is to say of a field."""

    not_finite: int | None  # the first row that is not
    extremes: tuple[float, float]  # its least and its greatest number, where all of them are finite
    digest: bytes  # where all of them are finite and it was asked for
    apart: list[np.ndarray]  # rows of next observations that are not the observation of the row behind


class _Scan:
    """What looks at every number, and so takes long: whether it is finite, whether next observations are the
    following rows, and the hashes. It is done in threads beside the reading of what comes next."""

    def __init__(self, final: bool) -> None:
        """`final` arrays are hashed at once, others where the digest is asked for: they may lose rows."""
        self._final = final
        self._pool = ThreadPoolExecutor()
        self._arrays: dict[str, np.ndarray] = {}
        self._seen: dict[str, Future[_Seen]] = {}

    def begin(self, field: str, values: np.ndarray) -> None:
        """Observations go before the next ones, which are compared with them."""
        self._arrays[field] = values
        rows = self._arrays["observations"] if field == "next_observations" else None
        self._seen[field] = self._pool.submit(_see, values, self._final, rows)

    def check_finite(self, source: str, raw: dict[str, np.ndarray]) -> None:
        """Waits for the scan. Raises UserError where a field has NaN or an infinity."""
        for field, values in raw.items():
            if (row := self._seen[field].result().not_finite) is not None:
                raise UserError(f"{source}: field {field!r} is not finite in row {row}: {values[row]}")
        if not self._final:
            self._arrays.clear()  # so that they are in memory no longer than they are needed

    def extremes(self, field: str) -> tuple[float, float]:
        """The least and the greatest number of a field that is finite."""
        return self._seen[field].result().extremes

    def jumps(self, ended: np.ndarray) -> int:
        """How many next observations inside episodes are not the observation of the row behind; 0 where there
        are none."""
        if "next_observations" not in self._seen:
            return 0
        return sum(int((~ended[rows]).sum()) for rows in self._seen["next_observations"].result().apart)

    def digest(self, environment: str, arrays: dict[str, np.ndarray]) -> str:
        """128 bits of XXH3 over the environment's name and each array's own.

        Not a cryptographic hash: it tells apart two datasets of one name, and nobody gains by making two that
        have the same. sha256 took twice as long as reading the arrays, this takes a fifth of it.
        """
        known = {
            field: self._seen[field].result().digest
            for field, values in self._arrays.items()
            if values is arrays[field]
        }
        rest = sorted(arrays.keys() - known.keys())
        known |= zip(rest, self._pool.map(_hash, (arrays[field] for field in rest)), strict=True)
        parts = [environment.encode(), *(known[field] for field in sorted(arrays))]
        return xxhash.xxh3_128_hexdigest(b"".join(parts))


def _see(values: np.ndarray, hashed: bool, observations: np.ndarray | None) -> _Seen:
    """All of it in chunks, which are still in the cache when they are looked at again. `observations` are
    there where `values` are the next ones."""
    lowest, highest, digest = math.inf, -math.inf, xxhash.xxh3_128()
    apart: list[np.ndarray] = []
    for rows in _chunks(len(values), max(1, SCANNED * len(values) // values.nbytes)):
        part = values[rows]
        # NaN where there is one. Both take less time than it takes to ask each number whether it is finite.
        low, high = float(part.min()), float(part.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = np.isfinite(part)
            row = rows.start + int(np.argmin(finite if part.ndim == 1 else finite.all(axis=1)))
            return _Seen(row, (low, high), b"", [])
        lowest, highest = min(lowest, low), max(highest, high)
        if hashed:
            digest.update(part.data)
        if observations is not None:
            behind = observations[rows.start + 1 : rows.stop + 1]
            # Few differ: to look for them takes half as long as to ask each row whether its numbers agree.
            numbers = np.flatnonzero(part[: len(behind)] != behind)
            if len(numbers):
                apart.append((rows.start + np.unique(numbers // part.shape[1])).astype(np.int32))
    return _Seen(None, (lowest, highest), digest.digest(), apart)


def _hash(values: np.ndarray) -> bytes:
    return xxhash.xxh3_128_digest(np.ascontiguousarray(values).data)


def _sums(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """float64 sums of the values from each row of `first` up to the next of them: of some episodes at a time,
    as all values in float64 would take twice their memory."""
    groups = np.unique(np.r_[np.searchsorted(first, np.arange(0, len(values), 8 * CHUNK)), len(first)])
    ends = np.r_[first, len(values)]
    parts = [
        np.add.reduceat(values[ends[begin] : ends[end]].astype(np.float64), first[begin:end] - first[begin])
        for begin, end in pairwise(groups)
    ]
    return np.concatenate(parts)


def _cuts_at(limit: int | None, terminated: np.ndarray) -> np.ndarray:
    """Where episodes of at most `limit` steps were cut, given where they terminated: (n,) bool."""
    if limit is None:
        return np.zeros_like(terminated)
    index = np.arange(len(terminated))
    begins = np.r_[0, np.flatnonzero(terminated[:-1]) + 1]
    step = index - begins[np.searchsorted(begins, index, side="right") - 1]
    return (step % limit == limit - 1) & ~terminated


def _check_width(source: str, raw: dict[str, np.ndarray], field: str, expected: int, called: str) -> None:
    """Raises UserError where a row of a field is longer or shorter than the environment's."""
    if (width := raw[field].shape[1]) != expected:
        raise UserError(
            f"{source}: field {field!r} has {width} numbers a row, but {field} of {called} have {expected}; "
            "is this the right environment?"
        )


def _numbered(source: str, actions: np.ndarray, space: environments.Discrete, called: str) -> np.ndarray:
    """Discrete actions (n,) float32 as int64. Raises UserError where one is not the environment's."""
    last = space.first + space.size - 1
    bad = (actions != np.floor(actions)) | (actions < space.first) | (actions > last)
    if bad.any():
        row = int(bad.argmax())
        raise UserError(
            f"{source}: field 'actions' is {actions[row]:g} in row {row}, but actions of {called} are "
            f"whole numbers from {space.first} to {last}; is this the right environment?"
        )
    return actions.astype(np.int64)


def _outside(actions: np.ndarray, extremes: tuple[float, float], environment: Environment) -> str | None:
    """A note where actions, of which the least and the greatest number are known, leave the environment's
    bounds by more than rounding."""
    space = environment.actions
    if isinstance(space, environments.Discrete):  # which is refused
        return None
    lowest, highest = extremes
    if lowest >= space.low.max() and highest <= space.high.min():
        return None
    # By columns: NumPy takes several times as long for both along the rows.
    bounds = zip(actions.T, space.low, space.high, strict=True)
    excess = max(
        max(float(low) - float(mine.min()), float(mine.max()) - float(high)) for mine, low, high in bounds
    )
    if excess <= 1e-3:
        return None
    return f"actions leave {environment.name}'s bounds by up to {excess:.3g}: clipped; are they in its units?"
