"""The runs of a job in a study directory: their files, and which of them remain to be made."""

from __future__ import annotations

from dataclasses import replace

from seqeval.execution.storage import Run, StudyDirectory
from seqeval.training.job import Job, Replica, RunKey


def remaining(job: Job, directory: StudyDirectory) -> list[Job]:
    """The runs of a job that have not finished, as jobs that resume after equal numbers of updates, in the
    same phase."""
    found: dict[tuple[int, int | None], list[Replica]] = {}
    done: dict[RunKey, int] = {}
    for key, run in files(job, directory).items():
        if not run.finished:
            checkpoint = run.load_checkpoint()
            done[key] = 0 if checkpoint is None else checkpoint["updates"]
    for replica in job.replicas:
        if replica.run in done:
            updates, offline = done[replica.run], replica.schedule.updates
            found.setdefault((updates, offline if updates >= offline else None), []).append(replica)
    return [replace(job, replicas=tuple(replicas), done=updates) for (updates, _), replicas in found.items()]


def files(job: Job, directory: StudyDirectory) -> dict[RunKey, Run]:
    """The files of a job's runs."""
    return {key: directory.run(*key) for key in job.runs}
