"""Shared by the tests of execution: a small study, how to run it, and what its study directory holds."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from rich.console import Console

import seqeval
from seqeval import Evaluation, Execution, Online, Protocol, Study
from seqeval.execution.storage import StudyDirectory
from seqeval.types import Row

SMALL = "hidden=(16,16),batch_size=16"
STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},name=td3_bc", f"iql:{SMALL},name=iql"),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=16),
    evaluation=Evaluation(points=3, episodes=1),
    online=Online(steps=120),
)
ROWS = 2 * 2 * 7  # of the study: four of the offline phase and three of the online phase for each run
CHECKPOINTS = "runs/*/*/*/checkpoint.pt"

RAISES = """
import torch
from seqeval.algorithm import SingleAlgorithm

class Raises(SingleAlgorithm):
    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size)

    def update(self, batch):
        raise ZeroDivisionError("deliberate")

    def act(self, observations):
        return self.net(observations)
"""
DIES = RAISES.replace("class Raises", "class Dies").replace(
    "raise ZeroDivisionError(", "import os; os._exit(9); print("
)


def silent() -> Console:
    """A console whose output is `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=200)


def run(
    study: Study,
    out: Path,
    console: Console | None = None,
    on_row: Callable[[Row], None] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Runs a study, silently and in this process unless the options of `Execution` say otherwise."""
    return seqeval.run(study, out, _execution(options), console or silent(), on_row)


def rows(study: Study, out: Path, console: Console | None = None, **options: Any) -> Iterator[Row]:
    """As `run`, row by row."""
    return seqeval.rows(study, out, _execution(options), console or silent())


def _execution(options: dict[str, Any]) -> Execution:
    in_process = {} if "launcher" in options else {"jobs": 1}
    return Execution(**in_process | options)


def run_partly(study: Study, out: Path, count: int, **options: Any) -> list[Row]:
    """Runs a study until it has yielded so many rows, with frequent checkpoints, and leaves it unfinished."""
    started = rows(study, out, **{"save_every": 0.02} | options)
    found = [next(started) for _ in range(count)]
    started.close()
    return found


def load_chaos() -> ModuleType:
    """`experiments/chaos.py`."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
    return importlib.import_module("chaos")


def differences() -> Callable[[Path, Path], list[str]]:
    """How `experiments/chaos.py` compares study directories: all but the seconds, to the last bit."""
    return load_chaos().differences


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints in a study directory."""
    return sorted(out.glob(CHECKPOINTS))


def rows_before(checkpoint: Path) -> str:
    """The rows, including their seconds, that were stored before a checkpoint."""
    import torch

    size = torch.load(checkpoint, weights_only=True)["rows_bytes"]
    return checkpoint.with_name("rows.jsonl").read_bytes()[:size].decode()


def processes_with_files_in(folder: Path) -> list[int]:
    """The processes that have files of a folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            opened = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:  # it has ended, or belongs to another user
            continue
        if any(path.startswith(f"{folder.resolve()}/") for path in opened):
            found.append(int(process.name))
    return found


def points(out: Path) -> list[tuple[str, int, int]]:
    """The variant, seed and samples of each row of a study directory."""
    return sorted((row["variant"], row["seed"], row["samples"]) for row in StudyDirectory(out).rows())
