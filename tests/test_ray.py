"""A study on a Ray cluster of two nodes, one of whose processes is killed. This file is also the driver."""

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
from cluster import (
    DIES,
    RAISES,
    ROWS,
    STUDY,
    checkpoints,
    differences,
    points,
    processes_with_files_in,
    rows,
    rows_before,
    run,
)

from seqeval import Ray, UserError, cli
from seqeval.errors import PluginError
from seqeval.execution.storage import StudyDirectory

WITH_FAILURES = replace(
    STUDY, algorithms=(*STUDY.algorithms, "raises.py:Raises:name=raises", "dies.py:Dies:name=dies")
)


def drive() -> dict[str, Any]:
    """Runs studies on a cluster; returns what only the driver observes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    settings = Ray(address=cluster.address, retries=1)
    options: dict[str, Any] = {"launcher": "ray", "ray": settings, "save_every": 0.05}
    seen: dict[str, Any] = {"handler": str(signal.getsignal(signal.SIGTERM)), "rows": []}

    ended = threading.Event()
    watcher = threading.Thread(target=lambda: seen.update(watch_and_kill(Path("killed"), ended)))
    watcher.start()
    try:
        for row in rows(WITH_FAILURES, Path("killed"), **options):
            seen["rows"].append((row.variant, row.seed, row.samples))
    except PluginError as error:
        seen["raised"] = error.traceback
    ended.set()
    watcher.join()

    started = rows(STUDY, Path("stopped"), **options)
    next(started)
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        list(started)
    except KeyboardInterrupt:
        seen["stopped"] = len(checkpoints(Path("stopped")))
    seen["handler after"] = str(signal.getsignal(signal.SIGTERM))
    cluster.shutdown()
    return seen


def watch_and_kill(out: Path, ended: threading.Event) -> dict[str, Any]:
    """Kills the process of the first job that has a checkpoint with rows before it; counts the nodes that
    jobs ran on until the study has ended."""
    seen: dict[str, Any] = {}
    nodes = set()
    while not ended.wait(0.1):
        for pid in processes_with_files_in(out / "runs"):
            with suppress(FileNotFoundError):
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                name = Path(f"/proc/{parent}/comm").read_text().strip()
                if name == "raylet":
                    nodes.add(parent)
        for checkpoint in [] if seen else checkpoints(out):
            for pid in set(processes_with_files_in(checkpoint.parent)) - {os.getpid()}:
                os.kill(pid, signal.SIGSTOP)
                if checkpoint.exists() and (stored := rows_before(checkpoint)):
                    os.kill(pid, signal.SIGKILL)
                    seen = {"run": str(checkpoint.parent), "rows before": stored}
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
    run(STUDY, tmp_path / "expected")
    assert len(points(tmp_path / "expected")) == ROWS
    assert seen["nodes"] == 2

    # The killed job resumed from its checkpoint: the rows before it still have their seconds.
    assert len(seen["rows before"].splitlines()) >= 1
    assert (tmp_path / seen["run"] / "rows.jsonl").read_text().startswith(seen["rows before"])
    failed = [f"pendulum-replay/{name}/seed-{seed}" for name in ("dies", "raises") for seed in (0, 1)]
    assert different(tmp_path / "expected", tmp_path / "killed") == [
        f"{name}: only in {tmp_path / 'killed'}" for name in failed
    ]
    # Every row reached the driver once.
    assert sorted(map(tuple, seen["rows"])) == points(tmp_path / "expected")

    # Jobs that raised or died are reported, and the others finished.
    assert "pendulum-replay · raises · seed 0, 1:\nTraceback" in seen["raised"]
    for name, why in (
        ("raises", "ZeroDivisionError: deliberate"),
        ("dies", "run the same command again to resume"),
    ):
        for seed in (0, 1):
            error = StudyDirectory(tmp_path / "killed").run("pendulum-replay", name, seed).error
            assert why in error.read_text()
            assert error.read_text().strip() in seen["raised"]

    # The stopped study saved itself, and resumes in this process.
    assert seen["stopped"] >= 2
    run(STUDY, tmp_path / "stopped")
    assert different(tmp_path / "expected", tmp_path / "stopped") == []
    assert seen["handler after"] == seen["handler"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (
            ("--launcher", "ray", "--ray.address", "nowhere"),
            "ray.address: 'nowhere' is neither host:port nor auto",
        ),
        (
            ("--launcher", "ray", "--ray.address", "127.0.0.1:1"),
            "ray.address: no cluster answers at 127.0.0.1:1",
        ),
        (
            ("--launcher", "ray", "--ray.gpus-per-job", "1.5"),
            "ray.gpus_per_job: a share up to 1 or a whole",
        ),
        (
            ("--launcher", "ray", "--device", "cuda"),
            "device: is cuda, but the jobs of launcher ray run on cpu; ",
        ),
        (("--ray.retries", "3"), "ray: these settings have no effect without --launcher ray"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(
    flags: tuple[str, ...], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    study = ("run", "--datasets", "pendulum-replay", "--algorithms", "bc", "--out", str(tmp_path / "out"))
    with pytest.raises(SystemExit) as ended:
        cli.main([*study, *flags])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"seqeval: {why}")


def test_if_ray_is_missing_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "seqeval.execution.launchers.ray", raising=False)
    with pytest.raises(
        UserError, match=r"^launcher ray: Ray is not installed; pip install 'seqeval-rl\[ray\]'$"
    ):
        run(STUDY, tmp_path / "out", launcher="ray")
    assert not (tmp_path / "out").exists()


if __name__ == "__main__":
    print(json.dumps(drive()))
