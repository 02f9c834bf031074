"""Rules on saving and loading."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from seqeval.algorithm import Algorithm
from seqeval.check.attributes import attributes
from seqeval.check.randomness import seeds_reproduce
from seqeval.check.replicas import replicas_are_independent
from seqeval.check.rules import FLOAT32, ContractError, difference, expect, expect_equal, rule
from seqeval.check.subject import HALF, SEEDS, Subject, stored
from seqeval.check.tracing import leaves


@rule("a state holds tensors, numbers and text", "state_dict", seeds_reproduce)
def state_is_plain(subject: Subject) -> None:
    for path, value in leaves(subject.trained[1].state_dict()).items():
        plain = value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str, bytes)
        expect(plain, f"{path} in state_dict to be a tensor, a number or text", type(value).__name__)


@rule("training changes the state", "state_dict", state_is_plain)
def training_changes_the_state(subject: Subject) -> None:
    before = _without_updates(subject, subject.untrained[1])
    after = _without_updates(subject, subject.together.algorithm)
    changed = difference(before, after) is not None
    expect(changed, f"{subject.long} updates to change the state_dict", "the same one")


@rule("a saved and loaded algorithm continues exactly", "state_dict", training_changes_the_state)
def resumes_exactly(subject: Subject) -> None:
    uninterrupted, saved, loaded = subject.together, subject.make(), subject.make()
    half = subject.long // 2
    subject.train(saved, 0, half)
    loaded.load_state_dict(stored(saved.state_dict()))
    expect_equal(saved.state_dict(), loaded.state_dict(), "the loaded state to be the saved one")
    held = attributes(saved)
    moving = _changes(held, attributes(uninterrupted.algorithm))
    if missing := sorted(moving & _changes(held, attributes(loaded))):
        names = " and ".join(missing[:3])
        expected = "a loaded state to restore every attribute that training changes"
        raise ContractError(expected, f"one that leaves out attribute {names}")
    expected = "the loaded algorithm to continue as the saved one"
    for update, metrics in enumerate(subject.train(loaded, half, subject.long), half):
        expect_equal(uninterrupted.metrics[update], metrics, f"{expected}, in update {update + 1}")
    expect_equal(subject.snapshot(uninterrupted.algorithm), subject.snapshot(loaded), expected)


@rule("the axes of a state start with R", "state_dict", resumes_exactly)
def states_start_with_replicas(subject: Subject) -> None:
    if subject.is_single:
        return
    algorithm = subject.trained[1]
    for path, value in leaves(algorithm.state_dict()).items():
        if isinstance(value, Tensor) and value.dim():
            expected = f"{path} in state_dict to start with R = {len(SEEDS)}"
            expect(value.shape[0] == len(SEEDS), expected, tuple(value.shape))


@rule(
    "replica states can be split and joined",
    "Algorithm.state_of",
    states_start_with_replicas,
    replicas_are_independent,
)
def states_can_be_split_and_joined(subject: Subject) -> None:
    together = subject.make()
    subject.train(together, 0, HALF)
    states = [together.state_of(replica) for replica in range(len(SEEDS))]
    kept = [stored(state) for state in states]
    joined = subject.make()
    joined.load_states(states)
    subject.train(together, HALF)
    for replica, seed in enumerate(SEEDS):
        solo = subject.make([seed])
        solo.load_state_dict(copy.deepcopy(kept[replica]))  # optimizers keep and change tensors
        subject.train(solo, HALF)
        expected = f"the state of replica {replica} of 3, loaded with R = 1, to continue in the same way"
        expect_equal(subject.snapshot(together, replica), subject.snapshot(solo, 0), expected, FLOAT32)
    subject.train(joined, HALF)
    expected = "joined states of replicas to continue in the same way"
    expect_equal(subject.snapshot(together), subject.snapshot(joined), expected)
    expected = "state_of to return copies, and load_states to copy what it loads"
    found = difference(kept, states)
    expect(found is None, expected, f"a state that later updates change: {found}")


def _without_updates(subject: Subject, algorithm: Algorithm) -> dict[str, Any]:
    """The learned values, by path, except the counts of updates."""
    values = leaves(subject.learned(algorithm))
    return {path: value for path, value in values.items() if path.rpartition(".")[2] != "updates"}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The paths of the values that differ, or that are in only one."""
    paths = before.keys() | after.keys()
    absent = object()
    return {
        path
        for path in paths
        if difference({path: before.get(path, absent)}, {path: after.get(path, absent)}) is not None
    }
