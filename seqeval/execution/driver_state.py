"""DIR/driver.json: what the driver of a study requests from its jobs, and what it has put into a queue.

Every process opens a file anew to look at it, since that is when NFS asks the server for changes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from seqeval import atomic_io
from seqeval.errors import UserError


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
        """What was written last. Raises UserError if the file is damaged."""
        try:
            values = json.loads((out / "driver.json").read_text())
            return cls(bool(values["stop"]), tuple(map(str, values["queued"])))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{out / 'driver.json'}: damaged; remove it once no job of the study is in a cluster's queue"
            ) from error
