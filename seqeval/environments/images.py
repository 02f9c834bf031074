"""Environments whose observations are images: frames of uint8, channels first, stacked.

`batch.observations` holds the same: the frames of a stack follow each other, oldest first, and at the start
of an episode the first frame is repeated.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import FrameStackObservation, ReshapeObservation, TransformObservation

from seqeval.errors import UserError


def is_image(space: gymnasium.Space) -> bool:
    """Whether observations are images: uint8, or on and off as in MinAtar, of 2 or 3 dimensions."""
    return isinstance(space, Box) and len(space.shape) in (2, 3) and space.dtype in (np.uint8, np.bool_)


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last of three dimensions holds the channels: it is the smallest, or they are all equal."""
    return shape[2] <= min(shape[:2])


def channels_first(frames: np.ndarray) -> np.ndarray:
    """Frames (..., height, width, channels) as a view (..., channels, height, width)."""
    return np.moveaxis(frames, -1, -3)


def as_bytes(frames: np.ndarray) -> np.ndarray:
    """Frames of on and off as uint8: 0 and 255, so that encoders divide every image by 255."""
    return frames.astype(np.uint8) * np.uint8(255) if frames.dtype == np.bool_ else frames


def with_stacks(env: gymnasium.Env, stack: int) -> gymnasium.Env:
    """An environment of images, whose observations become (stack·channels, height, width) of uint8."""
    shape = env.observation_space.shape
    assert shape is not None, "the space of images is a box"
    moves = len(shape) == 3 and channels_last(shape)
    sizes = (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2]) if moves else shape

    def frame(observation: Any) -> np.ndarray:
        values = as_bytes(np.asarray(observation))
        return np.ascontiguousarray(channels_first(values) if moves else values).reshape(sizes)

    env = TransformObservation(env, frame, Box(0, 255, sizes, np.uint8))
    if stack == 1:
        return env
    stacked = FrameStackObservation(env, stack, padding_type="reset")
    return ReshapeObservation(stacked, (stack * sizes[0], *sizes[1:]))


def check_stack(env_id: str, stack: Any) -> int:
    """The value of the option `frame_stack`. Raises UserError if it is not a whole number from 1 on."""
    if isinstance(stack, bool) or not isinstance(stack, int) or stack < 1:
        raise UserError(
            f"environment {env_id!r}: frame_stack must be a whole number from 1 on, not {stack!r}"
        )
    return stack
