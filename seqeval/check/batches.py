"""Made-up minibatches, with what the algorithm's `sampling` asks for.

They hold what a study may hold: some have no terminal transition, no reward and nothing that a mask allows,
and some have terminal transitions alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, Sampling
from seqeval.replay.indices import draw_noise
from seqeval.seeding import stream
from seqeval.types import Batch, Image, Spec

UNUSUAL = 7  # of so many updates, one has nothing but terminal transitions, and one has none


class Batches:
    """Makes batches; what is drawn for a seed is kept, because many rules use it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._drawn: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}

    def make(self, algorithm: Algorithm, update: int, seeds: Sequence[int]) -> Batch:
        """The batch of an update; the part of a replica depends on its entry of `seeds` alone."""
        replicas = [self._replica(algorithm, update, seed) for seed in seeds]
        values = {name: to_tensor([values[name] for values in replicas], algorithm) for name in replicas[0]}
        noise = {name: values.pop(f"noise/{name}") for name in algorithm.noise}
        return Batch(**values, noise=noise)

    def _replica(self, algorithm: Algorithm, update: int, seed: int) -> dict[str, np.ndarray]:
        declared = dict(algorithm.noise)
        key = (algorithm.spec, algorithm.sampling, repr(declared), update, seed)
        if key not in self._drawn:
            rng = stream(seed, "check", update)
            values = _draw(algorithm.spec, algorithm.sampling, self._size, rng, update % UNUSUAL)
            noise = {f"noise/{name}": draw_noise(noise, 1, rng)[0] for name, noise in declared.items()}
            self._drawn[key] = values | noise
        return self._drawn[key]


def to_tensor(replicas: Sequence[np.ndarray], algorithm: Algorithm) -> Tensor:
    """The arrays of all replicas as one tensor: int64 or uint8 as they are, or of torch's default dtype."""
    values = np.stack(replicas)
    dtype = None if values.dtype in (np.int64, np.uint8) else torch.get_default_dtype()
    return torch.from_numpy(values).to(algorithm.device, dtype)


def draw_observations(spec: Spec, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Observations (*shape, observation) from N(0, 1), or uint8 images of uniform noise."""
    image = spec.observation
    if not isinstance(image, Image):
        return rng.standard_normal((*shape, spec.observation_size))
    pixels = (image.stack * image.channels, image.height, image.width)
    return rng.integers(256, size=(*shape, *pixels), dtype=np.uint8)


def with_other_padding(batch: Batch) -> Batch:
    """The batch with other values behind the end of its sequences."""
    if batch.mask is None:
        return batch
    changes: dict[str, Any] = {}
    for name in ("observations", "actions", "rewards", "next_observations", "terminated", "next_actions"):
        if (value := getattr(batch, name)) is not None:
            kept = batch.mask if value.dim() == batch.mask.dim() else batch.mask.unsqueeze(-1)
            changes[name] = torch.where(kept > 0, value, _other(name, value))
    return replace(batch, **changes)


def with_other_next_actions(batch: Batch) -> Batch:
    """The batch with other next actions where there are none."""
    if batch.next_actions is None or batch.next_actions_mask is None:
        return batch
    values, mask = batch.next_actions, batch.next_actions_mask
    kept = mask if values.dim() == mask.dim() else mask.unsqueeze(-1)
    return replace(batch, next_actions=torch.where(kept > 0, values, _other("next_actions", values)))


def _other(name: str, value: Tensor) -> Tensor:
    if value.dtype == torch.int64:
        return value.amax() - value
    return {"terminated": 1 - value, "actions": -value, "next_actions": -value}.get(name, 3 - 2 * value)


def _draw(
    spec: Spec, sampling: Sampling, batch_size: int, rng: np.random.Generator, kind: int
) -> dict[str, np.ndarray]:
    """The values of one replica, by field. Transitions are sequences of length 1 whose axis L is removed."""
    length = sampling.length if sampling.kind == "sequences" else 1
    all_terminal, none_terminal = kind == 5, kind == 2
    visible = rng.integers(1, length + 1, (batch_size, 1))
    if all_terminal:
        visible[:] = 1
    places = np.arange(length)
    last = places >= visible - 1
    # Behind the end, a sequence repeats its last transition, as those of a study do.
    repeated = np.minimum(places, visible - 1)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, repeated.reshape(*repeated.shape, *[1] * (values.ndim - 2)), 1)

    observations = draw_observations(spec, (batch_size, length + 1), rng)
    actions = (
        rng.integers(spec.action_size, size=(batch_size, length + 1))
        if spec.discrete
        else rng.uniform(-1, 1, (batch_size, length + 1, spec.action_size))
    )
    rewards = padded(rng.standard_normal((batch_size, length))) * (not none_terminal)
    terminated = last & (rng.random((batch_size, 1)) < (1 if all_terminal else 0.3)) & (not none_terminal)
    values: dict[str, Any] = {
        "observations": padded(observations[:, :-1]),
        "actions": padded(actions[:, :-1]),
        "rewards": rewards,
        "next_observations": padded(observations[:, 1:]),
        "terminated": terminated,
    }
    shape = (batch_size, length)
    if sampling.next_actions:
        follows = ~terminated & (rng.random(shape) < 0.8) & (not none_terminal)
        chosen = follows if spec.discrete else follows[..., None]
        values["next_actions"] = np.where(chosen, padded(actions[:, 1:]), values["actions"])
        values["next_actions_mask"] = follows
    if sampling.returns_to_go:
        known = (rng.random(shape) < 0.8) & (not none_terminal)
        values["returns_to_go"] = np.where(known, rng.standard_normal(shape), -np.inf)
        values["returns_to_go_mask"] = known
    if sampling.rows:
        values["rows"] = rng.integers(1000, size=(batch_size, 1)) + repeated
    if sampling.times:
        values["times"] = rng.integers(1000, size=(batch_size, 1)) + repeated
    if sampling.kind == "n_step":
        values["steps"] = rng.integers(1, sampling.length + 1, shape)
    if sampling.kind == "sequences":
        return values | {"mask": places < visible}
    return {name: value[:, 0] for name, value in values.items()}
