"""Give malformed files of every format to the suite, and report what it must never do with one.

    python experiments/fuzz.py --files 1000 --seed 0

Each file is a sound one with a random change: of its bytes, or of a value inside it. It may load or be
refused with one line. A traceback, a crash, more than 10 seconds or more than 1 GB of memory is a fault: it
is printed, the file is kept in OUT, and the exit code is 1. The same seed makes the same files.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import pickle
import random
import shutil
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import tyro

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
WEIRD: list[Any] = [
    *(None, True, -1, 0, 2**63, 1e308, "", "\x1b[2J\n", "x" * 100_000, "no:such", "/dev/zero", [], {}),
    *([1, 2], {"a": 1}, [[]], [None], "2026-01-01", "=1+1"),
]
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


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


# --- changes ---


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, overwritten, removed, repeated or inserted."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        begin = rng.randrange(len(changed) + 1)
        span = slice(begin, begin + rng.choice((1, 2, 4, 8, 64, 512)))
        size = len(changed[span])
        kind = rng.choice(("flip", "flip", "number", "fill", "random", "remove", "repeat", "cut"))
        if kind == "flip" and begin < len(changed):
            changed[begin] ^= 1 << rng.randrange(8)
        elif kind == "number":
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) & (256**width - 1)
            changed[begin : begin + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif kind == "fill":
            changed[span] = bytes([rng.choice((0, 255, 0x5B, 0x28))]) * size
        elif kind == "random":
            changed[span] = rng.randbytes(size)
        elif kind == "remove":
            del changed[span]
        elif kind == "repeat":
            changed[begin:begin] = changed[span] * rng.choice((1, 100))
        elif kind == "cut":
            del changed[begin:]
    return bytes(changed)


def change_member(content: bytes, rng: random.Random) -> bytes:
    """A zip archive, one file of which is changed, renamed or removed, with right checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    place, result = rng.randrange(len(members)), io.BytesIO()
    name, inside, compression = members[place]
    kind = rng.choice(("change", "change", "change", "rename", "remove", "repeat"))
    if kind == "change":
        members[place] = name, change_bytes(inside, rng), compression
    elif kind == "rename":
        members[place] = name.removesuffix(".npy") + rng.choice(("", "x", "\x1b")), inside, compression
    elif kind == "remove":
        del members[place]
    else:
        members[place] = name, inside * rng.choice((2, 1000)), compression
    with zipfile.ZipFile(result, "w") as archive:
        for name, inside, compression in members:
            archive.writestr(name, inside, compression)
    return result.getvalue()


def change_lines(content: bytes, rng: random.Random) -> bytes:
    """JSON, or lines of JSON, with another value somewhere."""
    by_line = content.count(b"\n{") > 0
    documents = content.splitlines() if by_line else [content]
    place = rng.randrange(len(documents))
    value = change_value(json.loads(documents[place]), rng)
    documents[place] = json.dumps(value).encode()
    return b"\n".join(documents) + b"\n"


def change_value(value: Any, rng: random.Random) -> Any:
    """A value, or one inside it, removed or replaced by a weird one."""
    keys = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    if not keys or rng.random() < 0.1:
        return rng.choice(WEIRD)
    key = rng.choice(keys)
    if isinstance(value, dict) and rng.random() < 0.2:
        return {k: v for k, v in value.items() if k != key}
    changed = value.copy()
    changed[key] = change_value(value[key], rng)
    return changed


def change_field(content: bytes, rng: random.Random) -> bytes:
    """An HDF5 file, one field or attribute of which is replaced."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as opened:
        key = rng.choice([*opened, "timeouts"])
        if rng.random() < 0.2:
            opened.attrs[rng.choice(("env_id", "behaviour", "reference_min"))] = rng.choice(
                [3, "\x1b[2J", "a:b", b"\xff", np.zeros(100), h5py.Empty("f4"), "x" * 60_000]
            )
            return _closed(opened, file)
        size = opened["rewards"].shape[0] if "rewards" in opened else 40
        opened.pop(key, None)
        kind = rng.choice(("external", "soft", "loop", "group", "type", "vast", "virtual", "stored", "dtype"))
        if kind == "external":
            opened[key] = h5py.ExternalLink(rng.choice(("/dev/zero", "nowhere.hdf5", "/proc/self/mem")), "/a")
        elif kind == "soft":
            opened[key] = h5py.SoftLink(rng.choice(("/rewards/x", "/", "..", "/actions")))
        elif kind == "loop":
            opened[key], opened["other"] = h5py.SoftLink("/other"), h5py.SoftLink(f"/{key}")
        elif kind == "group":
            opened.create_group(key)
        elif kind == "type":
            opened[key] = np.dtype("f4")
        elif kind == "vast":
            opened.create_dataset(key, (rng.choice((10**9, 10**12, 2**62)), 3), "f4", chunks=(8, 3))
        elif kind == "virtual":
            layout = h5py.VirtualLayout((size,), "f4")
            layout[:] = h5py.VirtualSource("/dev/zero", "a", (size,))
            opened.create_virtual_dataset(key, layout)
        elif kind == "stored":
            opened.create_dataset(key, (size,), "f4", external=[("/etc/passwd", 0, 4 * size)])
        else:
            opened[key] = np.zeros(size, rng.choice(("S9", "c16", "V8", "i8", "f2", "i4,f4")))
        return _closed(opened, file)


def _closed(opened: h5py.File, file: io.BytesIO) -> bytes:
    opened.close()
    return file.getvalue()


INSIDE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".npz": change_member,
    ".pt": change_member,
    ".json": change_lines,
    ".jsonl": change_lines,
    ".hdf5": change_field,
}


def malformed(path: Path, rng: random.Random) -> bytes:
    """The content of a sound file after a random change."""
    inside = INSIDE.get(path.suffix, change_bytes)
    return (inside if rng.random() < 0.5 else change_bytes)(path.read_bytes(), rng)


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
    """The process that reads files: receives paths, replies with what happened and the bytes it took."""
    import resource

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, resource.RLIM_INFINITY))
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
        self._warm = False

    def read(self, path: Path, is_dataset: bool) -> tuple[str, str]:
        """What happened: an outcome and its detail."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.connection, other = context.Pipe()
            self.process = context.Process(target=serve, args=(other,), daemon=True)
            self.process.start()
            other.close()
        self.connection.send((path, is_dataset))
        try:
            # The first file waits for imports too.
            if not self.connection.poll(SECONDS if self._warm else 60 + SECONDS):
                self.stop()
                return "hang", f"more than {SECONDS:g} s"
            outcome, detail, peak = self.connection.recv()
            self._warm = True
        except (EOFError, OSError):
            code = self.process.exitcode
            self.stop()
            return "crash", f"the process ended, exit code {code}"
        return (outcome, detail) if peak <= BYTES else ("memory", f"{peak / 1e9:.1f} GB")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.process, self._warm = None, False


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
