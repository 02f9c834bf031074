"""What loading a large file costs beside h5py's own reading of its arrays: time and memory.

Writes a file of Hopper's sizes into a temporary folder, then takes turns: a fresh process reads the arrays
with h5py, another loads the dataset, a third also works out its card. Times are those of the reading alone:
on the wall, and in all of the process's threads (CPU), which a busy machine changes less. Memory is the peak
beyond what the process held before. Linux alone, as it reads /proc.
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
    folder: Path | None = None  # where the file is written for the time; by default the system's own


def write(path: Path, transitions: int, compressed: bool) -> None:
    """A log of random numbers, each next observation being that of the next row; episodes of 1000 steps."""
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
    dataset, environment = load(path), environments.describe(ENV_ID)
    bounds = environment.actions.low, environment.actions.high
    return dataset, card.examine(dataset, bounds, environment.time_limit)


READERS: dict[str, Callable[[Path], object]] = {"h5py": read, "seqeval": load, "seqeval, card": show}


def memory(key: str) -> int:
    """Bytes: VmRSS what this process holds, VmHWM the most it has held."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) * 1024


def measure(reader: str, small: Path, large: Path) -> None:
    """In a process of its own: prints seconds and bytes, what is imported and made once not counted."""
    READERS[reader](small)
    Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is anew the most
    held = memory("VmRSS")
    began = time.perf_counter(), time.process_time()
    kept = READERS[reader](large)
    seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "bytes": memory("VmHWM") - held}))
    del kept


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    console = plain_console(stderr=False)
    found: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, console.status("writing") as status:
        small, large = Path(folder) / "small.hdf5", Path(folder) / "large.hdf5"
        write(small, 2000, options.compressed)
        write(large, options.transitions, options.compressed)
        with h5py.File(large) as file:
            own = sum(values.nbytes for values in file.values())
        for turn in range(options.rounds):
            for reader, results in found.items():
                status.update(f"round {turn + 1} of {options.rounds}: {reader}")
                child = [sys.executable, __file__, "--measure", reader, str(small), str(large)]
                done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
                results.append(json.loads(done.stdout))
    table = Table(box=None, header_style="bold")
    for header in ("reader", "seconds", "times h5py's", "CPU", "times h5py's", "peak MB", "times the arrays"):
        table.add_column(header, justify="left" if header == "reader" else "right")
    for reader, results in found.items():
        times = []
        for key in ("seconds", "cpu"):
            pairs = [(mine[key], base[key]) for mine, base in zip(results, found["h5py"], strict=True)]
            times.append(f"{statistics.median(mine for mine, _ in pairs):.3f}")
            times.append(f"{statistics.median(mine / base for mine, base in pairs):.2f}")
        peak = statistics.median(each["bytes"] for each in results)
        table.add_row(reader, *times, f"{peak / 1e6:.0f}", f"{peak / own:.2f}")
    console.print(
        f"{options.transitions} transitions, {own / 1e6:.0f} MB of arrays; medians of {options.rounds} rounds"
    )
    console.print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], *map(Path, sys.argv[3:]))
    else:
        main()
