"""Tasks of dm_control's suite seen as pixels (Tassa et al., arXiv 1801.00690), e.g.
`dm_control_pixels/walker-walk-v0?size=64`: RGB of 84 × 84 unless `size` says otherwise, stacks of 3, actions
within [-1, 1] that are repeated twice (`action_repeat`), as in V-D4RL. Extra `pixels`.

Images are rendered by the library that the environment variable MUJOCO_GL names: egl (a GPU, or Mesa), osmesa
(software) or glfw (a screen). Without it egl is used where there is no screen.
"""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from seqeval.errors import UserError, one_line

NAMESPACE, EXTRA, FRAME_STACK = "dm_control_pixels", "pixels", 3
CAMERAS = {"quadruped": 2}  # of a domain; 0 shows the others well


def register() -> None:
    """Makes the tasks known to Gymnasium. Raises ImportError without the package, and UserError if it cannot
    render."""
    if f"{NAMESPACE}/walker-walk-v0" in gymnasium.registry:
        return
    for domain, task in _suite().ALL_TASKS:
        gymnasium.register(
            f"{NAMESPACE}/{domain}-{task}-v0",
            f"{__name__}:PixelTask",
            kwargs={"domain": domain, "task": task},
            disable_env_checker=True,
        )


def wrapped(env: gymnasium.Env) -> gymnasium.Env:
    return env


class PixelTask(gymnasium.Env):
    """A task whose observations are what a camera sees: (size, size, 3) of uint8."""

    def __init__(self, domain: str, task: str, size: int = 84, action_repeat: int = 2) -> None:
        self._task = _suite().load(domain, task, visualize_reward=False)
        self._view = {"height": size, "width": size, "camera_id": CAMERAS.get(domain, 0)}
        self._repeat, actions = action_repeat, self._task.action_spec()
        self._low, self._high = actions.minimum, actions.maximum
        self.observation_space = Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = Box(-1.0, 1.0, actions.shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._task.task.random.seed(seed)
        self._task.reset()
        return self._image(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        scaled = self._low + (np.clip(action, -1, 1).astype(np.float64) + 1) / 2 * (self._high - self._low)
        reward = 0.0
        for _ in range(self._repeat):
            step = self._task.step(scaled)
            reward += step.reward or 0.0
            if step.last():
                break
        terminated = step.last() and step.discount == 0
        return self._image(), reward, terminated, step.last() and not terminated, {}

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Puts the physics into a state, as `physics.get_state` returns it; returns the image of it."""
        with self._task.physics.reset_context():
            self._task.physics.set_state(state)
        return self._image()

    def _image(self) -> np.ndarray:
        try:
            return self._task.physics.render(**self._view)
        except Exception as error:  # each library of OpenGL raises its own
            raise _no_renderer(error) from error

    def close(self) -> None:
        self._task.close()


def _suite() -> Any:
    """dm_control's suite. Raises UserError if its library for rendering cannot be used."""
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        from dm_control import suite
    except ModuleNotFoundError:
        raise
    except Exception as error:  # each library of OpenGL raises its own
        raise _no_renderer(error) from error
    return suite


def _no_renderer(error: Exception) -> UserError:
    used = os.environ.get("MUJOCO_GL", "glfw")
    other = "osmesa" if used == "egl" else "egl"
    return UserError(
        f"dm_control: no images with MUJOCO_GL={used} ({one_line(error)}); set MUJOCO_GL={other} (the system "
        "package of osmesa is libosmesa6, of egl libegl1), or learn without an environment, --env none"
    )
