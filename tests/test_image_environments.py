"""Environments of images: layouts, stacks, repeatable episodes, and packages that are not installed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import gymnasium
import numpy as np
import pytest
from image_data import env_id, slow_stack

from seqeval import environments
from seqeval.errors import UserError
from seqeval.types import Discrete, Environment, Image, Vector

RENDERS = "import dm_control.suite as s; s.load('walker', 'walk').physics.render(8, 8)"


def episode(env: gymnasium.Env, seed: int, steps: int = 12) -> tuple[list[np.ndarray], list[float]]:
    """The observations and rewards of random actions, up to the end of the episode."""
    rng = np.random.default_rng(seed)
    observations, rewards = [env.reset(seed=seed)[0]], []
    for _ in range(steps):
        space = env.action_space
        action = (
            int(rng.integers(space.n))
            if isinstance(space, gymnasium.spaces.Discrete)
            else rng.uniform(-1, 1, space.shape).astype(np.float32)
        )
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rewards.append(float(reward))
        if terminated or truncated:
            break
    return observations, rewards


def check_repeats(name: str) -> None:
    """An episode depends on its seed alone, not on the episodes before it."""
    with closing(environments.make(name)) as env:
        assert env.observation_space.dtype == np.uint8
        first = episode(env, 1)
        episode(env, 2)
        again, other = episode(env, 1), episode(env, 3)
        assert np.array_equal(first[0], again[0])
        assert first[1] == again[1]
        assert len(other[0]) != len(first[0]) or not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((84, 84, 3), True),
        ((3, 84, 84), False),
        ((64, 96, 3), True),
        ((4, 84, 84), False),
        ((10, 10, 10), True),
    ],
)
def test_the_smallest_dimension_holds_the_channels(shape: tuple[int, int, int], last: bool) -> None:
    assert environments.images.channels_last(shape) == last


def test_observations_are_stacks_with_channels_first() -> None:
    with closing(environments.make(env_id(1))) as plain, closing(environments.make(env_id(3))) as stacked:
        single, found = episode(plain, 4)[0], episode(stacked, 4)[0]
    assert single[0].shape == (2, 3, 4)
    for step, observation in enumerate(found):
        assert (observation == slow_stack(single, step, 3)).all()
    assert environments.describe(env_id(3)).observation == Image(2, 3, 4, 3)
    assert environments.spaces_text(environments.describe(env_id(3))) == (
        "observations of 3 frames of 2×3×4 and 3 discrete actions"
    )


def test_vectors_have_no_frame_stack() -> None:
    with pytest.raises(UserError, match="frame_stack is for images"):
        environments.make("CartPole-v1?frame_stack=2")


def test_an_environment_of_images_is_stored_as_json() -> None:
    described = environments.describe(env_id(3))
    read = Environment.from_json(described.to_json())
    assert (read.observation, read.actions) == (Image(2, 3, 4, 3), Discrete(3, 0))
    # As studies stored it before there were images.
    old = {"name": "mine", "observation_size": 4, "actions": {"size": 2, "first": 0}, "time_limit": None}
    assert Environment.from_json(old).observation == Vector(4)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("MinAtar/Breakout-v1", "minatar.gym", "minatar"),
        ("ALE/Breakout-v5", "ale_py", "atari"),
        ("dm_control_pixels/walker-walk-v0", "dm_control", "pixels"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in list(gymnasium.registry):
        if known.startswith("dm_control_pixels/"):
            monkeypatch.delitem(gymnasium.registry, known)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as caught:
        environments.make(name)
    assert f"pip install 'seqeval-rl[{extra}]'" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- MinAtar ---


@pytest.fixture
def minatar() -> None:
    pytest.importorskip("minatar")


@pytest.mark.usefixtures("minatar")
def test_minatar_is_on_and_off_as_0_and_255() -> None:
    assert environments.describe("MinAtar/Breakout-v1").observation == Image(4, 10, 10, 1)
    assert environments.describe("MinAtar/Breakout-v1").actions == Discrete(3, 0)
    assert environments.describe("MinAtar/Seaquest-v0").observation == Image(10, 10, 10, 1)
    with closing(environments.make("MinAtar/Breakout-v1")) as env:
        seen = np.unique(episode(env, 0)[0])
    assert seen.tolist() == [0, 255]


@pytest.mark.usefixtures("minatar")
def test_an_episode_of_minatar_does_not_depend_on_the_one_before() -> None:
    check_repeats("MinAtar/Breakout-v1")
    with closing(environments.make("MinAtar/Breakout-v1")) as env:
        for last in (0, 2):  # the action that MinAtar may repeat
            env.reset(seed=0)
            env.step(last)
            env.reset(seed=1)
            assert env.unwrapped.game.last_action == 0


# --- Atari ---


def test_atari_has_the_standard_wrappers() -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    described = environments.describe("ALE/Breakout-v5")
    assert described.observation == Image(1, 84, 84, 4)
    assert described.actions == Discrete(4, 0)
    check_repeats("ALE/Breakout-v5")
    with closing(environments.make("ALE/Breakout-v5?frame_stack=1")) as env:
        assert "<AtariPreprocessing" in str(env)


# --- dm_control ---


@pytest.fixture(scope="session")
def renderer() -> None:
    """Skips where dm_control or a library that renders is missing."""
    pytest.importorskip("dm_control")
    environment = {"MUJOCO_GL": "egl", "PATH": ""}
    if subprocess.run([sys.executable, "-c", RENDERS], env=environment, capture_output=True).returncode:
        pytest.skip("nothing renders here")


@pytest.mark.usefixtures("renderer")
def test_dm_control_is_seen_as_v_d4rl_sees_it() -> None:
    name = "dm_control_pixels/walker-walk-v0?size=16"
    described = environments.describe(name)
    assert described.observation == Image(3, 16, 16, 3)
    assert (described.actions.low.tolist(), described.actions.high.tolist()) == ([-1] * 6, [1] * 6)
    check_repeats(name)


@pytest.mark.usefixtures("renderer")
def test_an_episode_of_dm_control_is_cut_after_1000_steps_of_the_physics() -> None:
    with closing(environments.make("dm_control_pixels/cartpole-balance-v0?size=4&action_repeat=100")) as env:
        env.reset(seed=0)
        ends = [env.step(np.zeros(1, np.float32))[1:4] for _ in range(10)]
    assert [cut for _, _, cut in ends] == [False] * 9 + [True]
    assert not any(terminated for _, terminated, _ in ends)
    assert 0 < sum(reward for reward, _, _ in ends) <= 1000


def test_without_a_renderer_the_message_names_the_next_one() -> None:
    pytest.importorskip("dm_control")
    code = (
        "from seqeval import environments, errors\n"
        "try: environments.make('dm_control_pixels/walker-walk-v0').reset()\n"
        "except errors.UserError as error: print(error)"
    )
    environment = {"MUJOCO_GL": "nothing", "PATH": ""}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.stdout.startswith("dm_control: no images with MUJOCO_GL=nothing (")
    assert "set MUJOCO_GL=egl" in ended.stdout
    assert ended.stdout.count("\n") == 1
