"""The memory that loading a million transitions of Hopper's size, and training on them, takes."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from minari import MinariDataset

from seqeval import datasets
from seqeval.datasets import _memory, _rules, _write, pickles
from seqeval.errors import UserError

SIZE = 1_000_000

SCRIPT = """
import sys, torch
from pathlib import Path
from seqeval import datasets
from seqeval.config import Evaluation, Protocol, Study
from seqeval.evaluation.runners import InProcessRunner
from seqeval.execution.jobs import resolve
from seqeval.execution.storage import StudyDirectory
from seqeval.training.job import JobEvaluation
from seqeval.training.trainer import Trainer

def high_water():
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

class NoCheckpoints:
    stopping, keeps_policies = False, False
    def due(self): return False
    def finish(self, updates, agents): pass

def train(path, size):
    torch.set_num_threads(1)
    protocol, evaluation = Protocol(start=size - 200), Evaluation(1, 1)
    algorithms = ("td3_bc:hidden=(256,256)",)
    study = Study((path,), algorithms, (0, 1, 2), protocol, evaluation=evaluation, device="cpu")
    (job,) = resolve(study).jobs(StudyDirectory(Path(path + "-study")))
    data = datasets.load(path)
    setup = JobEvaluation(job, {data.name: data.env_id}, torch.float32)
    trainer = Trainer(job, {data.name: data}, InProcessRunner(setup.evaluators), NoCheckpoints(), "study")
    assert list(trainer.train())[-1].samples == len(data) == size
    return sum(
        getattr(data, name).nbytes
        for name in ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    )

train(sys.argv[1], 2000)  # whatever is imported and warmed up once
before = high_water()
own = train(sys.argv[2], 1_000_000)
print(own, high_water() - before)
"""


LOADING = """
import sys
from pathlib import Path
from seqeval import datasets

def memory(key):
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith(key)]
    return int(line.split()[1]) * 1024

datasets.load(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")  # the high water is from here on
before = memory("VmRSS")
data = datasets.load(sys.argv[2])
own = sum(
    getattr(data, name).nbytes
    for name in ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
)
print(own, memory("VmHWM") - before)
"""


def write(path: Path, size: int, without: str = "") -> None:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["env_id"] = "Hopper-v4"
        for name, width in (("observations", 11), ("next_observations", 11), ("actions", 3)):
            file[name] = rng.random((size, width), np.float32)
        file["rewards"] = rng.random(size, np.float32)
        file["terminals"] = np.zeros(size, bool)
        file["timeouts"] = np.arange(size) % 1000 == 999
        if without:
            del file[without]


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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("without", ["", "next_observations"])
def test_loading_takes_little_more_memory_than_the_arrays(tmp_path: Path, without: str) -> None:
    """Without next observations too, where these are made and rows are left out of every array."""
    write(tmp_path / "small.hdf5", 2000, without)
    write(tmp_path / "large.hdf5", SIZE, without)
    arguments = [sys.executable, "-c", LOADING, tmp_path / "small.hdf5", tmp_path / "large.hdf5"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    own, peak = map(int, done.stdout.split())
    assert own == pytest.approx(106 * SIZE, rel=0.01)
    assert peak <= 1.4 * own
    print(f"{own / 1e6:.0f} MB of data took {peak / 1e6:.0f} MB")


@pytest.mark.parametrize("without", ["", "next_observations"])
def test_hdf5_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    """The bytes of its arrays, those not in the file but made included, and half as much again."""
    path = tmp_path / "large.hdf5"
    write(path, 10_000, without)
    needed = _rules.HEADROOM * 10_000 * 4 * (11 + 11 + 3 + 1 + 1 + 1)
    monkeypatch.setattr(_memory, "free_memory", lambda: int(needed))
    assert len(datasets.load(str(path))) >= 9_990
    monkeypatch.setattr(_memory, "free_memory", lambda: int(needed) - 1)
    read = []
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *arguments: read.append(arguments))
    with pytest.raises(UserError, match=r"needs about 0\.00 GB of memory, 0\.00 GB are free") as caught:
        datasets.load(str(path))
    assert str(path) in str(caught.value)
    assert not read


FIELDS = {
    "observations": np.zeros((500, 11)),  # eight bytes a number, as they are read
    "actions": np.zeros((500, 3), np.float32),
    "rewards": np.zeros(500, np.float32),
    "terminals": np.zeros(500, bool),
    "timeouts": np.arange(500) % 50 == 49,
}


def refused_just_below(name: str, needed: float, monkeypatch: pytest.MonkeyPatch) -> str:
    """The refusal where one byte less is free than is needed; with that byte it loads."""
    monkeypatch.setattr(_memory, "free_memory", lambda: math.ceil(needed))
    assert len(datasets.load(name, "Hopper-v4")) == 490
    monkeypatch.setattr(_memory, "free_memory", lambda: math.ceil(needed) - 1)
    with pytest.raises(UserError, match=r"needs about 0\.00 GB of memory") as caught:
        datasets.load(name, "Hopper-v4")
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[..., None]
) -> None:
    """By the sizes that it declares, however well it is compressed."""
    path = tmp_path / "data.npz"
    save(path, **FIELDS, qpos=np.zeros((500, 100)))  # what is not read does not count
    refused_just_below(str(path), _rules.HEADROOM * 500 * (2 * 8 * 11 + 4 * (3 + 1 + 1 + 1)), monkeypatch)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(UserError, match="free some memory"):
        datasets.load(str(path), "Hopper-v4")


def test_a_pickle_that_may_not_fit_into_memory_is_refused_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.pkl"
    trajectories = [
        {key: values[begin : begin + 50] for key, values in FIELDS.items() if key != "timeouts"}
        for begin in range(0, 500, 50)
    ]
    path.write_bytes(pickle.dumps(trajectories))
    needed = _rules.HEADROOM * int(pickles.PICKLED * path.stat().st_size)
    assert "of memory by the size of the file, " in refused_just_below(str(path), needed, monkeypatch)
    monkeypatch.setattr(pickles, "_unpickled", lambda *_: pytest.fail("it was read"))
    with pytest.raises(UserError, match="free some memory"):
        datasets.load(str(path), "Hopper-v4")


def test_a_minari_dataset_that_does_not_fit_into_memory_is_refused_by_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    _write.write(datasets.load("pendulum-replay"), "minari:pendulum-v0")
    size = len(datasets.load("minari:pendulum-v0"))
    needed = _rules.HEADROOM * 4 * size * (3 + 3 + 1 + 1 + 1 + 1)
    monkeypatch.setattr(_memory, "free_memory", lambda: int(needed))
    assert len(datasets.load("minari:pendulum-v0")) == size
    monkeypatch.setattr(_memory, "free_memory", lambda: int(needed) - 1)
    monkeypatch.setattr(MinariDataset, "iterate_episodes", lambda *_: pytest.fail("it was read"))
    with pytest.raises(
        UserError, match=r"^minari:pendulum-v0: loading needs about 0\.00 GB of memory, 0\.00 GB"
    ):
        datasets.load("minari:pendulum-v0")


def test_a_huge_declared_size_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vast.hdf5"
    write(path, 2000, without="rewards")
    with h5py.File(path, "a") as file:
        file.create_dataset("rewards", (10**12,), "f4", chunks=(8,))
    monkeypatch.setattr(_memory, "free_memory", lambda: 16 * 10**9)
    with pytest.raises(UserError, match=r"about 6000\.00 GB of memory, 16\.00 GB are free"):
        datasets.load(str(path))


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /proc and /sys/fs/cgroup, with no limits yet."""
    for name in ("MEMINFO", "STATM", "GROUPS", "GROUP_ROOT"):
        monkeypatch.setattr(_memory, name, tmp_path / name)
    (tmp_path / "GROUP_ROOT").mkdir()
    return tmp_path


def test_free_memory_is_read_from_meminfo(system: Path) -> None:
    assert _memory.free_memory() is None
    (system / "MEMINFO").write_text("MemTotal:  9 kB\nMemFree:  1 kB\n")
    assert _memory.free_memory() is None
    (system / "MEMINFO").write_text("MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:    7 kB\n")
    assert _memory.free_memory() == 7 * 1024


@pytest.mark.parametrize(
    ("line", "folder", "names", "unlimited"),
    [
        ("0::/a/b", "a", _memory.VERSION_2, "max"),
        ("0::/a/b", "a/b", _memory.VERSION_2, "max"),
        ("0::/", "", _memory.VERSION_2, "max"),
        ("4:cpu,memory:/a", "memory/a", _memory.VERSION_1, str(1 << 62)),
        ("4:memory:/on/the/host", "memory", _memory.VERSION_1, str(1 << 62)),
    ],
)
def test_limits_of_control_groups_count(
    system: Path, line: str, folder: str, names: tuple[str, ...], unlimited: str
) -> None:
    (system / "MEMINFO").write_text("MemAvailable: 1000 kB\n")
    (system / "GROUPS").write_text(f"7:pids:/x\n{line}\n")
    group = system / "GROUP_ROOT" / folder
    group.mkdir(parents=True, exist_ok=True)
    limit, usage, reclaimable = names
    (group / limit).write_text(f"{unlimited}\n")
    (group / usage).write_text("300000\n")
    (group / "memory.stat").write_text(f"anon 1\n{reclaimable} 5000\n")
    assert _memory.free_memory() == 1000 * 1024
    (group / limit).write_text("400000\n")
    assert _memory.free_memory() == 105_000
    (group / limit).write_text("100000\n")
    assert _memory.free_memory() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count_and_what_exceeds_them_is_one_line(tmp_path: Path, limit: str) -> None:
    """The file holds few bytes, since nothing is written of the 2 GB that it declares."""
    path = tmp_path / "large.hdf5"
    write(path, 2000, without="rewards")
    with h5py.File(path, "a") as file:
        file.create_dataset("rewards", (500_000_000,), "f4", chunks=(1000,))
    script = f"""
import resource, sys
from seqeval import cli
resource.setrlimit(resource.{limit}, (3 * 10**9, resource.RLIM_INFINITY))
cli.main(["datasets", "show", sys.argv[1]])
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "loading needs about 3.00 GB of memory" in done.stderr


def test_running_out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(_rules, "assemble", fail)
    with pytest.raises(UserError, match="pendulum-replay: does not fit into the memory that is free"):
        datasets.load("pendulum-replay")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_load_large_script_runs() -> None:
    script = Path(__file__).parents[1] / "experiments" / "load_large.py"
    arguments = [sys.executable, script, "--transitions", "3000", "--rounds", "1", "--compressed"]
    lines = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].startswith("3000 transitions, 0 MB of arrays")
    assert [line.split("  ")[0].strip() for line in lines[2:]] == ["h5py", "seqeval", "seqeval, card"]
    assert lines[2].split()[2] == "1.00"
