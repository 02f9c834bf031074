"""A job on another machine, which must see the study directory under the same path.

A job stores its rows and its progress in the study directory as everywhere, and the driver reads them there.
"""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from seqeval.execution.driver_state import DriverState
from seqeval.execution.storage import StudyDirectory
from seqeval.execution.worker import Failure, JobPayload, run_payload


@dataclass(frozen=True)
class RemoteJob:
    """A job with the surroundings it expects."""

    payload: JobPayload
    folder: Path  # the working directory, for relative paths of datasets
    data: str | None  # $SEQEVAL_DATA

    @classmethod
    def create(cls, payload: JobPayload) -> RemoteJob:
        return cls(payload, Path.cwd(), os.environ.get("SEQEVAL_DATA"))

    def run(self, stop: threading.Event) -> Failure | None:
        """Runs what is left of the job; returns why it failed, if it did. It saves itself and ends early once
        `stop` is set or the driver requests it."""
        if not StudyDirectory(self.payload.out).study_file.exists():
            problem = f"{socket.gethostname()} does not see {self.payload.out}"
            text = f"{self.payload.title}: {problem}; give an --out that all machines see"
            return Failure(text, fixable=True)
        if self.folder.is_dir():
            os.chdir(self.folder)
        if self.data is not None:
            os.environ["SEQEVAL_DATA"] = self.data
        if DriverState.read(self.payload.out).stop:
            return None
        events = list(run_payload(self.payload, stop))
        return next((event for event in events if isinstance(event, Failure)), None)
