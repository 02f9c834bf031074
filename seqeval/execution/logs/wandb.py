"""Rows for Weights & Biases: a run of the project `seqeval` for each run of the study, with samples as the x
axis. Files are in OUT/wandb; WANDB_MODE=offline uploads nothing, `wandb sync` does that later."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from seqeval.errors import UserError, one_line
from seqeval.execution.logs import RowLog, finite_numbers
from seqeval.execution.storage import StudyDirectory
from seqeval.training.job import RunKey

try:
    import wandb
except ImportError as error:
    raise UserError("log wandb: wandb is not installed; pip install 'seqeval-rl[wandb]'") from error

PROJECT = "seqeval"


class Log(RowLog):
    """The runs of a study directory. Each is written anew from the stored rows under the same id, which
    replaces what an earlier command wrote."""

    def __init__(self, out: StudyDirectory) -> None:
        super().__init__(out)
        self._study = out.study()
        self._runs: dict[RunKey, wandb.Run] = {}  # that have not finished
        self._last: dict[RunKey, int] = {}  # samples of the last row
        if os.environ.get("WANDB_MODE", "online") == "online":
            _log_in()

    def __exit__(self, *error: object) -> None:
        for run in self._runs.values():
            run.finish()
        self._runs.clear()

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row. One that a resumed run repeats is there already, with the same numbers."""
        key = RunKey(row["dataset"], row["variant"], row["seed"])
        if row["samples"] <= self._last.get(key, -1):
            return
        if key not in self._last:
            self._runs[key] = self._start(key)
        self._last[key] = row["samples"]
        if key in self._runs:
            self._runs[key].log({"samples": row["samples"], **finite_numbers(row)})
        # A study may have hundreds of runs; few are open at the same time.
        for other in [other for other in self._runs if other != key]:
            if self._out.run(*other).finished:
                self._runs.pop(other).finish()

    def _start(self, key: RunKey) -> wandb.Run:
        settings, data = self._study["algorithms"][key.variant], self._study["datasets"][key.dataset]
        identity = [self._study["invocations"][0]["began"], data["digest"], settings, key]
        run_id = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        for folder in self._out.path.glob(f"wandb/*run-*-{run_id}"):
            shutil.rmtree(folder)
        try:
            run = wandb.init(
                project=PROJECT,
                dir=self._out.path,
                id=run_id,
                group=self._out.path.resolve().name,
                name="/".join(map(str, key)),
                config={
                    **key._asdict(),
                    **settings,
                    **{group: self._study[group] for group in ("protocol", "online", "evaluation")},
                },
                reinit="create_new",
                settings=wandb.Settings(
                    silent=True, console="off", x_disable_stats=True, disable_git=True, save_code=False
                ),
            )
        except wandb.Error as error:
            raise _not_reached(error) from error
        run.define_metric("samples", hidden=True)
        run.define_metric("*", step_metric="samples")
        return run


def _log_in() -> None:
    try:
        logged_in = wandb.login()
    except wandb.Error as error:
        raise _not_reached(error) from error
    if not logged_in:
        raise _not_reached(ValueError("no API key; use `wandb login`"))


def _not_reached(error: Exception) -> UserError:
    return UserError(
        f"log wandb: {one_line(error)}; or set WANDB_MODE=offline and upload later with `wandb sync`"
    )
