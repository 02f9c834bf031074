"""Worker processes do not outlive the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_their_parent_however_it_ends(tmp_path: Path) -> None:
    study = "run --datasets pendulum-replay --algorithms td3_bc --seeds 0 1 --jobs 2 --protocol.start 100"
    arguments = [sys.executable, "-m", "seqeval.cli", *study.split(), "--out", str(tmp_path / "out")]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as parent:
        workers: list[int] = []
        begun = time.monotonic()
        while not list(tmp_path.glob("out/cells/*/*/*/rows.jsonl")):
            assert time.monotonic() - begun < 60, "no worker has begun"
            time.sleep(0.1)
        workers = children(parent.pid)
        assert len(workers) >= 2
        parent.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    while left := [pid for pid in workers if os.path.exists(f"/proc/{pid}")]:
        assert time.monotonic() - begun < 20, f"still there: {left}"
        time.sleep(0.1)
