"""Checks and hashes of a log that look at every number, computed in threads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import xxhash

from seqeval.errors import UserError

CHUNK = 8_192  # rows processed together: they take little memory and fit into the cache
SCAN_BYTES = 2**19  # bytes that a thread scans at a time, since it waits for its turn after each


@dataclass(frozen=True)
class _ScanResult:
    """Facts about one field. If a number is not finite, only `not_finite` is set."""

    not_finite: int | None  # the first row with such a number
    extremes: tuple[float, float] = (0.0, 0.0)  # the smallest and the largest number
    digest: bytes = b""  # of arrays that are final
    jumps: tuple[np.ndarray, ...] = ()  # rows whose next observation is not the observation of the next row


class Scan:
    """Checks and hashes that look at every number, computed in threads while the next fields are read."""

    def __init__(self, final: bool) -> None:
        """`final` arrays are hashed at once; others may lose rows and are hashed in `digest`."""
        self._final = final
        self._pool = ThreadPoolExecutor()
        self._arrays: dict[str, np.ndarray] = {}
        self._results: dict[str, Future[_ScanResult]] = {}

    def start(self, field: str, values: np.ndarray) -> None:
        """Scan a field. Observations must come before the next observations."""
        self._arrays[field] = values
        observations = self._arrays["observations"] if field == "next_observations" else None
        self._results[field] = self._pool.submit(_scan, values, self._final, observations)

    def check_finite(self, source: str, raw: dict[str, np.ndarray]) -> None:
        """Wait for the scan. Raises UserError if a field has a NaN or an infinity."""
        for field, values in raw.items():
            if (row := self._results[field].result().not_finite) is not None:
                raise UserError(f"{source}: field {field!r} is not finite in row {row}: {values[row]}")
        if not self._final:
            self._arrays.clear()  # to free memory as early as possible

    def extremes(self, field: str) -> tuple[float, float]:
        """The smallest and the largest number of a field."""
        return self._results[field].result().extremes

    def jumps(self, ended: np.ndarray) -> int:
        """The number of next observations inside episodes that are not the observation of the next row."""
        if "next_observations" not in self._results:
            return 0
        return sum(int((~ended[rows]).sum()) for rows in self._results["next_observations"].result().jumps)

    def digest(self, environment: str, arrays: dict[str, np.ndarray]) -> str:
        """A 128-bit XXH3 hash of the environment's name and the hash of each array.

        It need not be cryptographic, because it only distinguishes datasets of one name. SHA-256 would take
        twice as long as reading the arrays, XXH3 a fifth of that time.
        """
        known = {
            field: self._results[field].result().digest
            for field, values in self._arrays.items()
            if values is arrays[field]
        }
        rest = sorted(arrays.keys() - known.keys())
        known |= zip(rest, self._pool.map(_hash, (arrays[field] for field in rest)), strict=True)
        parts = [environment.encode(), *(known[field] for field in sorted(arrays))]
        return xxhash.xxh3_128_hexdigest(b"".join(parts))


def _scan(values: np.ndarray, final: bool, observations: np.ndarray | None) -> _ScanResult:
    """Scan a field in chunks, which stay in the cache during a scan.

    `observations` are given if `values` are the next observations, to be compared with them.
    """
    lowest, highest, digest = math.inf, -math.inf, xxhash.xxh3_128()
    jumps: list[np.ndarray] = []
    for rows in chunks(len(values), max(1, SCAN_BYTES * len(values) // values.nbytes)):
        part = values[rows]
        # A NaN makes both NaN. Computing them takes less time than testing each number.
        low, high = float(part.min()), float(part.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = np.isfinite(part)
            row = rows.start + int(np.argmin(finite if part.ndim == 1 else finite.all(axis=1)))
            return _ScanResult(row)
        lowest, highest = min(lowest, low), max(highest, high)
        if final:
            digest.update(part.data)
        if observations is not None:
            following = observations[rows.start + 1 : rows.stop + 1]
            # Few numbers differ: finding them takes half as long as comparing row by row.
            different = np.flatnonzero(part[: len(following)] != following)
            if len(different):
                jumps.append((rows.start + np.unique(different // part.shape[1])).astype(np.int32))
    return _ScanResult(None, (lowest, highest), digest.digest(), tuple(jumps))


def _hash(values: np.ndarray) -> bytes:
    return xxhash.xxh3_128_digest(np.ascontiguousarray(values).data)


def chunks(length: int, size: int = CHUNK) -> Iterator[slice]:
    """The rows 0 to length - 1, `size` at a time."""
    return (slice(begin, min(begin + size, length)) for begin in range(0, length, size))
