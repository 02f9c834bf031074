"""MinAtar's games (Young and Tian, arXiv 1903.03176), e.g. `MinAtar/Breakout-v1`: 10 × 10 channels of on and
off. v1 has the actions that matter in the game, v0 all six. Extra `minatar`."""

from __future__ import annotations

from typing import Any

import gymnasium

NAMESPACE, EXTRA, FRAME_STACK = "MinAtar", "minatar", 1


def register() -> None:
    """Makes the games known to Gymnasium. Raises ImportError without the package."""
    from minatar.gym import register_envs

    if f"{NAMESPACE}/Breakout-v1" not in gymnasium.registry:
        register_envs()


def wrapped(env: gymnasium.Env) -> gymnasium.Env:
    """The game, every episode of which depends on its seed and actions alone."""
    return _ForgetsLastAction(env)


class _ForgetsLastAction(gymnasium.Wrapper):
    """MinAtar repeats the previous action with probability 0.1, at the first step of an episode that of the
    episode before; here that is the action 0, as in a new environment."""

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        game: Any = self.unwrapped
        game.game.last_action = 0
        return self.env.reset(**options)
