"""What the tests of clusters share: a small study, and what tells two of its run directories apart."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from rich.console import Console

from seqeval import Evaluation, Online, Protocol, Study
from seqeval.execution.storage import RunDirectory

SMALL = "hidden=(16,16),batch_size=16"
STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},name=td3_bc", f"iql:{SMALL},name=iql"),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=16),
    evaluation=Evaluation(points=3, episodes=1),
    online=Online(steps=120),
)
ROWS = 2 * 2 * 7  # of it: in each phase one at its end and at its thirds, offline one before them too

RAISES = """
import torch
from seqeval.algorithm import SingleAlgorithm

class Raises(SingleAlgorithm):
    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size)

    def update(self, batch):
        raise ZeroDivisionError("of its own doing")

    def act(self, observations):
        return self.net(observations)
"""
DIES = RAISES.replace("class Raises", "class Dies").replace(
    "raise ZeroDivisionError(", "import os; os._exit(9); print("
)


def silent() -> Console:
    return Console(file=io.StringIO(), width=200)


def load_chaos() -> ModuleType:
    """`experiments/chaos.py`."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
    return importlib.import_module("chaos")


def differences() -> Callable[[Path, Path], list[str]]:
    """What `experiments/chaos.py` compares run directories with: all but the seconds, to the last bit."""
    return load_chaos().differences


def saved(out: Path) -> list[Path]:
    """The checkpoints in a run directory."""
    return sorted(out.glob("cells/*/*/*/checkpoint.pt"))


def kept(checkpoint: Path) -> str:
    """The rows, seconds and all, that were stored before a checkpoint was."""
    import torch

    size = torch.load(checkpoint, weights_only=True)["rows_bytes"]
    return checkpoint.with_name("rows.jsonl").read_bytes()[:size].decode()


def working_in(folder: Path) -> list[int]:
    """The processes that have files of a folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            opened = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:  # it has ended, or is not ours
            continue
        if any(path.startswith(f"{folder.resolve()}/") for path in opened):
            found.append(int(process.name))
    return found


def points(out: Path) -> list[tuple[str, int, int]]:
    """What the rows of a run directory are rows of."""
    return sorted((row["variant"], row["seed"], row["samples"]) for row in RunDirectory(out).rows())
