"""Kills a study again and again, lets it go on each time, and compares it with one that was left in peace.

    python experiments/chaos.py --kills 200 --algorithms td3_bc cql sb3:SAC --online.steps 500

Every process of the study is killed with SIGKILL at random times, in either phase. OUT/whole is the study in
peace and OUT/killed the other; both must have the same rows, but for their two columns of seconds, and the
same policies, to the last bit. Exit code 1 where they have not.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from seqeval import Evaluation, Online, Protocol, Study, execution
from seqeval.cli import handle_errors, plain_console
from seqeval.execution.storage import RunDirectory

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=("td3_bc", "iql"),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=64),
    evaluation=Evaluation(points=5, episodes=1),
    online=Online(steps=300),
)


@dataclass(frozen=True)
class Kills:
    """How often a study was killed, and how many of these kills found it in which phase."""

    offline: int = 0
    online: int = 0
    between: int = 0  # before its first row, or after its last

    @property
    def all(self) -> int:
        return self.offline + self.online + self.between


def kill_and_go_on(
    study: Study,
    out: Path,
    kills: int,
    longest: float,
    jobs: int,
    save_every: float,
    seed: int,
    overlap: execution.Overlap = "auto",
    group: bool = False,
) -> Kills:
    """Runs a study to its end, of which the first `kills` attempts are killed, each after up to `longest`
    seconds of training."""
    rng, found = random.Random(seed), {"offline": 0, "online": 0, "between": 0}
    context = multiprocessing.get_context("fork")
    for attempt in range(kills + 1):
        process = context.Process(target=_run, args=(study, out, jobs, save_every, overlap, group))
        process.start()
        if attempt == kills:
            process.join()
            if process.exitcode:
                raise RuntimeError(f"the study ended with exit code {process.exitcode}")
            break
        _wait_for_training(process, out)
        process.join(rng.uniform(0, longest))
        if process.exitcode is not None:
            break  # it was over before it could be killed
        os.killpg(process.pid, signal.SIGKILL)  # itself and its workers
        process.join()
        found[_phase(out)] += 1
    return Kills(**found)


def _run(
    study: Study, out: Path, jobs: int, save_every: float, overlap: execution.Overlap, group: bool
) -> None:
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        execution.run(study, out, jobs, Console(file=nowhere), save_every, overlap=overlap, group=group)


def _wait_for_training(process: Any, out: Path) -> None:
    """Until a cell has been opened since the process began."""
    began = time.time()
    while process.is_alive():
        if any(path.stat().st_mtime >= began for path in _progress(out)):
            return
        time.sleep(0.005)


def _progress(out: Path) -> list[Path]:
    return list(out.glob("cells/*/*/*/progress.json"))


def _phase(out: Path) -> str:
    """Where the cell that was worked at last stands."""
    newest = max(_progress(out), key=lambda path: path.stat().st_mtime, default=None)
    rows = [] if newest is None else (newest.parent / "rows.jsonl").read_text().splitlines()
    if not rows or (newest.parent / "finished.json").exists():
        return "between"
    return "online" if '"phase": "online"' in rows[-1] else "offline"


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same in two run directories, the columns of seconds aside."""
    found = []
    rows = [
        [
            {key: value for key, value in row.items() if not key.endswith("_seconds") and key != "study"}
            for row in RunDirectory(path).rows()
        ]
        for path in (one, other)
    ]
    if len(rows[0]) != len(rows[1]):
        found.append(f"{len(rows[0])} rows and {len(rows[1])}")
    for number, (here, there) in enumerate(zip(*rows, strict=False)):
        found += [
            f"row {number}, {key}: {here[key]} and {there[key]}" for key in here if here[key] != there[key]
        ]
    names = [
        {str(file.relative_to(path)) for file in path.glob("cells/*/*/*/policy.pt")} for path in (one, other)
    ]
    found += [f"{name} is in one alone" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        policies = [torch.load(path / name, weights_only=True) for path in (one, other)]
        if not _same(*policies):
            found.append(f"{name} differs")
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def main(
    study: Annotated[Study, tyro.conf.arg(name="")] = STUDY,
    out: Path = Path("runs/chaos"),
    kills: int = 20,
    longest: float = 2.0,
    jobs: int = 1,
    save_every: float = 0.1,
    seed: int = 0,
    overlap: execution.Overlap = "auto",
    group: bool = False,
) -> int:
    """
    Args:
        out: Folder of both run directories; what is there of an earlier call is removed.
        kills: How often.
        longest: Seconds of training up to a kill, at most.
        jobs: As of `seqeval run`.
        save_every: As of `seqeval run`.
        seed: Of the moments.
        overlap: As of `seqeval run`, of the study that is killed; the one in peace has none.
        group: Likewise.
    """
    console = plain_console(stderr=False)
    for name in ("whole", "killed"):
        shutil.rmtree(out / name, ignore_errors=True)
    execution.run(study, out / "whole", jobs, Console(stderr=True), save_every, overlap="off")
    began = time.monotonic()
    count = kill_and_go_on(study, out / "killed", kills, longest, jobs, save_every, seed, overlap, group)
    rows = len(list(RunDirectory(out / "killed").rows()))
    console.print(
        f"{count.all} kills in {time.monotonic() - began:.0f} s: {count.offline} offline, {count.online} "
        f"online, {count.between} where no row was new; {rows} rows"
    )
    wrong = differences(out / "whole", out / "killed")
    for line in wrong[:20]:
        console.print(line, markup=False)
    console.print("not the same" if wrong else "the same rows and policies, bit for bit")
    return int(bool(wrong))


if __name__ == "__main__":
    with handle_errors("chaos"):
        code = tyro.cli(main, description=__doc__)
    sys.exit(code)
