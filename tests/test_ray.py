"""A study on a Ray cluster of two nodes, of which a process is killed; this file is the driver too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster import DIES, RAISES, ROWS, STUDY, differences, kept, points, saved, silent, working_in

from seqeval import Ray, UserError, cli
from seqeval.execution import WorkFailed
from seqeval.execution.storage import RunDirectory

ALSO_FAILS = replace(
    STUDY, algorithms=(*STUDY.algorithms, "raises.py:Raises:name=raises", "dies.py:Dies:name=dies")
)


def drive() -> dict[str, Any]:
    """Runs studies on a cluster, and returns what is to be seen of them from here alone."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    launcher = Ray(address=cluster.address, retries=1)
    how: dict[str, Any] = {"launcher": launcher, "console": silent(), "save_every": 0.05}
    seen: dict[str, Any] = {"handler": str(signal.getsignal(signal.SIGTERM)), "rows": []}

    over = threading.Event()
    watcher = threading.Thread(target=lambda: seen.update(watch_and_kill(Path("killed"), over)))
    watcher.start()
    try:
        for row in ALSO_FAILS.rows("killed", **how):
            seen["rows"].append((row.variant, row.seed, row.samples))
    except WorkFailed as error:
        seen["raised"] = str(error)
    over.set()
    watcher.join()

    rows = STUDY.rows("stopped", **how)
    next(rows)
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        list(rows)
    except KeyboardInterrupt:
        seen["stopped"] = len(saved(Path("stopped")))
    seen["handler after"] = str(signal.getsignal(signal.SIGTERM))
    cluster.shutdown()
    return seen


def watch_and_kill(out: Path, over: threading.Event) -> dict[str, Any]:
    """Kills the first worker process that has stored a row and saved itself since; looks on until all is over
    under which nodes' processes there was work."""
    seen: dict[str, Any] = {}
    nodes = set()
    while not over.wait(0.1):
        for pid in working_in(out / "cells"):
            with suppress(FileNotFoundError):
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                name = Path(f"/proc/{parent}/comm").read_text().strip()
                if name == "raylet":
                    nodes.add(parent)
        for checkpoint in [] if seen else saved(out):
            for pid in set(working_in(checkpoint.parent)) - {os.getpid()}:
                os.kill(pid, signal.SIGSTOP)
                if checkpoint.exists() and (rows := kept(checkpoint)):
                    os.kill(pid, signal.SIGKILL)
                    seen = {"cell": str(checkpoint.parent), "kept": rows}
                    break
                os.kill(pid, signal.SIGCONT)
    return seen | {"nodes": len(nodes)}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(280)
def test_a_study_on_two_nodes_survives_the_death_of_a_worker(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "raises.py").write_text(RAISES)
    (tmp_path / "dies.py").write_text(DIES)
    driver = subprocess.run(
        [sys.executable, __file__], cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False
    )
    assert driver.returncode == 0, driver.stderr
    seen = json.loads(driver.stdout.splitlines()[-1])
    different = differences()
    STUDY.run(tmp_path / "whole", jobs=1, console=silent())
    assert len(points(tmp_path / "whole")) == ROWS
    assert seen["nodes"] == 2

    # Killed in the middle, it went on from where it had been saved: those rows have kept their seconds.
    assert len(seen["kept"].splitlines()) >= 1
    assert (tmp_path / seen["cell"] / "rows.jsonl").read_text().startswith(seen["kept"])
    assert different(tmp_path / "whole", tmp_path / "killed") == []
    # Every row has come to the driver, and none twice.
    assert sorted(map(tuple, seen["rows"])) == points(tmp_path / "whole")

    # What raised or died is told of, and has not kept the others from their end.
    assert "pendulum-replay · raises · seed 0, 1:\nTraceback" in seen["raised"]
    for name, why in (
        ("raises", "ZeroDivisionError: of its own doing"),
        ("dies", "goes on where it was saved"),
    ):
        for seed in (0, 1):
            error = RunDirectory(tmp_path / "killed").cell("pendulum-replay", name, seed).error
            assert why in error.read_text()
            assert error.read_text().strip() in seen["raised"]

    # What was stopped saved itself, and goes on here.
    assert seen["stopped"] >= 2
    STUDY.run(tmp_path / "stopped", jobs=1, console=silent())
    assert different(tmp_path / "whole", tmp_path / "stopped") == []
    assert seen["handler after"] == seen["handler"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (
            ("--launcher", "ray", "--ray.address", "nowhere"),
            "ray.address: 'nowhere' is not host:port, nor auto",
        ),
        (
            ("--launcher", "ray", "--ray.address", "127.0.0.1:1"),
            "ray.address: no cluster answers at 127.0.0.1:1",
        ),
        (
            ("--launcher", "ray", "--ray.gpus-per-piece", "1.5"),
            "ray.gpus_per_piece: a share up to 1 or a whole",
        ),
        (("--launcher", "ray", "--device", "cuda"), "device: is cuda, and ray.gpus_per_piece is 0"),
        (("--ray.retries", "3"), "ray: its settings mean nothing without --launcher ray"),
    ],
)
def test_what_will_not_do_is_one_line(
    flags: tuple[str, ...], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    study = ("run", "--datasets", "pendulum-replay", "--algorithms", "bc", "--out", str(tmp_path / "out"))
    with pytest.raises(SystemExit) as ended:
        cli.main([*study, *flags])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"seqeval: {why}")


def test_without_ray_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "seqeval.execution.launchers.ray", raising=False)
    with pytest.raises(
        UserError, match=r"^launcher ray: Ray is not installed; pip install 'seqeval-rl\[ray\]'$"
    ):
        STUDY.run(tmp_path / "out", launcher=Ray())
    assert not (tmp_path / "out").exists()


if __name__ == "__main__":
    print(json.dumps(drive()))
