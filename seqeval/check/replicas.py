"""Rules on the independence of replicas: every agent learns as it does solo."""

from __future__ import annotations

import torch
from torch import Tensor

from seqeval.check.randomness import act_changes_nothing, act_is_deterministic, exploration_is_reproducible
from seqeval.check.rules import FLOAT32, FLOAT64, expect_equal, rule
from seqeval.check.subject import HALF, SEEDS, UPDATES, Subject
from seqeval.replicated import Replicated


@rule("replicas learn the same together and solo", "rules 1 to 4", act_is_deterministic, act_changes_nothing)
def replicas_are_independent(subject: Subject) -> None:
    _compare_with_solo(subject, FLOAT32)
    if issubclass(subject.found, Replicated):
        return
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        try:
            subject.train(subject.make(), 0, 1)
        except Exception:
            return  # it requires float32, which allows no closer comparison
        _compare_with_solo(subject, FLOAT64)
    finally:
        torch.set_default_dtype(default)


@rule(
    "replicas explore the same together and solo",
    "rule 2",
    replicas_are_independent,
    exploration_is_reproducible,
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


@rule("NaN in one replica does not change the others", "rules 2 and 3", act_changes_nothing)
def nan_stays_in_its_replica(subject: Subject) -> None:
    clean, poisoned = subject.make(), subject.make()
    for update in range(UPDATES):
        clean.update(subject.batch(clean, update))
        batch = subject.batch(poisoned, update)
        if update == 1:
            batch.observations[1, 3] = batch.rewards[1, 3] = torch.nan
        poisoned.update(batch)
    for replica in (0, 2):
        expected = f"replica {replica} to be the same with NaN in the batch of replica 1"
        expect_equal(subject.snapshot(clean, replica), subject.snapshot(poisoned, replica), expected)


def _compare_with_solo(subject: Subject, tolerance: tuple[float, float]) -> None:
    together = subject.make()
    metrics = subject.train(together)
    for replica, seed in enumerate(SEEDS):
        solo = subject.make([seed])
        expected = f"replica {replica} of 3 to equal its solo run"
        solo_metrics = _metrics_of(subject.train(solo), 0)
        expect_equal(solo_metrics, _metrics_of(metrics, replica), expected, tolerance)
        expect_equal(subject.snapshot(solo, 0), subject.snapshot(together, replica), expected, tolerance)


def _metrics_of(updates: list[dict[str, Tensor]], replica: int) -> list[dict[str, Tensor]]:
    """The metrics of one replica, without those of a wrong shape, which break another rule."""
    return [{k: value[replica] for k, value in metrics.items() if value.dim() == 1} for metrics in updates]
