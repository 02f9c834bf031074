"""Rules on `act` and `explore`: an action depends on its own replica and its own state alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqeval.algorithm import Algorithm
from seqeval.check.interface import exploration_is_valid
from seqeval.check.randomness import agents_share_nothing
from seqeval.check.rules import FLOAT32, difference, expect, expect_equal, rule
from seqeval.check.subject import HALF, MANY_STATES, SEEDS, Subject
from seqeval.replicated import Replicated

Act = Callable[[Tensor, Tensor], Tensor]  # observations and noise of all replicas -> actions
MODERATE = 10  # size of observations at which float32 rounds actions to about 1e-6
ROWS = 8  # states that are acted in one by one


@rule("act changes nothing", "Algorithm.act", agents_share_nothing)
def act_changes_nothing(subject: Subject) -> None:
    plain, acting = _train_with_calls(subject, "act", lambda algorithm: algorithm.state_dict())
    expect_equal(plain.state_dict(), acting.state_dict(), "the same updates with and without calls of act")


@rule("an action of act depends on the observations of its own replica alone", "rule 2", act_changes_nothing)
def act_keeps_replicas_apart(subject: Subject) -> None:
    for algorithm in _untrained_and_trained(subject):
        _expect_replicas_apart(subject, algorithm, "act", _actor(algorithm))


@rule("an action of act depends on its own state alone", "Algorithm.act", act_keeps_replicas_apart)
def act_keeps_states_apart(subject: Subject) -> None:
    for algorithm in _untrained_and_trained(subject):
        _expect_states_apart(subject, algorithm, "act", _actor(algorithm))


@rule("explore is reproducible", "Algorithm.explore", exploration_is_valid, agents_share_nothing)
def exploration_is_reproducible(subject: Subject) -> None:
    one, other = subject.make(), subject.make()
    for first in (0, HALF):
        expected = "the same noise and the same seeds to give the same exploration"
        expect_equal(subject.explore(one), subject.explore(other), expected)
        subject.train(one, first, first + HALF)
        subject.train(other, first, first + HALF)


@rule("explore does not train the agent", "Algorithm.explore", exploration_is_valid, act_changes_nothing)
def exploration_changes_nothing(subject: Subject) -> None:
    plain, exploring = _train_with_calls(subject, "explore", subject.learned)
    if not isinstance(plain, Replicated):  # a single agent uses one random state to explore and to update
        expected = "the same updates with and without calls of explore"
        expect_equal(subject.learned(plain), subject.learned(exploring), expected)


@rule(
    "an action of explore depends on observations and noise of its own replica alone",
    "rule 2",
    exploration_is_reproducible,
    exploration_changes_nothing,
    act_keeps_replicas_apart,
)
def exploration_keeps_replicas_apart(subject: Subject) -> None:
    for algorithm in _untrained_and_trained(subject):
        _expect_replicas_apart(subject, algorithm, "explore", _explorer(algorithm))


@rule(
    "an action of explore depends on its own state and noise alone",
    "Algorithm.explore",
    exploration_keeps_replicas_apart,
    act_keeps_states_apart,
)
def exploration_keeps_states_apart(subject: Subject) -> None:
    for algorithm in _untrained_and_trained(subject):
        _expect_states_apart(subject, algorithm, "explore", _explorer(algorithm))


@rule("explore uses its noise", "Algorithm.explore", exploration_keeps_replicas_apart)
def exploration_uses_noise(subject: Subject) -> None:
    own = subject.found.explore is not Algorithm.explore
    if subject.is_single or not own or not subject.found.learns_online:
        return
    for algorithm in _untrained_and_trained(subject):
        observations, noise = _inputs(subject, algorithm, MODERATE)
        explore = _explorer(algorithm)
        if difference(explore(observations, noise), explore(observations, -noise)) is not None:
            return
    expect(False, "explore to depend on its noise (without exploration, leave explore out)", "the same")


def _untrained_and_trained(subject: Subject) -> list[Algorithm]:
    return [subject.untrained[1], subject.together.algorithm]


def _train_with_calls(
    subject: Subject, method: str, state: Callable[[Algorithm], Any]
) -> tuple[Algorithm, Algorithm]:
    """Trains two of the same seeds, and calls a method of the second, which must change neither its state nor
    what it is given."""
    plain, called = subject.make(), subject.make()
    for update in range(HALF):
        plain.update(subject.batch(plain, update))
        called.update(subject.batch(called, update))
        before = copy.deepcopy(state(called))
        given = {"observations": subject.observations(called, MANY_STATES)}
        if method == "explore":
            given["noise"] = subject.noise(called, MANY_STATES)
        kept = {name: value.clone() for name, value in given.items()}
        with torch.no_grad():
            getattr(called, method)(*given.values())
        expect_equal(before, state(called), f"the same state before and after {method}")
        expect_equal(kept, given, f"{method} to leave what it is given as it is")
    return plain, called


def _actor(algorithm: Algorithm) -> Act:
    """`act`, which uses no noise."""
    return lambda observations, _: algorithm.act(observations)


def _explorer(algorithm: Algorithm) -> Act:
    """`explore`, which draws the same random numbers at each call."""

    def explore(observations: Tensor, noise: Tensor) -> Tensor:
        if not isinstance(algorithm, Replicated):
            return algorithm.explore(observations, noise)
        states = list(algorithm._random)
        try:
            return algorithm.explore(observations, noise)
        finally:
            algorithm._random = states

    return explore


def _inputs(subject: Subject, algorithm: Algorithm, largest: float) -> tuple[Tensor, Tensor]:
    return subject.observations(algorithm, MANY_STATES, largest), subject.noise(algorithm, MANY_STATES)


@torch.no_grad()
def _expect_replicas_apart(subject: Subject, algorithm: Algorithm, method: str, act: Act) -> None:
    inputs = _inputs(subject, algorithm, MODERATE)
    actions = act(*inputs)
    what = {"act": "observations"}.get(method, "observations and noise")
    for replica in range(len(SEEDS)):
        changed = [value.clone() for value in inputs]
        for value in changed:
            value[replica] = -value[replica]
        found = act(*changed)
        for other in range(len(SEEDS)):
            if other != replica:
                expected = f"{method} to choose the actions of replica {other} from its own {what}"
                got = difference(actions[other], found[other])
                expect(got is None, expected, f"other actions when those of replica {replica} change")


@torch.no_grad()
def _expect_states_apart(subject: Subject, algorithm: Algorithm, method: str, act: Act) -> None:
    inputs = _inputs(subject, algorithm, MODERATE)
    actions = act(*inputs)
    for first in (0, 1):  # every second state
        changed = [value.clone() for value in inputs]
        for value in changed:
            value[:, first::2] = 1 - 2 * value[:, first::2]
        found = act(*changed)[:, 1 - first :: 2]
        got = difference(actions[:, 1 - first :: 2], found)
        expected = f"{method} to choose an action from its own state alone"
        expect(got is None, expected, "another action when other states of the batch change")
    if method == "explore" and subject.is_single:
        return  # it draws other random numbers for one state than for many
    for state in range(0, MANY_STATES, MANY_STATES // ROWS):
        alone = act(*(value[:, state : state + 1] for value in inputs))
        expected = f"{method} to choose the same action in one state as in a batch of {MANY_STATES}"
        expect_equal(actions[:, state : state + 1], alone, expected, FLOAT32)
