"""Episodes that were run after a study, beside the rows of its runs, which never change.

runs/<dataset>/<variant>/seed-<n>/episodes.jsonl has a line for each `EpisodeBlock`, with a digest. Rows
without returns take those of the blocks for `rows` when they are read (`storage.frame`). Blocks for `choice`
are drawn where a bandit needs them, so their mean would be biased: no row takes them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from seqeval.errors import UserError, one_line
from seqeval.execution.validation import checksum, refuse_links

FILE = "episodes.jsonl"
REPAIR = "remove the file and run the same command again"


@dataclass(frozen=True)
class EpisodeBlock:
    """Consecutive episodes of the policy at a point of a run."""

    use: Literal["rows", "choice"]
    samples: int  # of the point
    first: int  # the number of the first episode; its start depends on this, the seed and the point alone
    env: str
    backend: str
    returns: list[float]
    lengths: list[int]
    successes: list[bool] | None


class EpisodeFile:
    """The blocks of a run."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def blocks(self) -> list[EpisodeBlock]:
        """All blocks; an incomplete last line is left out. Raises UserError for a damaged line."""
        if not self.path.exists():
            return []
        refuse_links(self.path.parent)
        lines = self.path.read_bytes().split(b"\n")[:-1]
        return [self._block(number, line) for number, line in enumerate(lines, 1)]

    def _block(self, number: int, line: bytes) -> EpisodeBlock:
        try:
            values = json.loads(line)
            recorded = values.pop("digest")
            if recorded != checksum(values):
                raise ValueError("its digest is not that of its content")
            block = EpisodeBlock(**values)
            if not all(isinstance(value, int | float) for value in block.returns):
                raise ValueError("a return is not a number")
            return block
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.path}: line {number} is damaged ({one_line(error)}); {REPAIR}") from error

    def append(self, block: EpisodeBlock) -> None:
        """Stores a block; it is on the disk when this returns."""
        refuse_links(self.path.parent)
        content = self.path.read_bytes() if self.path.exists() else b""
        values = asdict(block)
        with self.path.open("ab") as file:
            file.truncate(content.rfind(b"\n") + 1)  # what a killed process left
            file.write(json.dumps(values | {"digest": checksum(values)}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def in_order(blocks: Sequence[EpisodeBlock], samples: int, use: str, first: int = 0) -> list[EpisodeBlock]:
    """The blocks of a point that follow each other from episode `first` on."""
    found = []
    for block in sorted(blocks, key=lambda block: block.first):
        if (block.use, block.samples, block.first) == (use, samples, first):
            found.append(block)
            first += len(block.returns)
    return found


def with_episodes(
    row: dict[str, Any], blocks: Sequence[EpisodeBlock], reference: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A row without returns with those of the stored episodes, if there are any."""
    found = in_order(blocks, row["samples"], "rows")
    if not found:
        return row
    returns = [value for block in found for value in block.returns]
    mean = sum(returns) / len(returns)
    if not math.isfinite(mean):
        return row | {"status": "failed"}
    successes = [s for block in found if block.successes is not None for s in block.successes]
    score = None
    if reference is not None:
        low, high = reference["minimum"], reference["maximum"]
        score = 100.0 * (mean - low) / (high - low)
    return row | {
        "episode_returns": returns,
        "episode_lengths": [value for block in found for value in block.lengths],
        "episode_successes": successes or None,
        "return_mean": mean,
        "score": score,
    }


class EpisodesOfStudy:
    """The stored episodes of a study directory, for its rows."""

    def __init__(self, study: Mapping[str, Any]) -> None:
        self._datasets = study["datasets"]
        self._blocks: dict[Path, list[EpisodeBlock]] = {}

    def added(self, row: dict[str, Any], folder: Path) -> dict[str, Any]:
        """The row of a run, with stored episodes if it has no returns of its own."""
        if row.get("episode_returns") or row.get("return_mean") is not None or row["status"] != "ok":
            return row
        if folder not in self._blocks:
            self._blocks[folder] = EpisodeFile(folder).blocks()
        if not self._blocks[folder]:
            return row
        return with_episodes(row, self._blocks[folder], self._datasets[row["dataset"]]["reference"])
