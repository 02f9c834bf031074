"""Image observations of a dataset: frames stored once, and stacks that are put together when read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqeval.types import Image


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames behind the observations of N transitions, each stored once.

    `parts` hold frames that are numbered through, from one part to the next; a part may be a file that is
    mapped into memory. The frames of an episode up to its last observation follow each other. Where the
    transition t continues, `following[t]` is `current[t]` + 1; the last next observation of an episode may
    be anywhere.
    """

    parts: tuple[np.ndarray, ...]  # (frames, channels, height, width) uint8 each
    current: np.ndarray  # (N,) int32: the frame of each observation
    following: np.ndarray  # (N,) int32: the frame of each next observation
    first: np.ndarray  # (N,) int32: the first frame of the transition's episode
    stack: int  # frames in an observation

    @property
    def image(self) -> Image:
        """What an observation is."""
        channels, height, width = self.parts[0].shape[1:]
        return Image(channels, height, width, self.stack)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames and numbers."""
        return sum(a.nbytes for a in (*self.parts, self.current, self.following, self.first))

    def gather(self, numbers: np.ndarray) -> np.ndarray:
        """The frames of some numbers (n,): (n, channels, height, width)."""
        if len(self.parts) == 1:
            return self.parts[0][numbers]
        ends = np.cumsum([len(part) for part in self.parts])
        found = np.empty((len(numbers), *self.parts[0].shape[1:]), np.uint8)
        places = np.searchsorted(ends, numbers, side="right")
        for place in np.unique(places):
            chosen = places == place
            found[chosen] = self.parts[place][numbers[chosen] - (ends[place] - len(self.parts[place]))]
        return found

    def replaced(self, current: np.ndarray, following: np.ndarray, first: np.ndarray) -> Frames:
        """The same frames for other transitions."""
        return Frames(self.parts, current, following, first, self.stack)


@dataclass(frozen=True, eq=False)
class FrameStacks:
    """Reads as an array (N, stack·channels, height, width) of uint8, oldest frame of a stack first.

    Before the start of an episode its first frame is repeated. Each indexing copies the stacks that it
    returns; nothing else is held than the frames.
    """

    frames: Frames
    of_next: bool  # next observations instead of observations

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __len__(self) -> int:
        return len(self.frames.current)

    @property
    def image(self) -> Image:
        """What an observation is."""
        return self.frames.image

    @property
    def shape(self) -> tuple[int, int, int, int]:
        image = self.image
        return len(self), image.stack * image.channels, image.height, image.width

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The stacks of a row, a slice, or an array of rows or flags."""
        rows = np.arange(len(self))[rows]
        numbers = self.numbers(rows)
        found = self.frames.gather(numbers.reshape(-1))
        return found.reshape(*np.shape(rows), *self.shape[1:])

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """The frames of the stacks of some rows (…): (…, stack)."""
        frames = self.frames
        current, first = (a[rows][..., None] for a in (frames.current, frames.first))
        # A next observation is the newest frame before it and what the transition saw before that.
        ages = np.arange(frames.stack - 1 - self.of_next, -1, -1)
        numbers = np.maximum(current - ages, first)
        if not self.of_next:
            return numbers
        return np.concatenate([numbers, frames.following[rows][..., None]], -1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)
