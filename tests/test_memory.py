"""A million transitions of Hopper's size: what loading and training on them adds to the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

SIZE = 1_000_000

SCRIPT = """
import gc, sys, torch
from seqeval import datasets, plugins, protocol
from seqeval.settings import Evaluation, Protocol

def high_water():
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

def train(path):
    torch.set_num_threads(1)
    data = datasets.load(path)
    settings = Protocol(start=len(data) - 200)
    variant = plugins.parse("td3_bc:hidden=(256,256)")
    agents = protocol.make_agents(
        plugins.find("td3_bc"), variant.config, data.env_id, [0, 1, 2],
        settings.schedules(len(data))[0].updates, torch.device("cpu"),
    )
    labels = {"study": "", "algorithm": "", "variant": ""}
    rows = list(protocol.run(agents, data, settings, Evaluation(1, 1), labels))
    assert rows[-1].samples == len(data)
    return sum(
        getattr(data, name).nbytes
        for name in ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    )

train(sys.argv[1])  # everything that is imported and warmed up once
before = high_water()
own = train(sys.argv[2])
print(own, high_water() - before)
"""


def write(path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["env_id"] = "Hopper-v4"
        for name, width in (("observations", 11), ("next_observations", 11), ("actions", 3)):
            file[name] = rng.random((size, width), np.float32)
        file["rewards"] = rng.random(size, np.float32)
        file["terminals"] = np.zeros(size, bool)
        file["timeouts"] = np.arange(size) % 1000 == 999


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_transitions_add_at_most_one_and_a_half_times_their_own_bytes(tmp_path: Path) -> None:
    write(tmp_path / "small.hdf5", 2000)
    write(tmp_path / "large.hdf5", SIZE)
    arguments = [sys.executable, "-c", SCRIPT, tmp_path / "small.hdf5", tmp_path / "large.hdf5"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    own, added = map(int, done.stdout.split())
    assert own == 106 * SIZE
    assert added <= 1.5 * own
    print(f"{own / 1e6:.0f} MB of data added {added / 1e6:.0f} MB")
