"""DIR/driver.json: what the driver of a study requests from its jobs, and what it has put into a queue.

Every process opens a file anew to look at it, since that is when NFS asks the server for changes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from seqeval import atomic_io


@dataclass(frozen=True)
class DriverState:
    stop: bool = False  # the jobs are to save themselves and end
    queued: tuple[str, ...] = ()  # ids of jobs in Slurm's queue

    def write(self, out: Path) -> None:
        atomic_io.save_json(out / "driver.json", asdict(self))

    @staticmethod
    def remove(out: Path) -> None:
        (out / "driver.json").unlink(missing_ok=True)

    @classmethod
    def read(cls, out: Path) -> DriverState:
        try:
            values = json.loads((out / "driver.json").read_text())
        except FileNotFoundError:
            return cls()
        return cls(values["stop"], tuple(values["queued"]))
