"""Rules on reproducibility, and on side effects of `act` and `explore`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from seqeval.algorithm import Algorithm
from seqeval.check.interface import actions_are_in_bounds, actions_have_shape, expect_actions, expect_bounds
from seqeval.check.rules import difference, expect, expect_equal, rule
from seqeval.check.subject import HALF, MANY_STATES, SEEDS, Subject
from seqeval.replicated import Replicated


@rule("act is deterministic", "Algorithm.act", actions_have_shape)
def act_is_deterministic(subject: Subject) -> None:
    first, second = (subject.act(subject.untrained[-1]) for _ in range(2))
    expect_equal(first, second, "two calls of act with the same observations to agree")


@rule("the same seeds reproduce the same numbers", "rule 4, and SingleAlgorithm", actions_have_shape)
def seeds_reproduce(subject: Subject) -> None:
    one, other = subject.make(), subject.make()
    expect_equal(subject.snapshot(one), subject.snapshot(other), "the same seeds to start in the same state")
    expected = "the same seeds and batches to give the same updates"
    expect_equal(subject.train(one), subject.train(other), expected)
    expect_equal(subject.snapshot(one), subject.snapshot(other), expected)


@rule("different seeds give different numbers", "Algorithm", actions_have_shape)
def seeds_differ(subject: Subject) -> None:
    one, other = (subject.make([seed]) for seed in SEEDS[:2])
    for update in range(HALF):
        for algorithm in (one, other):
            algorithm.update(subject.batch(algorithm, update, data_seeds=SEEDS[:1]))
    found = difference(subject.act(one, MANY_STATES), subject.act(other, MANY_STATES))
    expect(found is not None, "two seeds to act differently, as their initial weights do", "the same actions")


@rule("act changes nothing", "Algorithm.act", seeds_reproduce)
def act_changes_nothing(subject: Subject) -> None:
    plain, acting = _train_with_calls(subject, subject.act, lambda algorithm: algorithm.state_dict())
    expect_equal(plain.state_dict(), acting.state_dict(), "the same updates with and without calls of act")


@rule("explore returns actions as act does", "Algorithm.explore", actions_are_in_bounds)
def exploration_is_valid(subject: Subject) -> None:
    for algorithm in subject.make_all_sizes() + subject.trained:
        actions = subject.explore(algorithm)
        expect_actions(subject, algorithm, actions, MANY_STATES)
        expect_bounds(algorithm, actions)


@rule(
    "explore is reproducible",
    "Algorithm.explore",
    exploration_is_valid,
    act_is_deterministic,
    seeds_reproduce,
)
def exploration_is_reproducible(subject: Subject) -> None:
    one, other = subject.make(), subject.make()
    for first in (0, HALF):
        expected = "the same noise and the same seeds to give the same exploration"
        expect_equal(subject.explore(one), subject.explore(other), expected)
        subject.train(one, first, first + HALF)
        subject.train(other, first, first + HALF)


@rule("explore does not train the agent", "Algorithm.explore", exploration_is_valid, act_changes_nothing)
def exploration_changes_nothing(subject: Subject) -> None:
    plain, exploring = _train_with_calls(subject, subject.explore, subject.learned)
    if not isinstance(plain, Replicated):  # a single agent uses one random state to explore and to update
        expected = "the same updates with and without calls of explore"
        expect_equal(subject.learned(plain), subject.learned(exploring), expected)


def _train_with_calls(
    subject: Subject, call: Callable[[Algorithm], Any], state: Callable[[Algorithm], Any]
) -> tuple[Algorithm, Algorithm]:
    """Trains two of the same seeds, and calls a method of the second, which must not change its state."""
    plain, called = subject.make(), subject.make()
    for update in range(HALF):
        plain.update(subject.batch(plain, update))
        called.update(subject.batch(called, update))
        before = copy.deepcopy(state(called))
        call(called)
        expect_equal(before, state(called), f"the same state before and after {call.__name__}")
    return plain, called
