"""Slurm's queue, as squeue and scancel show it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from seqeval.errors import UserError
from seqeval.execution.driver_state import DriverState


def arrays(jobs: Collection[str]) -> list[str]:
    """The ids of the job arrays that these tasks belong to."""
    return sorted({job.partition("_")[0] for job in jobs})


def queued(jobs: Collection[str]) -> set[str]:
    """Those of Slurm's jobs that wait or run. Raises UserError if Slurm does not answer."""
    if not jobs:
        return set()
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(arrays(jobs))}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode and "Invalid job id" not in result.stderr:  # the answer for jobs that ended long ago
        raise UserError(f"squeue: {' '.join(result.stderr.split()) or result.returncode}")
    return set(jobs) & set(result.stdout.split())


def refuse_while_queued(out: Path) -> None:
    """Raises UserError if jobs of an earlier call are still in Slurm's queue."""
    if shutil.which("squeue") is None:
        return
    if left := queued(DriverState.read(out).queued):
        raise UserError(
            f"{out}: {len(left)} of its jobs are in Slurm's queue or running; wait for them (`seqeval status "
            f"{out} --watch`), or cancel them first (`scancel {' '.join(arrays(left))}`)"
        )
