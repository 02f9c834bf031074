"""How much memory is free: the least that the machine, its control groups and the process's limits allow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")
GROUPS = Path("/proc/self/cgroup")
GROUP_ROOT = Path("/sys/fs/cgroup")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("memory.max", "memory.current", "inactive_file")


def free_memory() -> int | None:
    """Bytes available without swapping; None if the system does not say (Linux does)."""
    known = [free for free in (_of_machine(), *_of_groups(), *_of_process()) if free is not None]
    return max(min(known), 0) if known else None


def _of_machine() -> int | None:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _of_groups() -> Iterator[int]:
    """What the limit of each control group leaves that this process is in; a container is one."""
    try:
        lines = GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, names = GROUP_ROOT, VERSION_2
        elif "memory" in controllers.split(","):
            root, names = GROUP_ROOT / "memory", VERSION_1
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            yield from _of_group(root / folder, *names)


def _of_group(folder: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    try:
        text = (folder / limit).read_text().strip()
        if text == "max":
            return
        used = int((folder / usage).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    # The cache of files counts as used, but the kernel gives it up.
    yield int(text) - used + int(statistics.get(reclaimable, 0))


def _of_process() -> Iterator[int]:
    """What the limits of `ulimit -v` and `ulimit -d` leave."""
    try:
        import resource

        sizes = [int(size) * os.sysconf("SC_PAGE_SIZE") for size in STATM.read_text().split()]
    except (ImportError, OSError):
        return
    for kind, used in ((resource.RLIMIT_AS, sizes[0]), (resource.RLIMIT_DATA, sizes[5])):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft - used
