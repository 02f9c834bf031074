"""Shared by all tests: small datasets and environments, float64, real data, and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gymnasium
import hypothesis
import numpy as np
import pytest
import torch

from seqeval import cli
from seqeval.types import Dataset, Reference

torch.set_num_threads(1)  # more threads are slower for small matrix products

hypothesis.settings.register_profile("busy", deadline=None)  # no test may depend on speed
hypothesis.settings.load_profile("busy")

SHARED = Path(__file__).parents[2] / "shared"
# The arrays of a dataset with one entry per transition.
PER_TRANSITION = (
    "observations",
    "actions",
    "rewards",
    "next_observations",
    "terminated",
    "truncated",
    "episode",
)


@pytest.fixture
def float64() -> Iterator[None]:
    """Creates networks and data in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared with real data. Skips the test if it does not exist."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with real data does not exist")
    return SHARED


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of every level of a collected SAC agent, by level. Read-only."""
    from collect_setup import SAC

    from seqeval import collect
    from seqeval.collect.config import LEVELS

    return collect.make(SAC, LEVELS, tmp_path_factory.mktemp("collected"))


def make_dataset(episodes: int = 12, length: int = 10, seed: int = 0, env_id: str = "Pendulum-v1") -> Dataset:
    """Random transitions in the spaces of Pendulum. Every third episode terminates, others are truncated."""
    rng = np.random.default_rng(seed)
    size = episodes * length
    ends = np.arange(size) % length == length - 1
    terminal = (np.arange(size) // length) % 3 == 0
    rewards = rng.standard_normal(size).astype(np.float32)
    return Dataset(
        name="tiny",
        env_id=env_id,
        observations=rng.standard_normal((size, 3)).astype(np.float32),
        actions=rng.uniform(-2, 2, (size, 1)).astype(np.float32),
        rewards=rewards,
        next_observations=rng.standard_normal((size, 3)).astype(np.float32),
        terminated=ends & terminal,
        truncated=ends & ~terminal,
        episode=np.repeat(np.arange(episodes, dtype=np.int32), length),
        episode_returns=rewards.reshape(episodes, length).sum(1, dtype=np.float64),
        episode_complete=np.ones(episodes, bool),
        segments=(size,),
        reference=Reference(-1000.0, -100.0, "invented"),
        digest="none",
    )


class CommandResult(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


Seqeval = Callable[..., CommandResult]


@pytest.fixture
def seqeval(capsys: pytest.CaptureFixture[str]) -> Seqeval:
    """Runs the command line in this process."""

    def call(*arguments: object) -> CommandResult:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        return CommandResult(ended.value.code, *capsys.readouterr())

    return call


def refused(ended: CommandResult) -> str:
    """The error message of a refused command: one line on stderr, and nothing on stdout."""
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("seqeval: ")
    assert "Traceback" not in ended.err
    assert ended.err.endswith("\n")
    return ended.err


class Countdown(gymnasium.Env):
    """An environment with known returns, which reveal a step that is missing or counted twice.

    The seed determines the length of an episode, 1 to 7 steps. Its t-th reward is 10**-t plus the action.
    Episodes of odd length terminate, those of even length are truncated. The observation consists of the
    steps left and the length.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    made = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.length = self.left = int(self.np_random.integers(1, 8))
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        return np.array([self.left, self.length], np.float32)

    def step(self, action):
        step = self.length - self.left
        self.left -= 1
        last, odd = self.left == 0, self.length % 2 == 1
        info = {"success": last and odd}
        return self._observe(), 10.0**-step + float(action[0]), last and odd, last and not odd, info


gymnasium.register("Countdown-v0", entry_point=Countdown)
