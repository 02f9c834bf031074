"""Videos of trained policies: episodes of a stored policy in its environment, as MP4 or GIF."""

from __future__ import annotations

import ctypes.util
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from seqeval import atomic_io, environments
from seqeval.errors import UserError, one_line
from seqeval.policy import Policy, load_policy

# Frames per second at most: environments with short steps (Hopper-v4: 125 frames per second) skip frames.
MAX_RATE = {".mp4": 60, ".gif": 34}
DEFAULT_RATE = 30  # of environments that do not state theirs

LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # by their value of MUJOCO_GL, the preferred one first

Write = Callable[[np.ndarray], None]  # takes a frame, (height, width, 3) uint8


class Episode(NamedTuple):
    """What happened in a recorded episode."""

    steps: int
    episode_return: float


def record(
    directory: str | Path, dataset: str, algorithm: str, out: str | Path, seed: int = 0, episodes: int = 1
) -> list[Episode]:
    """Writes a video of a finished run's final policy; `algorithm` is the variant's name.

    The deterministic policy acts, as in evaluations; episode k starts from the environment's seed k. Raises
    UserError if there is no such run, no environment, no renderer, or no library that writes the file.
    """
    path = Path(out)
    if path.suffix not in MAX_RATE:
        raise UserError(f"{path}: the file name of a video must end in .mp4 or .gif")
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, not {episodes}")
    choose_renderer()
    policy = load_policy(directory, dataset, algorithm, seed)
    if policy.env_id is None:
        raise UserError(f"{directory}: {dataset} has no environment, so its policies cannot be shown")
    with closing(_renderable(policy.env_id)) as env:
        rate = int(env.metadata.get("render_fps") or DEFAULT_RATE)
        every = math.ceil(rate / MAX_RATE[path.suffix])
        env.reset(seed=0)
        _first_frame(env, policy.env_id)  # errors before a file is begun
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_io.replacing(path) as partial,
            WRITERS[path.suffix](partial, rate / every) as write,
        ):
            return [_play(env, policy, start, every, write) for start in range(episodes)]


def choose_renderer() -> None:
    """Prepares the libraries that draw for a Linux machine without a display; they read these variables when
    they are imported.

    MuJoCo: EGL renders on GPUs and, with Mesa, on processors; OSMesa is the older library for processors.
    Raises UserError if MUJOCO_GL names a library that is not installed.
    """
    if sys.platform != "linux":
        return
    if library := LIBRARIES.get(os.environ.get("MUJOCO_GL", "")):
        if not ctypes.util.find_library(library):
            raise UserError(
                f"MUJOCO_GL is {os.environ['MUJOCO_GL']}, but lib{library} is not installed; install it, or "
                "unset MUJOCO_GL"
            )
    elif not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        for variable in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):  # of Pygame, which prints errors otherwise
            os.environ.setdefault(variable, "dummy")
        installed = [name for name in LIBRARIES if ctypes.util.find_library(LIBRARIES[name])]
        if installed and "mujoco" not in sys.modules:
            os.environ.setdefault("MUJOCO_GL", installed[0])


def _renderable(env_id: str) -> gymnasium.Env:
    with closing(environments.make(env_id)) as env:
        modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise UserError(f"environment {env_id!r} cannot be recorded: it has no render mode 'rgb_array'")
    return environments.make(environments.with_options(env_id, {"render_mode": "rgb_array"}))


def _first_frame(env: gymnasium.Env, env_id: str) -> None:
    """Raises UserError if the environment cannot draw, whatever its libraries raise then."""
    try:
        env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(
            f"environment {env_id!r} cannot be drawn ({one_line(error)}); run pip install 'seqeval-rl[video]'"
        ) from error
    except Exception as error:
        raise UserError(
            f"environment {env_id!r} cannot be drawn on this machine ({one_line(error)}); install a renderer "
            "(Debian: libegl1, or libosmesa6) and set MUJOCO_GL=egl, or osmesa"
        ) from error


def _play(env: gymnasium.Env, policy: Policy, start: int, every: int, write: Write) -> Episode:
    """Plays one episode and writes every `every`-th frame and the last one."""
    observation, _ = env.reset(seed=start)
    write(_frame(env))
    total, steps, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        total, steps, over = total + float(reward), steps + 1, terminated or truncated
        if steps % every == 0 or over:
            write(_frame(env))
    return Episode(steps, total)


def _frame(env: gymnasium.Env) -> np.ndarray:
    return np.asarray(env.render(), np.uint8)


@contextmanager
def _write_mp4(path: Path, rate: float) -> Iterator[Write]:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError(
            "imageio-ffmpeg, which writes .mp4, is not installed; run pip install 'seqeval-rl[video]', or "
            "give a file that ends in .gif"
        ) from error
    writer = None

    def write(frame: np.ndarray) -> None:
        nonlocal writer
        if writer is None:
            height, width = frame.shape[:2]
            # Even sizes are all that the codec needs; the ending of a partial file does not name its format.
            options: dict[str, Any] = {"macro_block_size": 2, "output_params": ["-f", "mp4"]}
            writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=rate, **options)
            writer.send(None)
        writer.send(np.ascontiguousarray(frame))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def _write_gif(path: Path, rate: float) -> Iterator[Write]:
    from PIL import Image

    frames: list[Image.Image] = []  # with 256 colours, a third of the memory of a frame
    yield lambda frame: frames.append(Image.fromarray(frame).quantize())
    duration = 10 * round(100 / rate)  # milliseconds; the format counts hundredths of a second
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)


WRITERS = {".mp4": _write_mp4, ".gif": _write_gif}
