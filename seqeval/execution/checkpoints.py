"""Checkpoints of a job in the files of its runs, and what happens when a job is killed.

While a job trains, it replaces the checkpoint of each of its runs every `save_every` seconds, and appends
every row to its run's file before training continues. A checkpoint holds the complete state of the run's
replicas and the size of the row file at that moment. When a job is killed and the study is run again:

1. `remaining` finds the runs that have not finished and, from their checkpoints, how many updates they
   have made; runs with equal numbers in the same phase resume in one job. A run without a usable checkpoint
   starts again.
2. `RunFiles.load` cuts each row file back to the size in the checkpoint and returns the states.
3. `training.Trainer` loads the states and continues; rows after the checkpoint are computed again, with the
   same values to the last bit on a CPU.

A job that is asked to stop (Ctrl-C, SIGTERM, a time limit, `driver.json`) saves a checkpoint first. Some jobs
are resumed without a new command: one whose process dies, once, if the local launcher runs several in
parallel; tasks of Ray, up to `ray.retries` times; jobs of Slurm at their time limit, or if the cluster
requeues them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from seqeval.execution.storage import Run
from seqeval.training.job import Job, Replica, RunKey
from seqeval.training.trainer import State


class RunFiles:
    """Keeps the checkpoints of a job in the files of its runs; see `training.trainer.Checkpoints`."""

    def __init__(
        self,
        job: Job,
        runs: Mapping[RunKey, Run],
        save_every: float,
        keeps_policies: bool,
        stop: threading.Event,
        lock: threading.Lock,
    ) -> None:
        """`lock` is held while a run is finished, so that nobody else writes to its folder."""
        self._job, self._runs, self._save_every = job, runs, save_every
        self.keeps_policies = keeps_policies
        self._stop, self._lock = stop, lock
        self._saved = time.monotonic()

    def load(self) -> dict[Replica, State] | None:
        """Opens the runs, and returns the states that they resume from; None if they start."""
        states: dict[Replica, State] = {}
        for key, run in self._runs.items():
            checkpoint = run.load_checkpoint() if self._job.done else None
            run.open(checkpoint)
            if checkpoint is not None:
                replicas = [replica for replica in self._job.replicas if replica.run == key]
                states |= zip(replicas, checkpoint["states"], strict=True)
        return states or None

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def due(self) -> bool:
        return self._stop.is_set() or time.monotonic() - self._saved > self._save_every

    def keep_policies(self, samples: Mapping[Replica, int], policies: Mapping[Replica, State]) -> None:
        for replica, policy in policies.items():
            self._runs[replica.run].keep_policy(samples[replica], policy)

    def save(self, updates: int, states: Mapping[Replica, State]) -> None:
        for key, values in _by_run(states).items():
            self._runs[key].save_checkpoint(updates, values)
        self._saved = time.monotonic()

    def finish(self, updates: int, agents: Mapping[Replica, State]) -> None:
        for key, values in _by_run(agents).items():
            # The last of a run's replicas has seen all of the data.
            with self._lock:
                self._runs[key].finish({"updates": updates, **values[-1]})

    def close(self) -> None:
        for run in self._runs.values():
            run.close()


def _by_run(states: Mapping[Replica, State]) -> dict[RunKey, list[State]]:
    found: dict[RunKey, list[State]] = {}
    for replica, state in states.items():
        found.setdefault(replica.run, []).append(state)
    return found
