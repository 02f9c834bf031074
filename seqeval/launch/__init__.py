"""From a study to its rows: what is missing in a run directory is done, what is there is left alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from seqeval.errors import UserError
from seqeval.launch import local
from seqeval.settings import Study
from seqeval.storage import RunDirectory, frame
from seqeval.study import Resolved, resolve

if TYPE_CHECKING:
    import pandas as pd


class WorkFailed(Exception):
    """Pieces of a study raised; the message holds their tracebacks. The others are finished and stored."""


def run(
    study: Study, out: str | Path, jobs: int | None = None, console: Console | None = None
) -> pd.DataFrame:
    """Runs what is not finished of a study in the directory `out`, and returns all of its rows.

    `jobs` pieces run at a time, as many as there are cores unless told (one on a GPU); results do not depend
    on it. Called with more than one job from a script, the call must stand under `if __name__ ==
    "__main__":`, since the pieces run in fresh processes. Raises UserError before anything is trained, for
    whatever the user can put right, and WorkFailed at the end if a piece failed.
    """
    console = console or Console(stderr=True)
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs: must be at least 1, not {jobs}")
    resolved = resolve(study)
    directory = RunDirectory(Path(out))
    with directory.locked():
        directory.admit(resolved.describe())
        for note in resolved.notes:
            console.print(f"note: {note}", highlight=False, markup=False)
        _finish(resolved, directory, jobs, console)
    return frame([directory.path])


def _finish(resolved: Resolved, directory: RunDirectory, jobs: int | None, console: Console) -> None:
    """Does what is not finished yet."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = jobs or (1 if resolved.device == "cuda" else cores)
    works = resolved.pending(directory, workers=jobs)
    if not works:
        console.print(f"{directory.path}: every cell is finished", highlight=False)
    failures = local.run(works, directory, min(jobs, len(works)), console) if works else []
    if failures:
        raise WorkFailed("\n".join(failures))
