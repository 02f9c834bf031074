"""Kill a study again and again, resume it each time, and compare it with an uninterrupted one.

    python experiments/chaos.py --kills 200 --algorithms td3_bc cql sb3:SAC --online.steps 500

All processes of the study are killed with SIGKILL at random times of the offline and the online phase.
OUT/uninterrupted and OUT/killed are the two study directories. Their rows, except for the columns of seconds,
and their policies must be the same to the last bit, and there must be as many kills as asked for, in every
phase of the study; if not, the exit code is 1.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated

import torch
import tyro
from exact_comparison import differences, rows_of, run_folders
from rich.console import Console

import seqeval
from seqeval import Evaluation, Execution, Online, Protocol, Study
from seqeval.cli import handle_errors, plain_console

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=("td3_bc", "iql"),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=64),
    evaluation=Evaluation(points=5, episodes=1),
    online=Online(steps=300),
)
EXECUTION = Execution(jobs=1, save_every=0.1)


def kill_and_resume(
    study: Study, out: Path, kills: int, longest: float, seed: int, execution: Execution
) -> Counter[str]:
    """Runs a study to its end, killing and resuming it up to `kills` times.

    Each kill comes at a random time within `longest` seconds of training. Returns the number of kills in each
    phase; `between` is before the first row of a run or after its last.
    """
    rng, phases = random.Random(seed), Counter[str]()
    context = multiprocessing.get_context("fork")
    for attempt in range(kills + 1):
        process = context.Process(target=_run, args=(study, out, execution))
        process.start()
        if attempt < kills:
            _wait_for_training(process, out)
            process.join(rng.uniform(0, longest))
        else:
            process.join()
        if process.exitcode is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)  # the process and its workers
        process.join()
        phases[_phase(out)] += 1
    if process.exitcode:
        raise RuntimeError(f"the study ended with exit code {process.exitcode}")
    return phases


def _run(study: Study, out: Path, execution: Execution) -> None:
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    with open(os.devnull, "w") as null:
        seqeval.run(study, out, execution, Console(file=null))


def _wait_for_training(process: BaseProcess, out: Path) -> None:
    """Returns when a run has been started or resumed since the call, or when the process has ended."""
    began = time.time()
    while process.is_alive() and not any(path.stat().st_mtime >= began for path in _progress_files(out)):
        time.sleep(0.005)


def _progress_files(out: Path) -> list[Path]:
    return list(out.glob("*/*/*/seed-*/progress.json"))


def _phase(out: Path) -> str:
    """The phase of the run that was trained last."""
    newest = max(_progress_files(out), key=lambda path: path.stat().st_mtime, default=None)
    rows = [] if newest is None else (newest.parent / "rows.jsonl").read_text().splitlines()
    if not rows or (newest.parent / "finished.json").exists():
        return "between"
    return "online" if '"phase": "online"' in rows[-1] else "offline"


def main(
    study: Annotated[Study, tyro.conf.arg(name="")] = STUDY,
    out: Path = Path("runs/chaos"),
    execution: Annotated[Execution, tyro.conf.arg(name="")] = EXECUTION,
    kills: int = 20,
    longest: float = 2.0,
    seed: int = 0,
) -> int:
    """
    Args:
        out: Folder of the two study directories; those of an earlier call are removed.
        execution: How the killed study is executed; the uninterrupted one has its jobs.
        kills: Number of kills.
        longest: Seconds of training before a kill, at most.
        seed: Seed of the random times.
    """
    console = plain_console(stderr=False)
    uninterrupted, killed = out / "uninterrupted", out / "killed"
    for folder in (uninterrupted, killed):
        shutil.rmtree(folder, ignore_errors=True)
    seqeval.run(study, uninterrupted, Execution(jobs=execution.jobs, overlap="off"))
    began = time.monotonic()
    phases = kill_and_resume(study, killed, kills, longest, seed, execution)
    rows = sum(len(rows_of(run)) for run in run_folders(killed).values())
    console.print(
        f"{phases.total()} kills in {time.monotonic() - began:.0f} s: {phases['offline']} offline, "
        f"{phases['online']} online, {phases['between']} before the first row of a run or after its last; "
        f"{rows} rows"
    )
    found = differences(uninterrupted, killed)
    for line in found[:20]:
        console.print(line, markup=False)
    console.print("not the same" if found else "the same rows and policies, bit for bit")
    if missing := too_few(phases, kills, online=study.online.steps > 0):
        console.print(missing)
    return int(bool(found or missing))


def too_few(phases: Counter[str], kills: int, online: bool) -> str | None:
    """Why the kills prove less than was asked for; None if they do not."""
    if phases.total() < kills:
        return f"only {phases.total()} of {kills} kills before the study ended; give it more updates"
    for phase in ("offline", "online") if online else ("offline",):
        if kills and not phases[phase]:
            return f"no kill in the {phase} phase; ask for more kills, or make the phase longer"
    return None


if __name__ == "__main__":
    with handle_errors("chaos"):
        code = tyro.cli(main, description=__doc__)
    sys.exit(code)
