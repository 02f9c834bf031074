"""Videos of stored policies: the episodes that they show, and the files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import gymnasium
import pytest
from conftest import Seqeval, refused
from PIL import Image

import seqeval as package
from seqeval import Evaluation, Execution, Protocol, Study, UserError, video

BC = "bc:hidden=(8,8),name=bc"
needs_extra = pytest.mark.skipif(
    not (importlib.util.find_spec("pygame") and importlib.util.find_spec("imageio_ffmpeg")),
    reason="needs pip install 'seqeval-rl[video]'",
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of one algorithm and two seeds. Read-only."""
    out = tmp_path_factory.mktemp("video") / "run"
    study = Study(
        datasets=("pendulum-replay",),
        algorithms=(BC,),
        seeds=(0, 1),
        protocol=Protocol(start=19_900, grow_by=100),
        evaluation=Evaluation(points=1, episodes=1),
    )
    package.run(study, out, Execution(jobs=1))
    return out


class Counting(gymnasium.Wrapper):
    """An environment of three steps with the reward 2, drawn as a frame with the number of steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def reset(self, **options: object) -> object:
        self.steps = 0
        return self.env.reset(**options)

    def step(self, action: object) -> tuple:
        self.steps += 1
        observation, *_ = self.env.step(action)
        return observation, 2.0, False, self.steps == 3, {}

    def render(self) -> object:
        import numpy as np

        return np.full((8, 8, 3), 60 * self.steps, np.uint8)


def test_a_gif_shows_every_step_of_every_episode(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "_renderable", lambda env_id: Counting(gymnasium.make(env_id)))
    out = tmp_path / "new" / "a.gif"
    shown = video.record(directory, "pendulum-replay", "bc", out, episodes=2)
    assert shown == [(3, 6.0), (3, 6.0)]
    with Image.open(out) as image:
        assert (image.n_frames, image.info["duration"]) == (8, 100)
        brightness = []
        for place in range(image.n_frames):
            image.seek(place)
            brightness.append(image.convert("RGB").getpixel((0, 0))[0])
    assert brightness == [0, 60, 120, 180] * 2


def test_frames_are_skipped_where_there_are_too_many_in_a_second(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "metadata", Counting.metadata | {"render_fps": 68})
    monkeypatch.setattr(video, "_renderable", lambda env_id: Counting(gymnasium.make(env_id)))
    video.record(directory, "pendulum-replay", "bc", tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:  # the start, every second step, and the last one
        assert (image.n_frames, image.info["duration"]) == (3, 30)


@needs_extra
def test_the_command_writes_an_mp4_of_the_seed_and_prints_its_return(
    directory: Path, tmp_path: Path, seqeval: Seqeval
) -> None:
    import imageio_ffmpeg

    out = tmp_path / "x.mp4"
    ended = seqeval("video", directory, "pendulum-replay", "bc", "--seed", 1, "--out", out)
    policy = package.load_policy(directory, "pendulum-replay", "bc", 1)
    env, total = gymnasium.make("Pendulum-v1"), 0.0
    observation, _ = env.reset(seed=0)
    for _ in range(200):
        observation, reward, *_ = env.step(policy(observation))
        total += float(reward)
    assert ended == (0, f"200 steps, return {total:.1f}\n{out}\n", "")
    assert imageio_ffmpeg.count_frames_and_secs(str(out))[0] == 201


def test_what_cannot_be_shown_is_refused_in_one_line(
    directory: Path, tmp_path: Path, seqeval: Seqeval, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("video", directory, "pendulum-replay", "bc")
    assert "must end in .mp4 or .gif" in refused(seqeval(*run, "--out", tmp_path / "a.avi"))
    out = ("--out", tmp_path / "a.gif")
    assert "seed 7 is missing" in refused(seqeval(*run, "--seed", 7, *out))
    assert "at least 1, not 0" in refused(seqeval(*run, "--episodes", 0, *out))

    def broken(self: object) -> None:
        raise RuntimeError("no context")

    monkeypatch.setattr(video, "_renderable", lambda env_id: Counting(gymnasium.make(env_id)))
    monkeypatch.setattr(Counting, "render", broken)
    assert "cannot be drawn on this machine (no context); install a renderer" in refused(seqeval(*run, *out))
    assert not list(tmp_path.iterdir())


def test_an_environment_without_pictures_is_refused(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gymnasium.envs.classic_control import PendulumEnv

    monkeypatch.setattr(PendulumEnv, "metadata", {"render_modes": []})
    with pytest.raises(UserError, match="it has no render mode 'rgb_array'"):
        video.record(directory, "pendulum-replay", "bc", tmp_path / "a.gif")


def test_mp4_without_its_library_names_the_extra(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "_renderable", lambda env_id: Counting(gymnasium.make(env_id)))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"install 'seqeval-rl\[video\]', or give a file that ends in .gif"):
        video.record(directory, "pendulum-replay", "bc", tmp_path / "a.mp4")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a renderer")
def test_a_renderer_is_chosen_only_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video.ctypes.util, "find_library", {"EGL": "libEGL.so", "OSMesa": None}.get)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    for name in ("MUJOCO_GL", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("DISPLAY", ":0")
    video.choose_renderer()
    assert "MUJOCO_GL" not in video.os.environ
    monkeypatch.delenv("DISPLAY")
    video.choose_renderer()
    assert video.os.environ["MUJOCO_GL"] == "egl"
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(UserError, match="MUJOCO_GL is osmesa, but libOSMesa is not installed"):
        video.choose_renderer()


def test_a_dataset_without_an_environment_is_refused(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = package.load_policy(directory, "pendulum-replay", "bc", 0)
    policy.env_id = None
    monkeypatch.setattr(video, "load_policy", lambda *run: policy)
    with pytest.raises(UserError, match="has no environment, so its policies cannot be shown"):
        video.record(directory, "pendulum-replay", "bc", tmp_path / "a.gif")
