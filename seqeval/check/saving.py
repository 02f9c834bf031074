"""Rules on saving and loading."""

from __future__ import annotations

import copy
from typing import Any

from seqeval.algorithm import Algorithm
from seqeval.check.attributes import attributes
from seqeval.check.interface import batch_is_released, state_is_plain
from seqeval.check.randomness import agents_share_nothing
from seqeval.check.replicas import replicas_are_independent
from seqeval.check.rules import FLOAT32, ContractError, difference, differing, expect, expect_equal, rule
from seqeval.check.subject import HALF, SEEDS, Subject, stored
from seqeval.check.tracing import leaves


@rule("training changes the state", "state_dict", agents_share_nothing, batch_is_released, state_is_plain)
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
    moving = differing(held, attributes(uninterrupted.algorithm))
    if missing := sorted({*moving}.intersection(differing(held, attributes(loaded)))):
        names = " and ".join(missing[:3])
        expected = "a loaded state to restore every attribute that training changes"
        raise ContractError(expected, f"one that leaves out attribute {names}")
    expected = "the loaded algorithm to continue as the saved one"
    for update, metrics in enumerate(subject.train(loaded, half, subject.long), half):
        expect_equal(uninterrupted.metrics[update], metrics, f"{expected}, in update {update + 1}")
    expect_equal(subject.snapshot(uninterrupted.algorithm), subject.snapshot(loaded), expected)


@rule("a stored policy acts as the agent did", "policy_parts and policy_dict", resumes_exactly)
def policies_act_alike(subject: Subject) -> None:
    trained, loaded = subject.make(), subject.make()
    subject.train(trained)
    loaded.load_policy_dict(stored(trained.policy_dict()))
    expected = "fresh agents with the stored policies to act in the same way"
    expect_equal(subject.snapshot(trained)["act"], subject.snapshot(loaded)["act"], expected)


@rule(
    "replica states can be split and joined",
    "Algorithm.state_of",
    resumes_exactly,
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
