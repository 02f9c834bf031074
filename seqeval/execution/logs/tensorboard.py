"""Rows as scalars for TensorBoard: OUT/tensorboard/<dataset>/<variant>/seed-<n>, with samples as the step.

An event file is opened only while a row is appended, since a study may have hundreds of them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

from seqeval.errors import UserError
from seqeval.execution.logs import RowLog, finite_numbers
from seqeval.execution.storage import StudyDirectory

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError as error:
    raise UserError(
        "log tensorboard: TensorBoard is not installed; pip install 'seqeval-rl[tensorboard]'"
    ) from error


class Log(RowLog):
    """The event files of a study directory. They are written anew from the stored rows, so that rows of
    earlier calls without logging are included, and none is there twice."""

    def __init__(self, out: StudyDirectory) -> None:
        super().__init__(out)
        self._folder = out.path / "tensorboard"
        self._file = f"events.out.tfevents.{time.time_ns()}.seqeval"  # TensorBoard reads the newest
        self._last: dict[str, int] = {}  # samples of the last row, by run
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row. One of a run that resumed from a checkpoint invalidates what was written from its
        step on."""
        run = self._out.run(row["dataset"], row["variant"], row["seed"])
        name, x = str(run.folder.relative_to(self._out.path / "runs")), row["samples"]
        events = []
        if name not in self._last:
            # TensorBoard drops what it has read from earlier files.
            events += [Event(file_version="brain.Event:2"), _start(0)]
        elif x <= self._last[name]:
            events.append(_start(x))
        self._last[name] = x
        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in finite_numbers(row).items()]
        events.append(Event(step=x, summary=Summary(value=values)))
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / self._file).open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                event.wall_time = time.time()
                writer.write(event.SerializeToString())


def _start(step: int) -> Event:
    """Invalidates all earlier events from this step on."""
    return Event(step=step, session_log=SessionLog(status=SessionLog.START))
