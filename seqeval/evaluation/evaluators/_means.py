"""Means of what an algorithm says about some rows of the data, for each replica."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from seqeval.algorithm import Algorithm
from seqeval.evaluation import Metric, Policies, Rows, VisibleData
from seqeval.replay.buffer import upload
from seqeval.replay.images import ImageRows
from seqeval.replay.indices import draw_noise
from seqeval.seeding import stream
from seqeval.types import Dataset

# What `fit` returns, with the unit and direction of each.
FIT = {
    "nll": Metric("nats per transition, actions in [-1, 1]", "lower"),
    "squared_error": Metric("squared distance per transition, actions in [-1, 1]", "lower"),
    "td_error": Metric("squared reward units", "lower"),
}


def fit(
    agents: Policies, visible: VisibleData, rows: Rows, known: Sequence[int], purpose: str
) -> dict[str, list[float | None]]:
    """How well the agents predict some rows of the data; a measure that they lack is left out, and None for a
    replica without rows.

    `nll`: negative log-likelihood of the logged actions under a stochastic policy. `squared_error`: of the
    deterministic policy's actions, |π(s) - a|²; where actions are discrete, 1 if they differ. `td_error`: of
    the critics with their own targets, squared, a mean over critics. `known` (R,) are the transitions that
    `td_error` may use; its random numbers come from streams of each replica's seed and `purpose`.
    """
    buffer = visible.buffer
    assert buffer is not None

    # Its actions depend on more than an observation.
    remembers = agents.algorithm.remembers

    def nll(places: Tensor) -> Tensor | None:
        if remembers:
            return None
        log_prob = agents.log_prob(*_pairs(buffer.observations, buffer.actions, places))
        return None if log_prob is None else -log_prob

    def squared_error(places: Tensor) -> Tensor | None:
        if remembers:
            return None
        observations, actions = _pairs(buffer.observations, buffer.actions, places)
        found = agents.policy_actions(observations)
        if agents.algorithm.spec.discrete:
            return (found != actions).float()
        return (found - actions).square().sum(-1)

    noise = noise_of(agents, visible.samples, purpose)
    factors = column(visible.reward_factors, buffer.device)

    def td_error(places: Tensor) -> Tensor | None:
        known_tensor = torch.tensor(known, dtype=torch.int32, device=buffer.device)
        errors = agents.td_error(places, known_tensor, next(noise))
        return None if errors is None else (errors.square().mean(1) / factors.square())

    measures = {"nll": nll, "squared_error": squared_error, "td_error": td_error}
    sequences = agents.algorithm.sampling.kind == "sequences"
    means = {
        name: mean(agents, rows, measure, leave_out_nan=sequences and name == "td_error")
        for name, measure in measures.items()
    }
    return {name: values for name, values in means.items() if values is not None}


def mean_q(
    agents: Policies, visible: VisibleData, rows: Rows, logged_actions: bool = False
) -> list[float | None] | None:
    """Mean Q of the agents' critics at the observations of some rows and the policy's actions, or the logged
    ones, in the units of the environment's rewards. None without critics, and for a replica without rows."""
    buffer = visible.buffer
    assert buffer is not None
    factors = column(visible.reward_factors, buffer.device)

    def q(places: Tensor) -> Tensor | None:
        observations, actions = _pairs(buffer.observations, buffer.actions, places)
        if not logged_actions:
            actions = agents.policy_actions(observations)
        values = agents.q_value(observations, actions)
        return None if values is None else values / factors

    return mean(agents, rows, q)


def mean(
    agents: Policies, rows: Rows, measure: Callable[[Tensor], Tensor | None], leave_out_nan: bool = False
) -> list[float | None] | None:
    """The mean of a measure, rows (R, B) -> (R, B) or None, over some rows of each replica.

    None for a replica without rows, and None altogether if the measure is None. With `leave_out_nan` rows
    whose measure is NaN do not count.

    All calls have the algorithm's batch size, so that a replica's numbers do not depend on the others.
    """
    size, device = agents.algorithm.config.batch_size, agents.algorithm.device
    chosen = [rows(replica) for replica in range(len(agents.seeds))]
    counts = np.array([len(part) for part in chosen])
    used = torch.zeros(len(chosen), dtype=torch.int64, device=device)
    total = torch.zeros(len(chosen), dtype=torch.float64, device=device)
    for first in range(0, int(counts.max(initial=0)), size):
        part = np.zeros((len(chosen), size), np.int32)
        for replica, values in enumerate(chosen):
            values = values[first : first + size]
            part[replica, : len(values)] = values
            part[replica, len(values) :] = chosen[replica][0] if len(chosen[replica]) else 0
        found = measure(upload(part, device))
        if found is None:
            return None
        counted = torch.from_numpy(first + np.arange(size) < counts[:, None]).to(device)
        if leave_out_nan:
            counted &= ~found.isnan()
        used += counted.sum(-1)
        total += torch.where(counted, found.double(), 0.0).sum(-1)
    return [t / n if n else None for t, n in zip(total.tolist(), used.tolist(), strict=True)]


def noise_of(agents: Policies, samples: Sequence[int], purpose: str) -> Iterator[dict[str, Tensor]]:
    """The random numbers of one minibatch after the other, from each replica's seed, point and purpose."""
    algorithm: Algorithm = agents.algorithm
    replicas = list(zip(agents.seeds, samples, strict=True))
    streams = {
        name: [stream(seed, "evaluation", n, purpose, name) for seed, n in replicas]
        for name in algorithm.noise
    }
    dtype = torch.get_default_dtype()
    while True:
        drawn = {
            name: np.concatenate([draw_noise(noise, 1, rng) for rng in streams[name]])
            for name, noise in algorithm.noise.items()
        }
        yield {name: upload(values, algorithm.device).to(dtype) for name, values in drawn.items()}


def column(values: Sequence[float], device: torch.device) -> Tensor:
    """(R, 1)."""
    return torch.tensor(values, dtype=torch.get_default_dtype(), device=device).unsqueeze(1)


def first_rows(dataset: Dataset, offset: int, rows: np.ndarray) -> np.ndarray:
    """Those of some rows of the buffer that hold the first transition of a logged episode."""
    starts = np.ones(len(dataset), bool)
    starts[1:] = dataset.episode[1:] != dataset.episode[:-1]
    logged = rows[(rows >= offset) & (rows < offset + len(dataset))]
    return logged[starts[logged - offset]]


def complete_episodes(dataset: Dataset, offset: int, rows: np.ndarray) -> np.ndarray:
    """The episodes that have ended and all of whose transitions are among some rows of the buffer: (E,)
    bool."""
    logged = rows[(rows >= offset) & (rows < offset + len(dataset))] - offset
    seen = np.bincount(dataset.episode[logged], minlength=len(dataset.episode_returns))
    return (seen == dataset.episode_lengths) & (seen > 0) & dataset.episode_complete


def _pairs(observations: Tensor | ImageRows, actions: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Observations and actions of rows (R, B): (R, B, ...) each."""
    rows = rows.long()
    return observations[rows], actions[rows]
