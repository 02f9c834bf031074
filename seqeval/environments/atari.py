"""Atari games of the Arcade Learning Environment, e.g. `ALE/Breakout-v5`, as Gymnasium's AtariPreprocessing
shows them: a step is 4 frames, the last two of which are joined by their maximum, grey, 84 × 84; an episode
starts after up to 30 steps of no action. Actions are repeated with probability 0.25. Stacks of 4. Extra
`atari`.
"""

from __future__ import annotations

import gymnasium
from gymnasium.wrappers import AtariPreprocessing

NAMESPACE, EXTRA, FRAME_STACK = "ALE", "atari", 4
DEFAULTS = {"frameskip": 1}  # the wrapper skips


def register() -> None:
    """Makes the games known to Gymnasium. Raises ImportError without the packages."""
    import ale_py
    import cv2  # noqa: F401  (AtariPreprocessing imports it late)

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
    gymnasium.register_envs(ale_py)


def wrapped(env: gymnasium.Env) -> gymnasium.Env:
    return AtariPreprocessing(env)
