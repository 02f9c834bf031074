"""Rules on the independence of replicas: every agent learns as it does solo."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqeval.check.acting import act_keeps_replicas_apart, exploration_keeps_replicas_apart
from seqeval.check.interface import batch_is_unchanged, states_start_with_replicas
from seqeval.check.randomness import agents_share_nothing
from seqeval.check.rules import FLOAT32, FLOAT32_LONG, FLOAT64, expect_equal, rule
from seqeval.check.subject import HALF, SEEDS, UPDATES, Subject, Trained


@rule(
    "replicas learn the same together and solo",
    "rules 1 to 4",
    act_keeps_replicas_apart,
    agents_share_nothing,
    batch_is_unchanged,
    states_start_with_replicas,
)
def replicas_are_independent(subject: Subject) -> None:
    for replica, solo in enumerate(subject.solo):
        _compare(subject, subject.together, solo, replica, FLOAT32, FLOAT32_LONG)
    if subject.is_single:
        return
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        try:
            together = _train(subject, SEEDS)
        except Exception:
            return  # it requires float32, which allows no closer comparison
        for replica, seed in enumerate(SEEDS):
            _compare(subject, together, _train(subject, [seed]), replica, FLOAT64, FLOAT64)
    finally:
        torch.set_default_dtype(default)


@rule(
    "replicas explore the same together and solo",
    "rule 2",
    replicas_are_independent,
    exploration_keeps_replicas_apart,
)
def exploration_is_independent(subject: Subject) -> None:
    together = subject.make()
    subject.train(together, 0, HALF)
    actions = subject.explore(together)
    for replica, seed in enumerate(SEEDS):
        solo = subject.make([seed])
        subject.train(solo, 0, HALF)
        expected = f"replica {replica} of 3 to explore as it does solo"
        expect_equal(subject.explore(solo)[0], actions[replica], expected, FLOAT32)


@rule("NaN in one replica does not change the others", "rules 2 and 3", replicas_are_independent)
def nan_stays_in_its_replica(subject: Subject) -> None:
    clean, poisoned = subject.together.algorithm, subject.make()
    for update in range(subject.long):
        batch = subject.batch(poisoned, update)
        if update == 1:
            batch.rewards[1, 3] = torch.nan
            if batch.observations.is_floating_point():
                batch.observations[1, 3] = torch.nan
        poisoned.update(batch)
    for replica in (0, 2):
        expected = f"replica {replica} to be the same with NaN in the batch of replica 1"
        expect_equal(subject.snapshot(clean, replica), subject.snapshot(poisoned, replica), expected)


def _train(subject: Subject, seeds: Sequence[int]) -> Trained:
    algorithm = subject.make(seeds)
    return Trained(algorithm, subject.train(algorithm))


def _compare(
    subject: Subject,
    together: Trained,
    solo: Trained,
    replica: int,
    short: tuple[float, float],
    long: tuple[float, float],
) -> None:
    """Compares a replica with its solo run; `short` is the tolerance of the first `UPDATES` updates."""
    expected = f"replica {replica} of 3 to equal its solo run"
    for update, (one, three) in enumerate(zip(solo.metrics, together.metrics, strict=True)):
        tolerance = short if update < UPDATES else long
        metrics = _metrics_of(one, 0), _metrics_of(three, replica)
        expect_equal(*metrics, f"{expected} in update {update + 1}", tolerance)
    snapshots = subject.snapshot(solo.algorithm, 0), subject.snapshot(together.algorithm, replica)
    expect_equal(*snapshots, f"{expected} after {len(solo.metrics)} updates", long)


def _metrics_of(metrics: dict[str, Tensor], replica: int) -> dict[str, Tensor]:
    return {name: value[replica] for name, value in metrics.items()}
