"""Datasets of one environment joined: `mix:A+B+C`, their transitions in that order, each a segment.

`mix:A:333000+B:20%` takes the first 333 000 transitions of A and the first fifth of B's; behind a comma
`name=…` says what to call the whole. The parts are whatever `datasets.load` takes, mixtures excepted; a path
in them has no `+`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

import numpy as np

from seqeval import datasets
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset

PREFIX = "mix:"
PER_TRANSITION = (
    *("observations", "actions", "rewards", "next_observations"),
    *("terminated", "truncated", "episode"),
)


def names() -> list[str]:
    return []


def handles(name: str) -> bool:
    return name.startswith(PREFIX)


def load(name: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    """The parts, one after the other. Raises UserError where they do not fit together."""
    text, _, called = name.removeprefix(PREFIX).partition(",name=")
    parts = []
    for item in text.split("+"):
        if item.startswith(PREFIX):
            raise UserError(f"dataset {name!r}: {item!r} is a mixture itself; name its parts")
        parts.append(_part(item, name, env_id, rules, trust_pickle))
    first = parts[0]
    for part in parts:
        if part.environment != first.environment:
            raise UserError(
                f"dataset {name!r}: {first.name} was logged in {first.environment}, {part.name} in "
                f"{part.environment}"
            )
    same_scale = all(part.reference == first.reference for part in parts)
    noted: dict[str, list[str]] = {}  # what several parts share is said once
    for part in parts:
        for note in part.notes:
            noted.setdefault(note, []).append(part.name)
    notes = [f"{' and '.join(whose)}: {note}" for note, whose in noted.items()]
    if not same_scale:
        notes.append("no scores: the parts have different reference returns")
    arrays: dict[str, Any] = {
        field: np.concatenate([getattr(part, field) for part in parts]) for field in PER_TRANSITION
    }
    episodes = np.cumsum([0, *(len(part.episode_returns) for part in parts)])
    arrays["episode"] += np.repeat(episodes[:-1], [len(part) for part in parts]).astype(np.int32)
    for field in ("episode_returns", "episode_complete"):
        arrays[field] = np.concatenate([getattr(part, field) for part in parts])
    for values in arrays.values():
        values.setflags(write=False)
    sizes = [f"{part.name}:{len(part)}" for part in parts]
    return replace(
        first,
        name=called or "+".join(sizes),
        **arrays,
        segments=tuple(len(part) for part in parts),
        segment_names=tuple(part.name for part in parts),
        reference=first.reference if same_scale else None,
        digest=hashlib.sha256("+".join(part.digest for part in parts).encode()).hexdigest(),
        notes=tuple(notes),
        card={"parts": ", ".join(sizes)},
    )


def _part(item: str, whole: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    """A part, cut to its size. Raises UserError where it has not so many transitions."""
    sized = re.fullmatch(r"(.+):(?:(\d+)|(\d+(?:\.\d+)?)%)", item)
    dataset = datasets.load(sized[1] if sized else item, env_id, rules, trust_pickle)
    if not sized:
        return dataset
    size = int(sized[2]) if sized[2] else round(float(sized[3]) / 100 * len(dataset))
    if not 1 <= size <= len(dataset):
        raise UserError(
            f"dataset {whole!r}: {size} transitions of {dataset.name} cannot be taken, it has {len(dataset)}"
        )
    return _head(dataset, size)


def _head(dataset: Dataset, size: int) -> Dataset:
    """The first transitions; an episode that goes on beyond them is cut there."""
    if size == len(dataset):
        return dataset
    arrays = {field: getattr(dataset, field)[:size].copy() for field in PER_TRANSITION}
    episodes = int(arrays["episode"][-1]) + 1
    arrays |= {
        field: getattr(dataset, field)[:episodes].copy() for field in ("episode_returns", "episode_complete")
    }
    if dataset.episode[size] == episodes - 1:
        arrays["truncated"][-1] = True
        arrays["episode_complete"][-1] = False
        last = arrays["episode"] == episodes - 1
        arrays["episode_returns"][-1] = arrays["rewards"][last].sum(dtype=np.float64)
    digest = hashlib.sha256(f"{size} of {dataset.digest}".encode()).hexdigest()
    return replace(dataset, **arrays, segments=(size,), digest=digest)
