"""Evaluation in a second process: the same rows, and an orderly end whatever happens to either process."""

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
from cluster import RAISES, SMALL, checkpoints, differences, run

from seqeval import Evaluation, Execution, Online, Protocol, Slurm, Study, UserError, datasets, signals
from seqeval.errors import PluginError
from seqeval.execution import driver
from seqeval.execution.launchers import local
from seqeval.execution.storage import Run, StudyDirectory
from seqeval.execution.worker import JobPayload

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},name=td3_bc", f"bc:{SMALL},name=bc"),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=64),
    evaluation=Evaluation(points=3, episodes=1),
    online=Online(steps=60),
)

# Pendulum, but in the evaluating process a file makes it wait or raise.
PAUSABLE = """
import sys, time
from pathlib import Path
import gymnasium
from gymnasium.envs.classic_control.pendulum import PendulumEnv

FOLDER = Path(__file__).parent

class Pausable(PendulumEnv):
    def step(self, action):
        if sys.argv[0] == "-c":
            while (FOLDER / "wait").exists():
                time.sleep(0.02)
            if (FOLDER / "raise").exists():
                raise ZeroDivisionError("deliberate")
        return super().step(action)

gymnasium.register("Pausable-v0", entry_point=Pausable, max_episode_steps=20)
"""
FLAGS = (
    *("--algorithms", f"td3_bc:{SMALL},name=td3_bc", "--seeds", "0", "1", "--env", "pausable:Pausable-v0"),
    *("--protocol.start", "100", "--protocol.grow-by", "4", "--save-every", "0.02", "--overlap", "on"),
    *("--evaluation.points", "3", "--evaluation.episodes", "1"),
)


def evaluating(pid: int) -> list[int]:
    """The evaluating processes of a process and of those that it has started."""
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        with suppress(OSError):  # it has ended
            evaluates = b"import in_subprocess" in Path(f"/proc/{child}/cmdline").read_bytes()
            found += [child] if evaluates else evaluating(child)
    return found


def wait_for(condition: Any, seconds: float = 60.0) -> Any:
    start = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - start < seconds, "not within the time limit"
        time.sleep(0.02)
    return found


def ended(pid: int) -> bool:
    """Whether a process has ended, even if its parent has not asked for its exit code."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an environment, a dataset of it, and an uninterrupted study of both, `expected`."""
    folder = tmp_path_factory.mktemp("pausable")
    (folder / "pausable.py").write_text(PAUSABLE)
    data = datasets.load("pendulum-replay")
    names = ("observations", "actions", "rewards", "next_observations")
    fields = {name: getattr(data, name)[:400] for name in names}
    fields |= {"terminals": data.terminated[:400], "timeouts": data.truncated[:400]}
    np.savez(folder / "data.npz", **fields)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(folder))
        patched.syspath_prepend(str(folder))
        run(study_in(folder), folder / "expected", overlap="off")
        yield folder
        gymnasium.registry.pop("Pausable-v0", None)
        sys.modules.pop("pausable", None)


@pytest.fixture
def waiting(folder: Path) -> Iterator[Path]:
    """That folder, in which evaluating processes wait as long as the file `wait` exists."""
    (folder / "wait").touch()
    yield folder
    for name in ("wait", "raise"):
        (folder / name).unlink(missing_ok=True)


def study_in(folder: Path) -> Study:
    """The study of FLAGS."""
    return Study(
        datasets=(str(folder / "data.npz"),),
        algorithms=(f"td3_bc:{SMALL},name=td3_bc",),
        seeds=(0, 1),
        protocol=Protocol(start=100, grow_by=4),
        evaluation=Evaluation(points=3, episodes=1),
        env="pausable:Pausable-v0",
    )


def start(folder: Path, out: Path, jobs: int) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "seqeval.cli", "run", *FLAGS, "--datasets", folder / "data.npz")
    return subprocess.Popen(
        [*map(str, command), "--out", str(out), "--jobs", str(jobs)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def values(out: Path, variant: str) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if not key.endswith("_seconds") and key != "study"}
        for row in StudyDirectory(out).rows()
        if row["variant"] == variant
    ]


def test_results_do_not_depend_on_the_process_that_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, started, popen = tmp_path / "plugin.py", [], subprocess.Popen
    plugin.write_text(RAISES.replace("raise ZeroDivisionError", "return {}; print"))
    study = replace(STUDY, algorithms=(*STUDY.algorithms, f"{plugin}:Raises:name=plugin"), seeds=(0,))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a[0]) or popen(*a, **k))
    run(study, tmp_path / "off", overlap="off")
    assert not [command for command in started if "-c" in command]
    run(study, tmp_path / "on", overlap="on")
    assert len([command for command in started if "-c" in command]) == 3
    assert differences()(tmp_path / "off", tmp_path / "on") == []
    # auto: in the training process for some time, then in a second one.
    monkeypatch.setattr(driver, "SWITCH_AFTER", 0.01)
    monkeypatch.setattr(local, "cores", lambda: 2)
    run(replace(study, algorithms=STUDY.algorithms[:1]), tmp_path / "auto")
    assert len([command for command in started if "-c" in command]) == 4
    assert values(tmp_path / "auto", "td3_bc") == values(tmp_path / "off", "td3_bc")
    assert len(values(tmp_path / "auto", "td3_bc")) == 7


@pytest.mark.parametrize(
    ("overlap", "device", "spare", "after"),
    [
        ("auto", "cpu", True, driver.SWITCH_AFTER),
        ("auto", "cuda", True, 0.0),
        ("auto", "cpu", False, float("inf")),
        ("on", "cpu", False, 0.0),
        ("off", "cuda", True, float("inf")),
    ],
)
def test_when_jobs_evaluate_in_a_second_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlap: Any, device: str, spare: bool, after: float
) -> None:
    execution = Execution(overlap=overlap)
    launcher = local.Local(execution, tmp_path)
    monkeypatch.setattr(launcher, "has_spare_cpu", lambda *_: spare)
    assert driver._switch_after(execution, launcher, device, 1) == after


def test_a_local_job_has_a_spare_cpu_if_there_are_more_cores_than_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "cores", lambda: 4)
    for parallel, jobs, spare in ((None, 3, True), (None, 4, False), (2, 9, True), (4, 9, False)):
        assert local.Local(Execution(jobs=parallel), tmp_path).has_spare_cpu("cpu", jobs) == spare
    assert local.Local(Execution(), tmp_path).has_spare_cpu("cuda", 9)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_job_ends_its_evaluating_process(waiting: Path) -> None:
    out = waiting / "killed"
    with start(waiting, out, jobs=2) as study:
        evaluators = wait_for(lambda: len(found := evaluating(study.pid)) == 2 and found)
        job = int(Path(f"/proc/{evaluators[0]}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(job, signal.SIGKILL)
        wait_for(lambda: ended(evaluators[0]), 10)
        assert not ended(evaluators[1])
        (waiting / "wait").unlink()
        output = study.communicate(timeout=60)[1]
    assert study.returncode == 0
    assert output.count("its process died; it resumes from its last checkpoint") == 1
    assert ended(evaluators[1])
    assert differences()(waiting / "expected", out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_a_study_that_is_ended_leaves_no_evaluating_process(waiting: Path, number: signal.Signals) -> None:
    """After Ctrl-C it waits for the evaluation, since checkpoints have the rows of all evaluations before."""
    out = waiting / number.name
    with start(waiting, out, jobs=1) as study:
        (evaluator,) = wait_for(lambda: evaluating(study.pid))
        for ignored in signals.STOP_SIGNALS:
            os.kill(evaluator, ignored)
        time.sleep(1.0)  # by now training has reached the next point and waits
        assert not ended(evaluator)
        assert checkpoints(out) == []
        if number == signal.SIGINT:  # as a terminal does: to the process group
            os.killpg(study.pid, number)
            (waiting / "wait").unlink()
        else:
            os.kill(study.pid, number)
        study.communicate(timeout=20)
    assert study.returncode == (130 if number == signal.SIGINT else -number)
    wait_for(lambda: ended(evaluator), 10)
    assert len(checkpoints(out)) == (2 if number == signal.SIGINT else 0)
    (waiting / "wait").unlink(missing_ok=True)
    run(study_in(waiting), out)
    assert differences()(waiting / "expected", out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_failed_evaluation_fails_its_job_with_the_reason(waiting: Path) -> None:
    study, out = study_in(waiting), waiting / "failed"
    options: Any = {"overlap": "on", "save_every": 0.02}

    def kill() -> None:
        os.kill(wait_for(lambda: evaluating(os.getpid()))[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(
        UserError, match=r"^data · td3_bc · seed 0, 1: the evaluating process was killed \(SIGKILL; "
    ):
        run(study, out, **options)
    killer.join()

    (waiting / "wait").unlink()
    (waiting / "raise").touch()
    with pytest.raises(PluginError, match=r"^data · td3_bc · seed 0, 1: a plug-in or environment") as raised:
        run(study, out, **options)
    assert f'File "{waiting / "pausable.py"}"' in str(raised.value)
    assert "ZeroDivisionError: deliberate" in str(raised.value)
    assert evaluating(os.getpid()) == []
    (waiting / "raise").unlink()

    run(study, out)
    assert differences()(waiting / "expected", out) == []


def test_a_checkpoint_is_taken_while_evaluations_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation is due after every update, and each takes longer than an update."""
    saved: list[int] = []
    save = Run.save_checkpoint

    def save_and_record(self: Run, updates: int, states: Any) -> None:
        saved.append(updates)
        save(self, updates, states)

    monkeypatch.setattr(Run, "save_checkpoint", save_and_record)
    study = replace(
        STUDY,
        algorithms=(f"bc:{SMALL},name=bc",),
        seeds=(0,),
        protocol=Protocol(start=19_500, grow_by=50),
        evaluation=Evaluation(every=50, episodes=1),
        online=Online(),
    )
    assert len(run(study, tmp_path / "out", overlap="on", save_every=0.0)) == 11
    assert saved == list(range(1, 11))


SCRIPT = """
import gymnasium
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from seqeval import Evaluation, Execution, Protocol, Study, run

class Script(PendulumEnv):
    "An environment that only this script registers."

gymnasium.register("Script-v0", entry_point=Script, max_episode_steps=20)
study = Study(("data.npz",), ("bc:hidden=(8,8)",), (0,), Protocol(start=100, grow_by=100),
              evaluation=Evaluation(points=1, episodes=1), env="Script-v0")
print(len(run(study, "out", Execution(jobs=1, overlap="on"))))
"""


def test_a_script_needs_no_main_guard_and_may_register_its_environment(waiting: Path) -> None:
    (waiting / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=waiting, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["2"]), done.stderr


def test_slurm_jobs_evaluate_in_a_second_process_if_they_have_two_cpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm = pytest.importorskip("seqeval.execution.launchers.slurm")
    submitted: list[JobPayload] = []
    monkeypatch.setattr(slurm.Slurm, "submit", lambda _, payloads, stop: submitted.extend(payloads))
    study = replace(STUDY, algorithms=STUDY.algorithms[:1])
    for number, (cpus, overlap) in enumerate(((1, "auto"), (2, "auto"), (1, "on"), (2, "off"))):
        settings = Slurm(cpus=cpus, detach=True)
        run(study, tmp_path / str(number), launcher="slurm", slurm=settings, overlap=overlap)
    found = [payload.switch_after for payload in submitted]
    assert found == [float("inf"), driver.SWITCH_AFTER, 0.0, float("inf")]


def test_ray_tasks_reserve_a_second_cpu_for_evaluation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ray = pytest.importorskip("seqeval.execution.launchers.ray")
    monkeypatch.setattr(ray.ray, "cluster_resources", lambda: {"CPU": 5.0})
    for overlap, slots in (("auto", 5), ("off", 5), ("on", 2)):
        launcher = ray.Ray(Execution(launcher="ray", overlap=overlap), tmp_path)
        assert launcher.slots("cpu") == slots
        assert not launcher.has_spare_cpu("cpu", 1)
