"""Shared by sources of images: from the arrays of a file to frames that are stored once."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqeval.datasets import _mapping
from seqeval.environments.images import as_bytes, channels_first, channels_last
from seqeval.errors import UserError
from seqeval.frames import Frames, FrameStacks
from seqeval.types import Image

CHUNK = 8_192  # frames looked at together
SAMPLED = 1_024  # frames of a mapped file that its digest reads
FIELDS = ("observations", "next_observations")


def holds_images(values: Any) -> bool:
    """Whether a field holds one image for each transition, of whatever type."""
    return values.ndim == 4 or (values.ndim == 3 and values.dtype.kind in "ub")


def image_of(source: object, values: Any, stack: int) -> Image:
    """What the images of a field are, where no environment says it."""
    shape = values.shape[1:] if values.ndim == 4 else (1, *values.shape[1:])
    moves = values.ndim == 4 and channels_last(shape)
    channels, height, width = (shape[2], *shape[:2]) if moves else shape
    return Image(channels, height, width, stack)


def taken(source: str, raw: dict[str, Any], image: Image, notes: list[str]) -> tuple[np.ndarray, ...]:
    """Replace the images among a log's raw fields by numbers of frames, (N,) int32; return the frames.

    `observations` hold single frames, (N, channels, height, width), (N, height, width, channels) or (N,
    height, width): of uint8, or on and off. Of `next_observations`, if there are any, only those are kept
    that no row of observations holds: where the next row is another image, or begins another episode. A
    source may put frames and numbers there itself: `frames`, a list of parts. Raises UserError for other
    arrays.
    """
    if "frames" in raw:
        return tuple(_laid_out(source, "observations", part, image, notes) for part in raw.pop("frames"))
    if isinstance(raw["observations"], np.memmap):
        notes.append(_mapping.note("images", raw["observations"].nbytes))
    frames = _laid_out(source, "observations", raw["observations"], image, notes)
    count = len(frames)
    raw["observations"] = np.arange(count, dtype=np.int32)
    if "next_observations" not in raw:
        return (frames,)
    following = _laid_out(source, "next_observations", raw["next_observations"], image, [])
    if len(following) != count:
        raise UserError(
            f"{source}: field 'next_observations' holds {len(following)} images, 'observations' {count}"
        )
    extra = _not_next_row(source, frames, following, raw)
    numbers = np.arange(1, count + 1, dtype=np.int32)
    numbers[extra] = count + np.arange(len(extra), dtype=np.int32)
    raw["next_observations"] = numbers
    return frames, np.ascontiguousarray(following[extra])


def _not_next_row(source: str, frames: np.ndarray, following: np.ndarray, raw: dict[str, Any]) -> np.ndarray:
    """The rows whose next observation is not the observation of the next row, or which end an episode."""
    other = np.zeros(len(frames), bool)
    for field in ("terminals", "timeouts"):
        if field in raw:
            raw[field] = _mapping.read(source, field, raw[field])
            if raw[field].shape == other.shape:  # others are refused later
                other |= raw[field] != 0
    other[-1:] = True
    for begin in range(0, len(frames) - 1, CHUNK):
        rows = slice(begin, min(begin + CHUNK, len(frames) - 1))
        differs = following[rows] != frames[rows.start + 1 : rows.stop + 1]
        other[rows] |= differs.reshape(len(differs), -1).any(axis=1)
    return np.flatnonzero(other)


def _laid_out(source: str, field: str, values: Any, image: Image, notes: list[str]) -> np.ndarray:
    """Frames as (n, channels, height, width) of uint8. Raises UserError if they are not such images."""
    expected = (image.channels, image.height, image.width)
    if values.dtype.kind == "f":
        raise UserError(
            f"{source}: field {field!r} holds images of {values.dtype}; store uint8 from 0 to 255 (they are "
            "divided by 255 by the algorithm's encoder)"
        )
    if values.dtype not in (np.uint8, np.bool_):
        raise UserError(
            f"{source}: field {field!r} holds images of {values.dtype}; store uint8 from 0 to 255"
        )
    shape = tuple(values.shape[1:])
    values = _mapping.read(source, field, values)
    if shape == expected[1:] and image.channels == 1:
        values = values[:, None]
    elif shape == (*expected[1:], expected[0]) and shape != expected:
        notes.append(f"images have their channels last, {_text(shape)}: taken as {_text(expected)}")
        values = channels_first(values)
    elif shape != expected:
        stacked = (image.stack * image.channels, image.height, image.width)
        advice = "is this the right environment?"
        if image.stack > 1 and shape == stacked:
            advice = "store single frames; stacks are put together when they are sampled"
        raise UserError(
            f"{source}: field {field!r} holds images of {_text(shape)}, expected {_text(expected)}; {advice}"
        )
    values = as_bytes(values)
    if values.dtype == np.uint8 and 0 < _largest(values) <= 1:
        notes.append("images hold only 0 and 1: taken as off and on, 0 and 255")
        values = values * np.uint8(255)
    return values if isinstance(values, np.memmap) else np.ascontiguousarray(values)


def _largest(frames: np.ndarray) -> int:
    """The largest value in frames; of a mapped file, in some of them."""
    if isinstance(frames, np.memmap):
        frames = frames[:: max(1, len(frames) // SAMPLED)]
    return int(frames.max(initial=0))


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def stacks(
    source: str, parts: tuple[np.ndarray, ...], raw: dict[str, np.ndarray], stack: int
) -> tuple[FrameStacks, FrameStacks]:
    """Observations and next observations from numbers of frames. Raises UserError if every episode is shorter
    than a stack."""
    longest = int((raw["observations"] - raw["first_frames"]).max()) + 2
    if stack > longest:
        raise UserError(
            f"{source}: frame_stack is {stack}, but the longest episode has {longest} frames; use a smaller "
            "frame_stack"
        )
    for part in parts:
        part.setflags(write=False)
    frames = Frames(parts, raw["observations"], raw["next_observations"], raw["first_frames"], stack)
    return FrameStacks(frames, of_next=False), FrameStacks(frames, of_next=True)


def digestible(part: np.ndarray) -> np.ndarray:
    """What the digest of a dataset reads of a part: all of it; of a mapped file evenly spaced frames, since
    reading it would take minutes."""
    if isinstance(part, np.memmap):
        part = part[np.linspace(0, len(part) - 1, min(SAMPLED, len(part))).astype(np.int64)]
    return np.ascontiguousarray(part)
