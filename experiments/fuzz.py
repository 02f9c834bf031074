"""Give malformed files of every format to the suite, and report what it must never do with one.

    python experiments/fuzz.py --files 1000 --seed 0

Each file is a sound one with a random change: of its bytes, or of a value inside it. It may load or be
refused with one line. A traceback, a crash, more than 10 seconds of processor time or more than 1 GB of
memory is a fault: it is printed, the file is kept in OUT, and the exit code is 1. The same seed makes the
same files.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import tyro
from malformed import malformed

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, cli, datasets
from seqeval.cli import handle_errors, plain_console
from seqeval.errors import UserError
from seqeval.execution.driver_state import DriverState
from seqeval.execution.storage import StudyDirectory

SECONDS = 10.0  # for one file
BYTES = 10**9  # of memory for one file
ADDRESS_SPACE = 6 * 10**9  # bytes, so that no fault takes the machine with it
ENVIRONMENT = "Pendulum-v1"
STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=("bc:hidden=(8,8),name=bc",),
    seeds=(0, 1),
    protocol=Protocol(start=19_900, grow_by=50),
    evaluation=Evaluation(points=2, episodes=1),
)

# --- sound files ---


def fields() -> dict[str, np.ndarray]:
    rng, size = np.random.default_rng(0), 40
    observations = rng.standard_normal((size + 1, 3)).astype(np.float32)
    return {
        "observations": observations[:-1],
        "next_observations": observations[1:],
        "actions": rng.uniform(-2, 2, (size, 1)).astype(np.float32),
        "rewards": rng.standard_normal(size).astype(np.float32),
        "terminals": np.arange(size) % 20 == 19,
    }


def write_datasets(folder: Path) -> list[Path]:
    """A dataset in each format and each way to store it."""
    data, attributes = fields(), {"env_id": ENVIRONMENT, "behaviour": "dice"}
    for name, options in (
        ("plain", {}),
        ("packed", {"compression": "gzip", "chunks": True, "shuffle": True}),
    ):
        for version in ("earliest", "latest"):
            with h5py.File(folder / f"{name}-{version}.hdf5", "w", libver=version) as file:
                file.attrs.update(attributes)
                for key, values in data.items():
                    file.create_dataset(key, data=values, **options)
    np.savez(folder / "plain.npz", **data, **attributes)
    np.savez_compressed(folder / "packed.npz", **data, **attributes)
    halves = [{key: values[part] for key, values in data.items()} for part in (slice(20), slice(20, 40))]
    for protocol in (0, 2, 4, 5):
        (folder / f"protocol-{protocol}.pkl").write_bytes(pickle.dumps(halves, protocol))
    return sorted(folder.iterdir())


def write_study(folder: Path) -> list[Path]:
    """A study with a finished run and one that has not finished."""
    seqeval.run(STUDY, folder, Execution(jobs=1, overlap="off"), plain_console(stderr=True))
    run = StudyDirectory(folder).run("pendulum-replay", "bc", 1)
    rows, policy = run.rows.read_text(), torch.load(run.policy, weights_only=True)
    run.open(None)
    run.rows.write_text(rows.partition("\n")[0] + "\n")
    run.save_checkpoint(1, [policy])
    run.write_progress(1, 2, 1.0)
    run.close()
    DriverState().write(folder)
    files = [
        path for path in folder.rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl", ".pt")
    ]
    return sorted(files)


# --- reading ---


def read_dataset(path: Path) -> None:
    datasets.load(str(path), ENVIRONMENT if path.suffix == ".pkl" else None)


def read_study(path: Path) -> None:
    """Every command that reads a study, and its policies and checkpoints."""
    folder = next(parent for parent in path.parents if (parent / "study.json").exists())
    found = []
    table, page = str(folder / "table.csv"), str(folder / "page.html")
    for command in (
        ["status", str(folder)],
        ["table", str(folder), "--leave-out-incomplete"],
        ["export", str(folder), "--to", table],
        ["report", str(folder), "--out", page],
    ):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            try:
                cli.main(command)
            except SystemExit as ended:
                found += [errors.getvalue()] if ended.code == 2 else []
    directory = StudyDirectory(folder)
    reads: list[Callable[[], object]] = [lambda: DriverState.read(folder)]
    for seed in (0, 1):
        run = directory.run("pendulum-replay", "bc", seed)
        reads += [run.read_progress, run.load_checkpoint, lambda run=run: run.finished]
    reads.append(lambda: seqeval.load_policy(folder, "pendulum-replay", "bc", 0)(np.zeros(3)))
    for read in reads:
        try:
            read()
        except UserError as error:
            found.append(f"{error}\n")
    if any(line.count("\n") != 1 for line in found):
        raise AssertionError(f"refused in several lines: {found!r:.500}")
    if found:
        raise UserError(found[0].strip())


def serve(requests: Connection) -> None:
    """The process that reads files: says that it is ready, then receives paths and replies with what
    happened and the bytes it took."""
    import resource

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, resource.RLIM_INFINITY))
    requests.send("ready")
    while True:
        path, is_dataset = requests.recv()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = _memory("VmRSS")
        outcome, detail = "loaded", ""
        try:
            (read_dataset if is_dataset else read_study)(path)
        except UserError as error:
            outcome, detail = "refused", str(error)
            if "\n" in detail and is_dataset and "\n" not in str(path):
                outcome = "traceback"
        except BaseException:
            outcome, detail = "traceback", traceback.format_exc()
        requests.send((outcome, detail, _memory("VmHWM") - before))


def _memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


class Reader:
    """A process that reads files, started again after it has died."""

    def __init__(self) -> None:
        self.process: Any = None

    def read(self, path: Path, is_dataset: bool) -> tuple[str, str]:
        """What happened: an outcome and its detail."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.connection, other = context.Pipe()
            self.process = context.Process(target=serve, args=(other,), daemon=True)
            self.process.start()
            other.close()
            self.connection.recv()  # its imports do not count
        self.connection.send((path, is_dataset))
        try:
            if not self._replies():
                self.stop()
                return "hang", f"more than {SECONDS:g} s"
            outcome, detail, peak = self.connection.recv()
        except (EOFError, OSError):
            code = self.process.exitcode
            self.stop()
            return "crash", f"the process ended, exit code {code}"
        return (outcome, detail) if peak <= BYTES else ("memory", f"{peak / 1e9:.1f} GB")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.process = None

    def _replies(self) -> bool:
        """Waits for a reply, unless the process computes, or does nothing at all, for too long.

        Seconds are those of the processor, so that other processes of the machine do not count.
        """
        began = last = self._seconds()
        waited = 0.0
        while not self.connection.poll(0.1):
            now = self._seconds()
            waited = 0.0 if now > last else waited + 0.1
            last = now
            if now - began > SECONDS or waited > SECONDS:
                return False
        return True

    def _seconds(self) -> float:
        """Processor time of the process."""
        try:
            times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:  # it has ended
            return 0.0
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


# --- the whole ---


def main(files: int = 1000, seed: int = 0, out: Path = Path("runs/fuzz")) -> int:
    """
    Args:
        files: Number of malformed files; two thirds are datasets, one third are files of a study.
        seed: Seed of the changes.
        out: Folder of the files that reveal a fault.
    """
    console, outcomes = plain_console(stderr=False), Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        (data := Path(folder) / "data").mkdir()
        sound, study = write_datasets(data), Path(folder) / "study"
        parts = write_study(study)
        reader = Reader()
        stack.callback(reader.stop)
        for path, is_dataset in ((sound[0], True), (study / "study.json", False)):
            outcome, detail = reader.read(path, is_dataset)
            assert outcome == "loaded", detail
        for number in range(files):
            rng = random.Random(f"{seed} {number}")
            is_dataset = number % 3 != 2
            original = rng.choice(sound if is_dataset else parts)
            if is_dataset:
                path = Path(folder) / f"malformed{original.suffix}"
            else:
                shutil.rmtree(copy := Path(folder) / "malformed", ignore_errors=True)
                shutil.copytree(study, copy)
                path = copy / original.relative_to(study)
            path.write_bytes(malformed(original, rng))
            outcome, detail = reader.read(path, is_dataset)
            outcomes[original.suffix if is_dataset else original.name, outcome] += 1
            if outcome not in ("loaded", "refused"):
                out.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, out / f"{seed}-{number}-{original.name}")
                console.print(f"{outcome}: file {number}, a {original.name}\n{detail}", markup=False)
    for kind in sorted({kind for kind, _ in outcomes}):
        counts = {outcome: count for (other, outcome), count in outcomes.items() if other == kind}
        console.print(f"{kind}: {', '.join(f'{n} {outcome}' for outcome, n in sorted(counts.items()))}")
    faults = sum(n for (_, outcome), n in outcomes.items() if outcome not in ("loaded", "refused"))
    console.print(f"{files} malformed files: {faults} faults (tracebacks, crashes, hangs, memory)")
    return int(faults > 0)


if __name__ == "__main__":
    with handle_errors("fuzz"):
        code = tyro.cli(main, description=__doc__)
    sys.exit(code)
