"""Random changes of sound files, for experiments/fuzz.py."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

WEIRD: list[Any] = [
    *(None, True, -1, 0, 2**63, 1e308, "", "\x1b[2J\n", "x" * 100_000, "no:such", "/dev/zero", [], {}),
    *([1, 2], {"a": 1}, [[]], [None], "2026-01-01", "=1+1"),
]
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


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
