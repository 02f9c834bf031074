"""Replicas are independent to the last bit on the CPU for sizes that no vector unit divides: a replica's part
of a tensor then starts at addresses that the whole tensor never starts at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from training_setup import BUILT_IN, SMALL

from seqeval import plugins
from seqeval.algorithm import Algorithm, Spec
from seqeval.check.rules import difference
from seqeval.check.subject import Subject
from seqeval.training.matmul import ALIGNMENT, aligned
from seqeval.types import Vector

SEEDS = (3, 0, 7, 11)
UPDATES = 6
# Widths of hidden layers, batch size, sizes of observations and actions.
SIZES = [((17, 19), 7, 5, 3), ((33, 35), 31, 11, 1)]


def subject_of(name: str, hidden: tuple[int, int], batch_size: int) -> Subject:
    settings: dict[str, Any] = dict(SMALL.get(name, {}))
    settings |= {"embedding": 2 * hidden[0], "context": 5} if name == "dt" else {"hidden": hidden}
    found = plugins.find(name)
    return Subject(found, replace(found.Config(), **settings, batch_size=batch_size), "continuous")


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize(("hidden", "batch_size", "observation", "action"), SIZES)
def test_odd_sizes_keep_replicas_independent(
    name: str, hidden: tuple[int, int], batch_size: int, observation: int, action: int
) -> None:
    subject, spec = subject_of(name, hidden, batch_size), Spec(Vector(observation), action)
    together = subject.make(SEEDS, spec)
    metrics = subject.train(together, 0, UPDATES)
    for replica, seed in enumerate(SEEDS):
        solo = subject.make([seed], spec)
        alone = subject.train(solo, 0, UPDATES)
        expected = [{key: values[replica] for key, values in update.items()} for update in metrics]
        assert difference(expected, [{key: v[0] for key, v in update.items()} for update in alone]) is None
        assert difference(together.state_of(replica), solo.state_of(0)) is None
        for of in (actions, log_probs):
            assert difference(of(subject, together)[replica], of(subject, solo)[0]) is None


@torch.no_grad()
def actions(subject: Subject, algorithm: Algorithm) -> torch.Tensor:
    return algorithm.act(subject.observations(algorithm, 9, 10))


@torch.no_grad()
def log_probs(subject: Subject, algorithm: Algorithm) -> torch.Tensor:
    found = algorithm.log_prob(subject.observations(algorithm, 9, 10), 0.9 * actions(subject, algorithm))
    return torch.zeros(len(algorithm.seeds), 1) if found is None else found


def test_only_tensors_that_start_elsewhere_are_copied() -> None:
    values = torch.arange(40.0)
    assert aligned(values) is values
    part = aligned(values[3:])
    assert part.data_ptr() % ALIGNMENT == 0
    assert torch.equal(part, values[3:])
