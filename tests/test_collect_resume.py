"""Data collection: resuming after an interruption, and the checks of the work folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from collect_setup import SAC, SMALL, card_of, read, same, snapshot
from stable_baselines3.common.logger import Logger

from seqeval import collect
from seqeval.atomic_io import locked
from seqeval.collect import agents
from seqeval.collect.log import LoggingEnv
from seqeval.collect.training import Training
from seqeval.errors import UserError


class Killed(BaseException):
    """Ends the process in these tests. No code catches it, as for KeyboardInterrupt."""


def kill_at_call(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, n: int) -> None:
    """Makes a function of a module raise Killed at its n-th call."""
    real, calls = getattr(module, name), []

    def killing(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == n:
            raise Killed
        return real(*arguments, **more)

    monkeypatch.setattr(module, name, killing)


@pytest.fixture(scope="module")
def interrupted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was killed before the third of three checkpoints. Read-only."""
    out = tmp_path_factory.mktemp("interrupted") / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at_call(monkeypatch, agents, "episode_returns", 3)
        with pytest.raises(Killed):
            collect.make(SAC, ["full-replay", "medium-replay"], out)
    return out


@pytest.fixture
def interrupted(interrupted_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(interrupted_once, tmp_path / "interrupted"))


def test_an_interrupted_training_resumes_from_its_last_checkpoint(
    interrupted: Path, collected: dict[str, Path]
) -> None:
    assert [path.name for path in interrupted.iterdir()] == ["making"]
    resumed = collect.make(SAC, ["full-replay", "medium-replay"], interrupted)["full-replay"]
    fields, card = read(resumed), card_of(resumed)
    uninterrupted = read(collected["full-replay"])
    assert card["resumed_at"] == [160]
    assert [step for step, _ in card["checkpoint_returns"]] == [80, 160, 240]
    assert len(fields["rewards"]) == 240
    assert same(
        {key: values[:159] for key, values in fields.items()},
        {key: values[:159] for key, values in uninterrupted.items()},
    )
    assert fields["terminals"][159] or fields["timeouts"][159]
    assert fields["observations"][160, 0] == fields["observations"][160, 1]  # the first step of an episode
    assert fields["actions"][160:].mean() > 1  # the agent is as good as before
    assert not same(  # the random numbers of the start are not repeated
        {key: values[160:230] for key, values in fields.items()},
        {key: values[:70] for key, values in fields.items()},
    )
    assert not (interrupted / "making").exists()


def test_a_resumed_agent_has_its_step_count_weights_and_replay_buffer(interrupted: Path) -> None:
    training = Training(SAC, interrupted / "making")
    env = gymnasium.make("Push-v0")
    resumed = training.start_agent(env)
    assert training.log.size == resumed.num_timesteps == 160
    assert resumed._n_updates == 100  # 160 steps less the 60 before learning starts
    weights = {key: value.numpy() for key, value in resumed.policy.state_dict().items()}
    assert not all(
        np.array_equal(v, w) for v, w in zip(weights.values(), initial_weights(env).values(), strict=True)
    )

    buffer, log = resumed.replay_buffer, training.log.fields
    assert buffer is not None
    assert buffer.pos == 160
    assert np.array_equal(buffer.observations[:160, 0], log["observations"][:160])
    assert np.array_equal(buffer.next_observations[:160, 0], log["next_observations"][:160])
    assert np.array_equal(buffer.rewards[:160, 0], log["rewards"][:160])
    np.testing.assert_allclose(buffer.actions[:160, 0] * 2, log["actions"][:160], atol=1e-6)
    # Learning bootstraps from timeouts: only terminated episodes count as done.
    done = buffer.dones[:160, 0] * (1 - buffer.timeouts[:160, 0])
    assert np.array_equal(done, log["terminals"][:160])
    env.close()


def initial_weights(env: gymnasium.Env) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in agents.build(SAC, env).policy.state_dict().items()}


def test_a_full_replay_buffer_equals_the_one_at_the_checkpoint(tmp_path: Path) -> None:
    config = replace(SAC, steps=100, settings=SMALL | {"buffer_size": 70})
    training = Training(config, tmp_path)
    env = LoggingEnv(gymnasium.make("Push-v0"), training.log)
    agent = training.start_agent(env)
    agent.set_logger(Logger(None, []))
    agent.learn(100)
    training.save(agent)
    original = agent.replay_buffer
    resumed = Training(config, tmp_path).start_agent(gymnasium.make("Push-v0")).replay_buffer
    assert original is not None
    assert resumed is not None
    assert resumed.full
    assert resumed.pos == original.pos
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        assert np.array_equal(getattr(resumed, name), getattr(original, name))


def test_resuming_does_not_rewrite_finished_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        kill_at_call(context, collect.levels, "rollout", 2)
        with pytest.raises(Killed):
            collect.make(SAC, ["random", "expert"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"push-random.hdf5", "push-random.json", "making"}
    before = (tmp_path / "push-random.hdf5").stat()
    monkeypatch.setattr(agents, "build", without_learning(agents.build))
    collect.make(SAC, ["random", "expert"], tmp_path)
    after = (tmp_path / "push-random.hdf5").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(read(tmp_path / "push-expert.hdf5")["rewards"]) == 101
    assert not (tmp_path / "making").exists()


def without_learning(build: Any) -> Any:
    def build_without_learning(*arguments: Any, **more: Any) -> Any:
        agent = build(*arguments, **more)
        agent.learn = None  # calling it would raise
        return agent

    return build_without_learning


def test_a_level_with_a_card_but_no_file_is_written_again(
    interrupted: Path, collected: dict[str, Path]
) -> None:
    shutil.copy(collected["full-replay"].with_suffix(".json"), interrupted)
    collect.make(SAC, ["full-replay"], interrupted)
    assert card_of(interrupted / "push-full-replay.hdf5")["resumed_at"] == [160]


def test_a_file_of_another_configuration_does_not_count_as_a_finished_level(
    interrupted: Path, collected: dict[str, Path]
) -> None:
    collect.make(replace(SAC, seed=3), ["expert"], interrupted.parent / "other")
    for path in (interrupted.parent / "other").iterdir():
        shutil.copy(path, interrupted)
    before = snapshot(interrupted)
    with pytest.raises(UserError, match=r"push-expert\.hdf5: exists already"):
        collect.make(SAC, ["expert"], interrupted)
    assert snapshot(interrupted) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"steps": 250, "transitions": 250}, "steps 240, not 250"),
        ({"settings": SMALL | {"gamma": 0.9}}, "settings.gamma None, not 0.9"),
        ({"settings": SMALL | {"batch_size": 8}}, "settings.batch_size 16, not 8"),
    ],
)
def test_resuming_with_another_configuration_is_refused(
    interrupted: Path, changes: dict[str, Any], message: str
) -> None:
    before = snapshot(interrupted)
    with pytest.raises(UserError) as caught:
        collect.make(replace(SAC, **changes), ["full-replay"], interrupted)
    assert f"making: was started with {message};" in str(caught.value)
    assert snapshot(interrupted) == before


def test_two_processes_cannot_use_one_work_folder(interrupted: Path) -> None:
    with locked(interrupted / "making", "busy"):
        with pytest.raises(UserError, match="another process is collecting data in this folder"):
            collect.make(SAC, ["full-replay"], interrupted)
