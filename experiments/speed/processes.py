"""Parts c and e: processes of the command line: a study, and start-up."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from seqeval.execution import storage

from .options import Options, Result

STUDY = ("--datasets", "hopper-replay", "--algorithms", "bc", "td3_bc", "iql", "--seeds", "0", "1", "2")
STARTS = {  # arguments of python, and target in CPU seconds
    "seqeval --help": (("-m", "seqeval.cli", "--help"), 0.3),
    "import seqeval": (("-c", "import seqeval"), 0.3),
}


def end_to_end(options: Options) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        length = ("--protocol.grow-by", str(options.grow_by), "--evaluation.points", "5")
        run = ["run", *STUDY, *length, "--jobs", "1", "--overlap", "off", "--device", "cpu"]
        began = time.perf_counter()
        child = [sys.executable, "-m", "seqeval.cli", *run, "--out", folder]
        subprocess.run(child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        wall = time.perf_counter() - began
        rows = storage.frame([Path(folder)])
    seconds = {"updates": float(rows["train_seconds"].sum()), "evaluation": float(rows["eval_seconds"].sum())}
    seconds["everything else"] = wall - sum(seconds.values())
    for activity, value in seconds.items():
        yield {"what": activity, "seconds": value, "share": value / wall, "study": f"seqeval {' '.join(run)}"}


def start_up(options: Options) -> Iterator[Result]:
    # As a user's second start: Python reads compiled modules.
    cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for command, (arguments, target) in STARTS.items():
        rounds = []
        for _ in range(options.rounds):
            before = os.times()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=cached, check=True)
            after = os.times()
            rounds.append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
        imports = subprocess.run(
            [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
        )
        modules = {line.rpartition("|")[2].strip() for line in imports.stderr.splitlines()}
        best = {"seconds": min(rounds), "target": target, "met": min(rounds) < target}
        yield {"what": command} | best | {"loads_torch": "torch" in modules, "rounds": rounds}
