"""Several datasets of one environment joined: `mix:A+B+C` holds their transitions in that order.

Each dataset becomes a segment. `mix:A:333000+B:20%` takes the first 333 000 transitions of A and the first
fifth of B's; `,name=...` at the end names the result. A part is any name or path that `datasets.load`
accepts, but not another mixture and not a path with a `+`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

import numpy as np

from seqeval import datasets, environments
from seqeval.datasets import LoadOptions, Source
from seqeval.errors import UserError
from seqeval.frames import Frames, FrameStacks
from seqeval.types import Continuous, Dataset

PREFIX = "mix:"
PER_EPISODE = ("episode_returns", "episode_complete")


def load(name: str, options: LoadOptions) -> Dataset:
    """The parts, one after the other. Raises UserError if they do not fit together."""
    text, _, given_name = name.removeprefix(PREFIX).partition(",name=")
    parts = [_part(item, name, options) for item in text.split("+")]
    first = parts[0]
    for part in parts:
        if part.environment != first.environment:
            raise UserError(
                f"dataset {name!r}: {first.name} was collected in {first.environment}, {part.name} in "
                f"{part.environment}"
            )
        if part.logged_in != first.logged_in and not _same_bounds(part, first):
            raise UserError(
                f"dataset {name!r}: {first.name} and {part.name} give different bounds of their actions"
            )
    same_scale = all(part.reference == first.reference for part in parts)
    notes = []
    for note in dict.fromkeys(note for part in parts for note in part.notes):  # a shared note appears once
        notes.append(f"{' and '.join(part.name for part in parts if note in part.notes)}: {note}")
    if not same_scale:
        notes.append("no scores: the parts have different reference returns")
    arrays: dict[str, Any] = {
        field: np.concatenate([getattr(part, field) for part in parts]) for field in _arrays(first)
    }
    arrays |= _joined_images(parts)
    first_episodes = np.cumsum([0, *(len(part.episode_returns) for part in parts[:-1])])
    arrays["episode"] += np.repeat(first_episodes, [len(part) for part in parts]).astype(np.int32)
    for values in arrays.values():
        if isinstance(values, np.ndarray):
            values.setflags(write=False)
    sizes = [f"{part.name}:{len(part)}" for part in parts]
    return replace(
        first,
        name=given_name or "+".join(sizes),
        **arrays,
        segments=tuple(len(part) for part in parts),
        segment_names=tuple(part.name for part in parts),
        reference=first.reference if same_scale else None,
        digest=hashlib.sha256("+".join(part.digest for part in parts).encode()).hexdigest(),
        notes=tuple(notes),
        card={"parts": ", ".join(sizes)},
    )


SOURCE = Source(load, prefix=PREFIX)


def _joined_images(parts: list[Dataset]) -> dict[str, Any]:
    """Observations and next observations of parts that hold images, whose frames are not copied."""
    found = [part.observations.frames for part in parts if isinstance(part.observations, FrameStacks)]
    if not found:
        return {}
    begins = np.cumsum([0, *(sum(map(len, frames.parts)) for frames in found[:-1])]).astype(np.int32)
    current, following, first = (
        np.concatenate([getattr(frames, name) + begin for frames, begin in zip(found, begins, strict=True)])
        for name in ("current", "following", "first")
    )
    parts_of_all = tuple(part for frames in found for part in frames.parts)
    frames = Frames(parts_of_all, current, following, first, found[0].stack)
    return {"observations": FrameStacks(frames, False), "next_observations": FrameStacks(frames, True)}


def _same_bounds(one: Dataset, other: Dataset) -> bool:
    """Whether the actions of two datasets of one environment have the same bounds."""
    left, right = environments.of(one).actions, environments.of(other).actions
    if not (isinstance(left, Continuous) and isinstance(right, Continuous)):
        return True
    return np.array_equal(left.low, right.low) and np.array_equal(left.high, right.high)


def _part(item: str, mixture: str, options: LoadOptions) -> Dataset:
    """One part, cut to its size. Raises UserError if it does not have that many transitions."""
    if item.startswith(PREFIX):
        raise UserError(f"dataset {mixture!r}: {item!r} is a mixture itself; name its parts")
    sized = re.fullmatch(r"(.+):(?:(\d+)|(\d+(?:\.\d+)?)%)", item)
    name = sized[1] if sized else item
    dataset = datasets.find(name).load(name, options)
    if not sized:
        return dataset
    size = int(sized[2]) if sized[2] else round(float(sized[3]) / 100 * len(dataset))
    if not 1 <= size <= len(dataset):
        raise UserError(
            f"dataset {mixture!r}: cannot take {size} transitions of {dataset.name}, which has {len(dataset)}"
        )
    return _head(dataset, size)


def _arrays(dataset: Dataset) -> dict[str, Any]:
    return {field: values for field, values in vars(dataset).items() if isinstance(values, np.ndarray)}


def _head(dataset: Dataset, size: int) -> Dataset:
    """The first `size` transitions; an episode that continues after them is truncated there."""
    if size == len(dataset):
        return dataset
    episodes = int(dataset.episode[size - 1]) + 1
    arrays: dict[str, Any] = {
        field: values[: episodes if field in PER_EPISODE else size].copy()
        for field, values in _arrays(dataset).items()
    }
    if isinstance(dataset.observations, FrameStacks):
        frames = dataset.observations.frames
        head = frames.replaced(frames.current[:size], frames.following[:size], frames.first[:size])
        arrays |= {"observations": FrameStacks(head, False), "next_observations": FrameStacks(head, True)}
    if dataset.episode[size] == episodes - 1:
        arrays["truncated"][-1] = True
        arrays["episode_complete"][-1] = False
        last = arrays["episode"] == episodes - 1
        arrays["episode_returns"][-1] = arrays["rewards"][last].sum(dtype=np.float64)
    digest = hashlib.sha256(f"{size} of {dataset.digest}".encode()).hexdigest()
    return replace(dataset, **arrays, segments=(size,), digest=digest)
