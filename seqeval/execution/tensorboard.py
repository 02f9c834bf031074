"""Rows as scalars for TensorBoard, as they come: OUT/tensorboard/<dataset>/<variant>/seed-<n>, x in samples.

An event file is appended to row by row and opened for no longer than that: a study may have hundreds.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from typing import Any

from seqeval.errors import UserError
from seqeval.execution.storage import RunDirectory

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError as error:
    raise UserError(
        "log tensorboard: TensorBoard is not installed; pip install 'seqeval-rl[tensorboard]'"
    ) from error


class Scalars:
    """The event files of a run directory. They are made anew from the rows that are there, so that none is
    lost that an earlier call has not logged, and none is there twice."""

    def __init__(self, out: RunDirectory) -> None:
        self._out, self._folder = out, out.path / "tensorboard"
        self._file = f"events.out.tfevents.{time.time_ns()}.seqeval"  # who watches the folder reads it next
        self._last: dict[str, int] = {}  # of each cell, by its folder
        shutil.rmtree(self._folder, ignore_errors=True)
        for row in out.rows():
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of a row, which has the fields of `Row`. Where it goes back, because its cell
        went on from a checkpoint, what was written from there on no longer counts."""
        cell = self._out.cell(row["dataset"], row["variant"], row["seed"])
        name, x = str(cell.folder.relative_to(self._out.path / "cells")), row["samples"]
        events = []
        if name not in self._last:
            # Whoever has read the files of before forgets them.
            events += [Event(file_version="brain.Event:2"), _start(0)]
        elif x <= self._last[name]:
            events.append(_start(x))
        self._last[name] = x
        numbers = {"score": row["score"], "return_mean": row["return_mean"]} | {
            f"train/{key}": value for key, value in row["metrics"].items()
        }
        values = [
            Summary.Value(tag=tag, simple_value=number)
            for tag, number in numbers.items()
            if number is not None and math.isfinite(number)
        ]
        events.append(Event(step=x, summary=Summary(value=values)))
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / self._file).open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                event.wall_time = time.time()
                writer.write(event.SerializeToString())


def _start(step: int) -> Event:
    """From this step on, all that came before is void."""
    return Event(step=step, session_log=SessionLog(status=SessionLog.START))
