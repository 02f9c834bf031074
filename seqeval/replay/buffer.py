"""The data of a job on its device, with room for online transitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from seqeval.frames import FrameStacks
from seqeval.replay.images import ImageRows, ImageStore, OnlineFrames
from seqeval.replay.normalization import ACTION_MARGIN, STD_EPS, ActionMapping
from seqeval.replay.rows import tensor_of
from seqeval.types import Dataset

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated")
CHUNK = 8_192  # rows that statistics are computed from at a time: few enough to bound temporary memory


class Buffer:
    """The transitions of one or more datasets, one after the other, stored once for all replicas, followed by
    `room` rows for each replica's online transitions.

    Actions are stored as algorithms see them, in [-1, 1] or counted from 0; observations and rewards as
    logged. A single dataset without room is not copied on the CPU: nothing here writes to its memory. Images
    are never copied there.
    """

    # (rows, observation), or images that are put together when they are indexed by rows.
    observations: Tensor | ImageRows
    next_observations: Tensor | ImageRows

    def __init__(
        self,
        datasets: Sequence[Dataset],
        actions: Sequence[ActionMapping],
        device: torch.device,
        room: int = 0,
        replicas: int = 0,
        episodes: bool = False,
    ) -> None:
        """`actions` has the mapping of each dataset; `room` rows are reserved for each of `replicas`. With
        `episodes` the buffer also knows which rows follow each other (`continues`, `times`)."""
        self.device, self.room = device, room
        sizes = [len(dataset) for dataset in datasets]
        self.offsets = [sum(sizes[:place]) for place in range(len(sizes))]  # first row of each dataset
        self.size = sum(sizes)  # rows of data

        def joined(parts: Sequence[Tensor]) -> Tensor:
            if len(parts) == 1 and not room:
                return parts[0]
            whole = parts[0].new_zeros(self.size + replicas * room, *parts[0].shape[1:])
            first = 0
            for part in parts:
                whole[first : (first := first + len(part))] = part
            return whole

        fields = list(FIELDS)
        images = [d.observations for d in datasets if isinstance(d.observations, FrameStacks)]
        self._images: ImageStore | None = None
        if images:
            self._images = ImageStore(images, device, room, replicas)
            self.observations = ImageRows(self._images, of_next=False)
            self.next_observations = ImageRows(self._images, of_next=True)
            fields = [name for name in fields if not name.endswith("observations")]
        else:
            self.observations = joined([_tensor(np.asarray(d.observations), device) for d in datasets])
            self.next_observations = joined(
                [_tensor(np.asarray(d.next_observations), device) for d in datasets]
            )
        self.actions = joined(
            [
                mapping.to_algorithm(_tensor(d.actions, device))
                for d, mapping in zip(datasets, actions, strict=True)
            ]
        )
        self.rewards = joined([_tensor(d.rewards, device) for d in datasets])
        self.terminated = joined([_tensor(d.terminated, device) for d in datasets])
        # Whether the following row is the next transition of the same episode, and known.
        self.continues = (
            joined([torch.from_numpy(_continues(d)).to(device) for d in datasets]) if episodes else None
        )
        # The steps of the episode that come before: int64.
        self.times = joined([torch.from_numpy(_times(d)).to(device) for d in datasets]) if episodes else None
        self._fields = (*fields, *(("continues", "times") * episodes))

    @property
    def on_host(self) -> bool:
        """Whether images stay in the host's memory because a GPU has no room for them."""
        return self._images is not None and self._images.on_host

    def online_rows(self, replica: int) -> np.ndarray:
        """The rows of a replica's online transitions in order: (room,) int32."""
        first = self.size + replica * self.room
        return np.arange(first, first + self.room, dtype=np.int32)

    def add(
        self,
        place: int,
        observations: np.ndarray,
        actions: Tensor,
        rewards: np.ndarray,
        next_observations: np.ndarray,
        terminated: np.ndarray,
        starts: np.ndarray,
    ) -> None:
        """Writes the `place`-th online transition of each replica, counted from 0.

        (R, observation), (R, action) or (R,) as an algorithm sees actions, and (R,); `starts` (R,) bool: the
        transition is the first of its episode. Images are stacks.
        """
        rows = self.size + place + self.room * torch.arange(len(rewards), device=self.device)
        if actions.is_floating_point():
            actions = actions.clamp(-(1 - ACTION_MARGIN), 1 - ACTION_MARGIN)
        self.actions[rows] = actions
        written = [(self.rewards, rewards), (self.terminated, terminated)]
        if self._images is not None:
            self._images.add(rows, observations, next_observations, starts)
        else:
            assert isinstance(self.observations, Tensor)
            assert isinstance(self.next_observations, Tensor)
            written += [(self.observations, observations), (self.next_observations, next_observations)]
        for stored, values in written:
            stored[rows] = torch.as_tensor(values, dtype=stored.dtype, device=self.device)
        if place and self.continues is not None and self.times is not None:
            follows = torch.as_tensor(~starts, device=self.device)
            self.continues[rows - 1] = follows
            self.times[rows] = torch.where(follows, self.times[rows - 1] + 1, 0)

    def online_transitions(self, replica: int, count: int) -> dict[str, Tensor]:
        """Copies of a replica's first `count` online transitions, by field, for `restore`."""
        first = self.size + replica * self.room
        rows = slice(first, first + count)
        found = {name: getattr(self, name)[rows].clone() for name in self._fields}
        return found if self._images is None else found | self._images.online_frames(replica, rows)

    def restore(self, replica: int, transitions: Mapping[str, Tensor]) -> None:
        """Writes what `online_transitions` returned."""
        first = self.size + replica * self.room
        for name in self._fields:
            values = transitions[name].to(self.device)
            getattr(self, name)[first : first + len(values)] = values
        if self._images is not None:
            rows = slice(first, first + len(transitions["rewards"]))
            frames = OnlineFrames(*(transitions[name] for name in OnlineFrames._fields))
            self._images.restore(replica, rows, frames)

    def observation_statistics(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean, and standard deviation plus 1e-3, of the observations in `rows` (n,), computed in float64:
        (observation,) each. Not for images."""
        assert isinstance(self.observations, Tensor)
        count, mean, scatter = 0, torch.zeros(()), torch.zeros(())
        for chunk in np.array_split(rows, -(-len(rows) // CHUNK)):
            values = self.observations[upload(chunk, self.device)].double()
            # Chan's pairwise update avoids the difference of large squares.
            size, chunk_mean = len(chunk), values.mean(0)
            between = (chunk_mean - mean).square() * (count * size / (count + size))
            scatter = scatter + (values - chunk_mean).square().sum(0) + between
            mean = mean + (chunk_mean - mean) * (size / (count + size))
            count += size
        std = (scatter / count).sqrt() + STD_EPS
        return mean.to(self.rewards.dtype), std.to(self.rewards.dtype)


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device: on the CPU a view of it; the copy to a GPU is asynchronous."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    """On the CPU a view of the dataset's memory if it has the right type; otherwise a copy. Discrete actions
    stay int64."""
    tensor = tensor_of(values)
    return tensor.to(device, None if tensor.dtype == torch.int64 else torch.get_default_dtype())


def _continues(dataset: Dataset) -> np.ndarray:
    """(N,) bool: whether the next row is the next transition of the same episode."""
    follows = np.zeros(len(dataset), bool)
    follows[:-1] = dataset.episode[1:] == dataset.episode[:-1]
    return follows & ~dataset.terminated & ~dataset.truncated


def _times(dataset: Dataset) -> np.ndarray:
    """(N,) int64: the rows of the same episode that come before each."""
    rows = np.arange(len(dataset))
    starts = np.ones(len(dataset), bool)
    starts[1:] = dataset.episode[1:] != dataset.episode[:-1]
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))
