"""Evaluation in a process beside training: the same rows, whatever becomes of either process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from cluster import RAISES, differences, silent

from seqeval import Evaluation, Online, Protocol, Study, UserError, datasets, execution, signals
from seqeval.config import Ray, Slurm
from seqeval.execution import WorkFailed
from seqeval.execution.launchers import local
from seqeval.execution.storage import RunDirectory

SMALL = "hidden=(16,16),batch_size=16"
STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},name=td3_bc", f"bc:{SMALL},name=bc"),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=64),
    evaluation=Evaluation(points=3, episodes=1),
    online=Online(steps=60),
)

# Pendulum, but where it is evaluated beside, a file may stop it or make it raise.
HELD = """
import sys, time
from pathlib import Path
import gymnasium
from gymnasium.envs.classic_control.pendulum import PendulumEnv

HERE = Path(__file__).parent

class Held(PendulumEnv):
    def step(self, action):
        if sys.argv[0] == "-c":
            while (HERE / "hold").exists():
                time.sleep(0.02)
            if (HERE / "raise").exists():
                raise ZeroDivisionError("of the environment's own doing")
        return super().step(action)

gymnasium.register("Held-v0", entry_point=Held, max_episode_steps=20)
"""
FLAGS = (
    *("--algorithms", f"td3_bc:{SMALL},name=td3_bc", "--seeds", "0", "1", "--env", "held:Held-v0"),
    *("--protocol.start", "100", "--protocol.grow-by", "4", "--save-every", "0.02", "--overlap", "on"),
    *("--evaluation.points", "3", "--evaluation.episodes", "1"),
)


def beside(pid: int) -> list[int]:
    """The processes that evaluate for a process or for one that it has started."""
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        with suppress(OSError):  # it has ended
            evaluates = b"evaluation import beside" in Path(f"/proc/{child}/cmdline").read_bytes()
            found += [child] if evaluates else beside(child)
    return found


def wait_for(what: Any, seconds: float = 60.0) -> Any:
    begun = time.monotonic()
    while not (found := what()):
        assert time.monotonic() - begun < seconds, "it has not come to that"
        time.sleep(0.02)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended, be it only that nobody has asked for its exit code yet."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an environment, data of it, and a study of both that was run in peace."""
    folder = tmp_path_factory.mktemp("held")
    (folder / "held.py").write_text(HELD)
    data = datasets.load("pendulum-replay")
    names = ("observations", "actions", "rewards", "next_observations")
    fields = {name: getattr(data, name)[:400] for name in names}
    fields |= {"terminals": data.terminated[:400], "timeouts": data.truncated[:400]}
    np.savez(folder / "data.npz", **fields)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(folder))
        patched.syspath_prepend(str(folder))
        study_in(folder).run(folder / "whole", jobs=1, console=silent(), overlap="off")
        yield folder
        gymnasium.registry.pop("Held-v0", None)
        sys.modules.pop("held", None)


@pytest.fixture
def held(folder: Path) -> Iterator[Path]:
    """That folder, in which evaluations beside wait while there is a file `hold`."""
    (folder / "hold").touch()
    yield folder
    for name in ("hold", "raise"):
        (folder / name).unlink(missing_ok=True)


def study_in(folder: Path) -> Study:
    """What the flags say."""
    return Study(
        datasets=(str(folder / "data.npz"),),
        algorithms=(f"td3_bc:{SMALL},name=td3_bc",),
        seeds=(0, 1),
        protocol=Protocol(start=100, grow_by=4),
        evaluation=Evaluation(points=3, episodes=1),
        env="held:Held-v0",
    )


def begin(folder: Path, out: Path, jobs: int) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "seqeval.cli", "run", *FLAGS, "--datasets", folder / "data.npz")
    return subprocess.Popen(
        [*map(str, command), "--out", str(out), "--jobs", str(jobs)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def saved_behind(out: Path, cells: int) -> bool:
    """Whether as many cells are saved, none of which has a row."""
    checkpoints = list(out.glob("cells/*/*/*/checkpoint.pt"))
    return len(checkpoints) == cells and not any(p.stat().st_size for p in out.glob("cells/*/*/*/rows.jsonl"))


def values(out: Path, variant: str) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if not key.endswith("_seconds") and key != "study"}
        for row in RunDirectory(out).rows()
        if row["variant"] == variant
    ]


def test_no_number_depends_on_who_evaluates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in, begun, popen = tmp_path / "clones.py", [], subprocess.Popen
    plug_in.write_text(RAISES.replace("raise ZeroDivisionError", "return {}; print"))
    study = replace(STUDY, algorithms=(*STUDY.algorithms, f"{plug_in}:Raises:name=own"), seeds=(0,))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: begun.append(a[0]) or popen(*a, **k))
    study.run(tmp_path / "off", jobs=1, console=silent(), overlap="off")
    assert not [command for command in begun if "-c" in command]
    study.run(tmp_path / "on", jobs=1, console=silent(), overlap="on")
    assert len([command for command in begun if "-c" in command]) == 3
    assert differences()(tmp_path / "off", tmp_path / "on") == []
    # auto: here until that has taken so long, then beside.
    monkeypatch.setattr(execution, "OVERLAP_AFTER", 0.01)
    monkeypatch.setattr(local, "cores", lambda: 2)
    replace(study, algorithms=STUDY.algorithms[:1]).run(tmp_path / "auto", jobs=1, console=silent())
    assert len([command for command in begun if "-c" in command]) == 4
    assert values(tmp_path / "auto", "td3_bc") == values(tmp_path / "off", "td3_bc")
    assert len(values(tmp_path / "auto", "td3_bc")) == 7


@pytest.mark.parametrize(
    ("overlap", "device", "room", "after"),
    [
        ("auto", "cpu", True, execution.OVERLAP_AFTER),
        ("auto", "cuda", True, 0.0),
        ("auto", "cpu", False, float("inf")),
        ("on", "cpu", False, 0.0),
        ("off", "cuda", True, float("inf")),
    ],
)
def test_when_it_overlaps(overlap: Any, device: str, room: bool, after: float) -> None:
    assert execution._overlap_after(overlap, device, room) == after


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_piece_that_is_killed_while_it_is_evaluated_takes_its_evaluation_with_it(held: Path) -> None:
    out = held / "piece"
    with begin(held, out, jobs=2) as driver:
        evaluators = wait_for(lambda: len(found := beside(driver.pid)) == 2 and found)
        wait_for(lambda: saved_behind(out, 2))
        piece = int(Path(f"/proc/{evaluators[0]}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(piece, signal.SIGKILL)
        wait_for(lambda: gone(evaluators[0]), 10)
        assert not gone(evaluators[1])
        (held / "hold").unlink()
        said = driver.communicate(timeout=60)[1]
    assert driver.returncode == 0
    assert said.count("its process died; it goes on where it was saved") == 1
    assert gone(evaluators[1])
    assert differences()(held / "whole", out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_a_study_that_ends_waits_for_no_evaluation_and_leaves_none_behind(
    held: Path, number: signal.Signals
) -> None:
    out = held / number.name
    with begin(held, out, jobs=1) as study:
        (evaluator,) = wait_for(lambda: beside(study.pid))
        for ignored in signals.STOP_SIGNALS:
            os.kill(evaluator, ignored)
        wait_for(lambda: saved_behind(out, 2))
        time.sleep(1.0)  # by now training waits: it has come to the next point
        assert not gone(evaluator)
        if number == signal.SIGINT:  # as a terminal does: to all of them
            os.killpg(study.pid, number)
        else:
            os.kill(study.pid, number)
        study.communicate(timeout=20)
    assert study.returncode == (130 if number == signal.SIGINT else -number)
    wait_for(lambda: gone(evaluator), 10)
    assert saved_behind(out, 2)
    (held / "hold").unlink()
    study_in(held).run(out, jobs=1, console=silent())
    assert differences()(held / "whole", out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_goes_wrong_in_an_evaluation_fails_the_piece_and_says_why(held: Path) -> None:
    study, out = study_in(held), held / "wrong"
    how: Any = {"jobs": 1, "console": silent(), "overlap": "on", "save_every": 0.02}

    def kill() -> None:
        os.kill(wait_for(lambda: beside(os.getpid()))[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(UserError, match=r"^data · td3_bc · seed 0, 1: the process .* killed \(SIGKILL; "):
        study.run(out, **how)
    killer.join()

    (held / "hold").unlink()
    (held / "raise").touch()
    with pytest.raises(WorkFailed) as raised:
        study.run(out, **how)
    assert "data · td3_bc · seed 0, 1:\nTraceback" in str(raised.value)
    assert f'File "{held / "held.py"}"' in str(raised.value)
    assert "ZeroDivisionError: of the environment's own doing" in str(raised.value)
    assert beside(os.getpid()) == []
    (held / "raise").unlink()

    study.run(out, jobs=1, console=silent())
    assert differences()(held / "whole", out) == []


SCRIPT = """
import gymnasium
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from seqeval import Evaluation, Protocol, Study

class Own(PendulumEnv):
    "Known to this script alone."

gymnasium.register("Own-v0", entry_point=Own, max_episode_steps=20)
study = Study(("data.npz",), ("bc:hidden=(8,8)",), (0,), Protocol(start=100, grow_by=100),
              evaluation=Evaluation(points=1, episodes=1), env="Own-v0")
print(len(study.run("out", jobs=1, overlap="on")))
"""


def test_a_script_needs_no_guard_and_may_have_an_environment_of_its_own(held: Path) -> None:
    (held / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=held, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["2"]), done.stderr


def test_on_a_cluster_a_piece_overlaps_where_it_has_cpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm = pytest.importorskip("seqeval.execution.launchers.slurm")
    asked = []
    monkeypatch.setattr(slurm, "submit", lambda *what: asked.append(what[4]))
    for number, (cpus, overlap) in enumerate(((1, "auto"), (2, "auto"), (1, "on"), (2, "off"))):
        study = replace(STUDY, algorithms=STUDY.algorithms[:1])
        study.run(
            tmp_path / str(number), console=silent(), launcher=Slurm(cpus=cpus, detach=True), overlap=overlap
        )
    assert asked == [float("inf"), execution.OVERLAP_AFTER, 0.0, float("inf")]
    ray = pytest.importorskip("seqeval.execution.launchers.ray")
    monkeypatch.setattr(ray.ray, "cluster_resources", lambda: {"CPU": 5.0})
    assert [ray._room(Ray(), after) for after in (float("inf"), 0.0)] == [5, 2]
