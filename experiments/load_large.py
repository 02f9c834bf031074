"""Measure the time and memory of loading a large file, compared with reading its arrays with h5py.

It writes a file with Hopper's sizes to a temporary folder. In each round one new process reads the arrays
with h5py, another loads the dataset, and a third also computes its card. Times cover reading only:
wall-clock time, and CPU time of all threads, which depends less on other processes. Memory is the peak
above what the process held before. Linux only, because it reads /proc.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tyro
from rich.table import Table

from seqeval import datasets, environments
from seqeval.analysis import card
from seqeval.cli import plain_console

ENV_ID = "Hopper-v4"


@dataclass(frozen=True)
class Options:
    transitions: int = 2_000_000
    rounds: int = 7
    compressed: bool = False  # gzip, as D4RL's files are
    folder: Path | None = None  # where the file is written temporarily (default: the system's folder)


def write(path: Path, transitions: int, compressed: bool) -> None:
    """Write random numbers as episodes of 1000 steps, with consistent next observations."""
    rng = np.random.default_rng(0)
    observations = rng.random((transitions + 1, 11), np.float32)
    fields = {
        "observations": observations[:-1],
        "next_observations": observations[1:],
        "actions": rng.random((transitions, 3), np.float32),
        "rewards": rng.random(transitions, np.float32),
        "terminals": np.arange(transitions) % 3000 == 499,
        "timeouts": np.arange(transitions) % 1000 == 999,
    }
    with h5py.File(path, "w") as file:
        file.attrs["env_id"] = ENV_ID
        for name, values in fields.items():
            file.create_dataset(name, data=values, compression="gzip" if compressed else None)


def read(path: Path) -> object:
    with h5py.File(path, "r") as file:
        return {name: values[...] for name, values in file.items()}


def load(path: Path) -> datasets.Dataset:
    return datasets.load(str(path))


def show(path: Path) -> object:
    dataset = load(path)
    return dataset, card.examine(dataset, environments.describe(ENV_ID))


READERS: dict[str, Callable[[Path], object]] = {"h5py": read, "seqeval": load, "seqeval, card": show}


def memory(key: str) -> int:
    """Bytes of memory of this process: VmRSS is the current value, VmHWM the peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) * 1024


def measure(reader: str, small: Path, large: Path) -> None:
    """Print seconds and bytes of one reader; run in a new process. Imports and first-time setup do not
    count."""
    READERS[reader](small)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = memory("VmRSS")
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    data = READERS[reader](large)
    seconds, cpu = time.perf_counter() - wall_start, time.process_time() - cpu_start
    print(json.dumps({"seconds": seconds, "cpu": cpu, "bytes": memory("VmHWM") - before}))
    del data  # kept until now, so that its memory counts


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    console = plain_console(stderr=False)
    results: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, console.status("writing") as status:
        small, large = Path(folder) / "small.hdf5", Path(folder) / "large.hdf5"
        write(small, 2000, options.compressed)
        write(large, options.transitions, options.compressed)
        with h5py.File(large) as file:
            size = sum(values.nbytes for values in file.values())
        for number in range(1, options.rounds + 1):
            for reader, measured in results.items():
                status.update(f"round {number} of {options.rounds}: {reader}")
                command = [sys.executable, __file__, "--measure", reader, str(small), str(large)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                measured.append(json.loads(done.stdout))
    table = Table(box=None, header_style="bold")
    for header in ("reader", "seconds", "times h5py's", "CPU", "times h5py's", "peak MB", "times the arrays"):
        table.add_column(header, justify="left" if header == "reader" else "right")
    for reader, measured in results.items():
        times = []
        for key in ("seconds", "cpu"):
            pairs = [(m[key], base[key]) for m, base in zip(measured, results["h5py"], strict=True)]
            times.append(f"{statistics.median(value for value, _ in pairs):.3f}")
            times.append(f"{statistics.median(value / base for value, base in pairs):.2f}")
        peak = statistics.median(m["bytes"] for m in measured)
        table.add_row(reader, *times, f"{peak / 1e6:.0f}", f"{peak / size:.2f}")
    console.print(
        f"{options.transitions} transitions, {size / 1e6:.0f} MB of arrays; medians of "
        f"{options.rounds} rounds"
    )
    console.print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], *map(Path, sys.argv[3:]))
    else:
        main()
