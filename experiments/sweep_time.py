"""The cost of a sweep in one job: 9 settings of IQL with 3 seeds each, against 27 runs one after the other.

    python experiments/sweep_time.py

Prints the wall time and the CPU time of both on the embedded `pendulum-replay`, on one core. The solo runs
are made in the same process, so that their times leave out 27 starts of Python. Exits with 1 if a row or a
policy of the sweep differs, by as little as a bit, from that of its solo run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import tyro
from exact_comparison import differences

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study
from seqeval.cli import handle_errors

SMALL = "hidden=(64,64),batch_size=64"
EXPECTILES, TEMPERATURES = ("0.5", "0.7", "0.9"), ("1", "3", "10")
SWEEP = f"iql:{SMALL},expectile={'|'.join(EXPECTILES)},temperature={'|'.join(TEMPERATURES)}"
SEEDS = (0, 1, 2)
ONE_CORE = Execution(jobs=1, overlap="off")


def study(algorithm: str, seeds: tuple[int, ...], updates: int) -> Study:
    return Study(
        datasets=("pendulum-replay",),
        algorithms=(algorithm,),
        seeds=seeds,
        protocol=Protocol(start=2000, grow_by=18_000 // updates),
        evaluation=Evaluation(points=3, episodes=1),
        device="cpu",
    )


def run_solo(out: Path, updates: int) -> None:
    for expectile, temperature, seed in product(EXPECTILES, TEMPERATURES, SEEDS):
        setting = f"expectile={expectile},temperature={temperature}"
        name = f"iql:{setting.replace(',', ' ')}"  # as the sweep calls it
        solo = study(f"iql:{SMALL},{setting},name={name}", (seed,), updates)
        seqeval.run(solo, out, ONE_CORE)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time and CPU time in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main(updates: int = 1500) -> None:
    """Time the sweep and the solo runs, and compare their rows and policies.

    Args:
        updates: Updates of each run, about.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        seqeval.run(study("bc:hidden=(8,8)", (0,), 10), out / "warm-up", ONE_CORE)  # imports
        together = timed(lambda: seqeval.run(study(SWEEP, SEEDS, updates), out / "together", ONE_CORE))
        apart = timed(lambda: run_solo(out / "apart", updates))
        print(f"one job of 27 replicas   {together[0]:6.1f} s wall   {together[1]:6.1f} s CPU")
        print(f"27 runs, each on its own {apart[0]:6.1f} s wall   {apart[1]:6.1f} s CPU")
        found = differences(out / "together", out / "apart")
    for line in found[:10]:
        print(line)
    rows = "not the same" if found else "the same, to the last bit"
    print(f"rows and policies: {rows}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    with handle_errors("sweep_time"):
        tyro.cli(main, description=__doc__)
