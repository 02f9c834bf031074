"""Faults of plug-ins and environments: their own frames are shown, with exit code 3, and none of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from conftest import Seqeval

import seqeval as package
from seqeval import Evaluation, Execution, PluginError, Protocol, Study
from seqeval.faults import plugin_error

PLUGIN = """
import torch
from seqeval.algorithm import SingleAlgorithm


class Zero(SingleAlgorithm):
    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size)

    def update(self, batch):
        self.updates += 1
        return {"loss": self.net(batch.observations).mean()}

    def act(self, observations):
        return self.net(observations).tanh()


class Update(Zero):
    def update(self, batch):
        return {"loss": helper(self, batch)}


def helper(self, batch):
    return self.net(batch.observations[:, :1])  # torch raises


class Act(Zero):
    def act(self, observations):
        raise RuntimeError("lost\\nthe way")


class Build(Zero):
    def __init__(self, *inputs):
        self.missing


class Evaluate:
    pass
"""
EVALUATOR = """
from seqeval.evaluation import Evaluator


class Divides(Evaluator):
    uses_data = {uses_data}

    def evaluate(self, agents, visible):
        return 1 / 0
"""
PROTOCOL = ("--protocol.start", "19990", "--evaluation.points", "1", "--evaluation.episodes", "1")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


def run(seqeval: Seqeval, out: Path, algorithm: str, *more: str, jobs: int = 1) -> tuple[int, str, str]:
    return seqeval(
        *("run", "--datasets", "pendulum-replay", "--algorithms", algorithm, "--seeds", "0", "1"),
        *("--jobs", str(jobs), *PROTOCOL, "--out", out, *more),
    )


@pytest.mark.parametrize(
    ("name", "frames", "last"),
    [
        ("Update", ["in update", "in helper"], "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("Act", ["in act"], "RuntimeError: lost"),
        ("Build", ["in __init__"], "AttributeError: 'Build' object has no attribute 'missing'"),
    ],
)
def test_a_fault_of_an_algorithm_shows_the_frames_of_its_file(
    seqeval: Seqeval, plugin: Path, tmp_path: Path, name: str, frames: list[str], last: str
) -> None:
    code, _, err = run(seqeval, tmp_path / "out", f"{plugin}:{name}")
    assert code == 3
    shown = [line for line in err.splitlines() if line.startswith("  File ")]
    assert all(str(plugin) in line for line in shown)
    assert [line.rpartition(", ")[2] for line in shown] == frames
    assert last in err
    assert "Traceback" not in err
    for seed in (0, 1):
        error = (tmp_path / f"out/runs/pendulum-replay/{name}/seed-{seed}/error.txt").read_text()
        assert ":\nTraceback (most recent call last):" in error
        assert "in run_payload" in error
        assert last in error
    assert "seed-0/error.txt" in err


def test_a_fault_in_a_worker_process_is_the_same(seqeval: Seqeval, plugin: Path, tmp_path: Path) -> None:
    code, _, err = run(seqeval, tmp_path / "out", f"{plugin}:Update", jobs=2)
    assert code == 3
    assert err.count("in helper") == 2  # a job for each seed
    assert "worker.py" not in err


@pytest.mark.parametrize("overlap", ["on", "off"])
def test_a_fault_of_an_evaluator_is_shown_wherever_it_runs(
    seqeval: Seqeval, tmp_path: Path, overlap: str
) -> None:
    path = tmp_path / "evaluator.py"
    path.write_text(EVALUATOR.format(uses_data=False))
    more = ("--evaluation.metrics", f"{path}:Divides", "--overlap", overlap)
    code, _, err = run(seqeval, tmp_path / "out", "bc:hidden=(8,8),name=bc", *more)
    assert code == 3
    assert "in evaluate\n    return 1 / 0" in err
    assert "ZeroDivisionError: division by zero" in err
    assert "in_subprocess.py" not in err
    error = (tmp_path / "out/runs/pendulum-replay/bc/seed-0/error.txt").read_text()
    assert ("in serve" in error) == (overlap == "on")


class Breaks(gymnasium.Env):
    """Pendulum's spaces; raises when it is reset or stepped."""

    observation_space = gymnasium.spaces.Box(-8.0, 8.0, (3,))
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,))

    def __init__(self, at: str) -> None:
        self.at = at
        self.fail("init")

    def fail(self, at: str) -> None:
        if at == self.at:
            raise OSError(f"robot lost at {at}")

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.fail("reset")
        return np.zeros(3, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.fail("step")
        return np.zeros(3, np.float32), 0.0, True, False, {}


@pytest.mark.parametrize("at", ["init", "reset", "step"])
def test_a_fault_of_an_environment_is_a_plugin_error_in_python(at: str, tmp_path: Path) -> None:
    gymnasium.register(f"Breaks-{at}-v0", Breaks, kwargs={"at": at}, max_episode_steps=5)
    random, file = np.random.default_rng(0), tmp_path / "data.npz"
    np.savez(
        file,
        observations=random.normal(size=(50, 3)).astype(np.float32),
        actions=random.uniform(-2, 2, (50, 1)).astype(np.float32),
        rewards=np.zeros(50, np.float32),
        terminals=np.arange(50) % 5 == 4,
    )
    study = Study(
        (file,),
        ("bc:hidden=(8,8),name=bc",),
        (0,),
        Protocol(start=40),
        evaluation=Evaluation(points=1, episodes=1),
        env=f"Breaks-{at}-v0",
    )
    with pytest.raises(PluginError, match=f"OSError: robot lost at {at}") as raised:
        package.run(study, tmp_path / "out", Execution(jobs=1, overlap="off"))
    assert f", in {at if at != 'init' else '__init__'}" in str(raised.value)
    assert "site-packages" not in str(raised.value)
    assert "Traceback" in raised.value.traceback


def raised_by(code: Callable[[], object]) -> PluginError | None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        code()
    return plugin_error(caught.value)


def test_a_fault_of_ours_is_not_one_of_a_plugin() -> None:
    import torch

    from seqeval.slicing import size_grid

    def ours() -> object:
        return size_grid(1, "none", 3, "linear")

    def library() -> object:
        return torch.zeros(2) @ torch.zeros(3)

    for fault in (ours, library):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            fault()
        trace = caught.value.__traceback__.tb_next.tb_next  # without the frames of this file
        assert plugin_error(caught.value.with_traceback(trace)) is None
    assert "ours" in str(raised_by(ours))  # a function of this file called ours with a wrong value
