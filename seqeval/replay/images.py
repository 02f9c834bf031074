"""Image observations of a buffer: frames stored once, and stacks that are put together when sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqeval.frames import FrameStacks
from seqeval.replay.rows import RowParts, tensor_of

FREE_SHARE = 0.7  # of a GPU's free memory that frames may take; otherwise they stay in the host's memory


class ImageRows:
    """The observations, or the next observations, of a buffer's rows: `images[rows]` puts them together.

    Rows of any shape (…) give (…, stack·channels, height, width) of uint8, oldest frame first.
    """

    def __init__(self, store: ImageStore, of_next: bool) -> None:
        self._store, self._of_next = store, of_next

    def __getitem__(self, rows: Tensor) -> Tensor:
        store, flat = self._store, rows.reshape(-1)
        current = store.current.index_select(0, flat).unsqueeze(-1)
        first = store.first.index_select(0, flat).unsqueeze(-1)
        # A next observation is the newest frame before it and what the transition saw before that.
        numbers = torch.maximum(current - store.ages[int(self._of_next) :], first)
        if self._of_next:
            following = store.following.index_select(0, flat).unsqueeze(-1)
            numbers = torch.cat([numbers, following], -1)
        found = store.frames.gather(numbers.reshape(-1))
        stacked = (store.stack * found.shape[1], *found.shape[2:])
        return found.view(*rows.shape, *stacked)


class ImageStore:
    """The frames of a buffer: those of its datasets, then room for each replica's online phase.

    A step of the online phase adds one frame, and the first of an episode another one: there is room for two
    frames a step, but memory of the room is taken on the CPU only as it is filled.
    """

    def __init__(self, images: Sequence[FrameStacks], device: torch.device, room: int, replicas: int) -> None:
        self.stack, shape = images[0].frames.stack, images[0].frames.parts[0].shape[1:]
        parts: list[np.ndarray] = []
        numbers, first = [], 0
        for stacks in images:
            frames = stacks.frames
            columns = (frames.current, frames.following, frames.first)
            # A transition that has arrived later than its neighbours still finds its frames by number.
            numbers.append([values + np.int32(first) for values in columns] if first else list(columns))
            parts += frames.parts
            first += sum(len(part) for part in frames.parts)
        self._online = first + 2 * room * np.arange(
            replicas
        )  # the first frame of each replica's online phase
        self._used = np.zeros(replicas, np.int64)  # frames of each replica's online phase
        self._starts = np.zeros(replicas, np.int64)  # of them, the first of the current episode
        if room:
            parts.append(np.zeros((2 * room * replicas, *shape), np.uint8))
        on_host = device.type == "cuda" and not _fits(device, sum(part.nbytes for part in parts))
        self.on_host = on_host
        self.frames = RowParts([tensor_of(part) for part in parts], device, on_host)
        empty = np.zeros(replicas * room, np.int32)
        joined = [np.concatenate([*values, empty]) for values in zip(*numbers, strict=True)]
        self.current, self.following, self.first = (torch.from_numpy(c).to(device) for c in joined)
        self.ages = torch.arange(self.stack - 1, -1, -1, dtype=torch.int32, device=device)

    def add(
        self, rows: Tensor, observations: np.ndarray, next_observations: np.ndarray, starts: np.ndarray
    ) -> None:
        """Writes one transition of each replica at a row of its own. Of a stack the newest frame is stored;
        of the observation only if it is the first of its episode, since the step before has stored it."""
        channels = observations.shape[1] // self.stack
        for replica, is_first in enumerate(starts.tolist()):
            if is_first:
                self._starts[replica] = self._used[replica]
                self._append(replica, observations[replica, -channels:])
            self._append(replica, next_observations[replica, -channels:])
        last = self._online + self._used - 1
        self._set(rows, last - 1, last, self._online + self._starts)

    def _append(self, replica: int, frame: np.ndarray) -> None:
        self.frames.write(
            int(self._online[replica] + self._used[replica]), torch.from_numpy(frame.copy())[None]
        )
        self._used[replica] += 1

    def _set(self, rows: Tensor, *values: np.ndarray) -> None:
        for stored, numbers in zip((self.current, self.following, self.first), values, strict=True):
            stored[rows] = torch.from_numpy(numbers.astype(np.int32)).to(stored.device)

    def online_frames(self, replica: int, rows: slice) -> dict[str, Tensor]:
        """Copies of a replica's online frames, and of the numbers at its rows, for `restore`."""
        first = int(self._online[replica])
        numbers = torch.stack([values[rows] for values in (self.current, self.following, self.first)])
        return {
            "frames": self.frames.read(first, first + int(self._used[replica])),
            "frame_numbers": numbers - first,
            "episode_start": torch.tensor(int(self._starts[replica])),
        }

    def restore(self, replica: int, rows: slice, saved: OnlineFrames) -> None:
        """Writes what `online_frames` returned, at rows of the replica."""
        first = int(self._online[replica])
        self.frames.write(first, saved.frames)
        numbers = saved.frame_numbers.to(self.current.device) + first
        for stored, values in zip((self.current, self.following, self.first), numbers, strict=True):
            stored[rows] = values
        self._used[replica], self._starts[replica] = len(saved.frames), int(saved.episode_start)


class OnlineFrames(NamedTuple):
    """A replica's online frames; numbers count from the first of them."""

    frames: Tensor  # (frames, channels, height, width)
    frame_numbers: Tensor  # (3, transitions): current, following, first
    episode_start: Tensor  # (): the first frame of the current episode


def _fits(device: torch.device, size: int) -> bool:
    return size <= FREE_SHARE * torch.cuda.mem_get_info(device)[0]
