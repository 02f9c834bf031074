"""Rules on saving and loading."""

from __future__ import annotations

from seqeval.check.randomness import seeds_reproduce
from seqeval.check.replicas import replicas_are_independent
from seqeval.check.rules import FLOAT32, expect_equal, rule
from seqeval.check.subject import HALF, SEEDS, Subject, stored


@rule("a saved and loaded algorithm continues exactly", "state_dict", seeds_reproduce)
def resumes_exactly(subject: Subject) -> None:
    saved, loaded = subject.make(), subject.make()
    subject.train(saved, 0, HALF)
    loaded.load_state_dict(stored(saved.state_dict()))
    expect_equal(subject.snapshot(saved), subject.snapshot(loaded), "the loaded state to be the saved one")
    expected = "the loaded algorithm to continue as the saved one"
    expect_equal(subject.train(saved, HALF), subject.train(loaded, HALF), expected)
    expect_equal(subject.snapshot(saved), subject.snapshot(loaded), expected)


@rule("a stored policy acts as the agent did", "policy_parts and policy_dict", resumes_exactly)
def policies_act_alike(subject: Subject) -> None:
    trained, loaded = subject.make(), subject.make()
    subject.train(trained)
    loaded.load_policy_dict(stored(trained.policy_dict()))
    expected = "fresh agents with the stored policies to act in the same way"
    expect_equal(subject.act(trained), subject.act(loaded), expected)


@rule(
    "replica states can be split and joined", "Algorithm.state_of", resumes_exactly, replicas_are_independent
)
def states_can_be_split_and_joined(subject: Subject) -> None:
    together = subject.make()
    subject.train(together, 0, HALF)
    states = [stored(together.state_of(replica)) for replica in range(len(SEEDS))]
    joined = subject.make()
    joined.load_states([stored(state) for state in states])  # a copy: optimizers keep and change tensors
    subject.train(together, HALF)
    for replica, seed in enumerate(SEEDS):
        solo = subject.make([seed])
        solo.load_state_dict(states[replica])
        subject.train(solo, HALF)
        expected = f"the state of replica {replica} of 3, loaded with R = 1, to continue in the same way"
        expect_equal(subject.snapshot(together, replica), subject.snapshot(solo, 0), expected, FLOAT32)
    subject.train(joined, HALF)
    expected = "joined states of replicas to continue in the same way"
    expect_equal(subject.snapshot(together), subject.snapshot(joined), expected)
