"""Rules on random numbers, reproducibility, and what agents must not share."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from seqeval.algorithm import Algorithm
from seqeval.check.attributes import parameters, shared_values
from seqeval.check.interface import actions_have_shape, exploration_is_valid
from seqeval.check.rules import ContractError, difference, differing, expect, expect_equal, rule
from seqeval.check.subject import HALF, MANY_STATES, SEEDS, UPDATES, Subject
from seqeval.check.tracing import DrawFinder
from seqeval.replicated import Replicated

UNUSUAL_SEED = 976431


@rule("act is deterministic", "Algorithm.act", actions_have_shape)
def act_is_deterministic(subject: Subject) -> None:
    for algorithm in (subject.untrained[1], subject.trained[1]):
        first = subject.act(algorithm)
        kept = first.clone()
        subject.act(algorithm, MANY_STATES)
        expect_equal(kept, first, "the actions of act to stay as they are when act is called again")
        again = subject.act(algorithm)
        expect_equal(kept, again, "two calls of act with the same observations to agree")


@rule(
    "random numbers come from the batch, or from explore's noise",
    "rule 4",
    act_is_deterministic,
    exploration_is_valid,
)
def random_numbers_are_given(subject: Subject) -> None:
    algorithm = subject.make()
    if isinstance(algorithm, Replicated):
        return  # torch's random state belongs to the agent
    with torch.random.fork_rng([]):
        for update in range(UPDATES):
            batch = subject.batch(algorithm, update)
            with DrawFinder(subject.file) as draws:
                algorithm.update(batch)
            _expect_no_draws(draws, "update to take its random numbers from `batch.noise`")
        inputs = subject.observations(algorithm, MANY_STATES), subject.noise(algorithm, MANY_STATES)
        with torch.no_grad(), DrawFinder(subject.file) as draws:
            algorithm.explore(*inputs)
        _expect_no_draws(draws, "explore to take its random numbers from `noise`")


@rule(
    "global random generators and torch's settings are left alone",
    "rule 4, and SingleAlgorithm",
    random_numbers_are_given,
)
def globals_are_unchanged(subject: Subject) -> None:
    with restored_random_states():
        algorithm = subject.make()
        calls: dict[str, Callable[[], Any]] = {
            "update": lambda: algorithm.update(subject.batch(algorithm, algorithm.updates)),
            "act": lambda: subject.act(algorithm),
            "explore": lambda: subject.explore(algorithm),
        }
        for method, call in calls.items():
            for _ in range(HALF):
                set_globals()
                before, seeds = globals_of_the_process(), _torch_seeds(algorithm)
                call()
                after = globals_of_the_process()
                for name, value in before.items():
                    unchanged = difference(value, after[name]) is None
                    expect(unchanged, f"{method} to leave {name} alone", "a change of it")
                expected = f"{method} to draw on from the agent's random state"
                same = seeds == _torch_seeds(algorithm)
                expect(same, expected, "one that it seeded again, as by torch.manual_seed")


@rule("the same seeds reproduce the same numbers", "rule 4, and SingleAlgorithm", globals_are_unchanged)
def seeds_reproduce(subject: Subject) -> None:
    shared = _shared(subject)
    one = subject.make()
    first = copy.deepcopy(subject.snapshot(one))
    metrics = subject.train(one)
    last = subject.snapshot(one)
    cause = _cause(shared, subject)
    other = subject.make()
    expect_equal(first, subject.snapshot(other), f"the same seeds to start in the same state{cause}")
    expected = f"the same seeds and batches to give the same updates{cause}"
    expect_equal(metrics, subject.train(other), expected)
    expect_equal(last, subject.snapshot(other), expected)


@rule("agents share nothing", "Algorithm, and SingleAlgorithm", seeds_reproduce)
def agents_share_nothing(subject: Subject) -> None:
    alone, among_others = subject.make(SEEDS[:1]), subject.make(SEEDS[:1])
    metrics = subject.train(alone)
    last = subject.snapshot(alone)
    shared = _shared(subject)
    others, interleaved = subject.make(SEEDS[1:]), []
    for update in range(UPDATES):
        others.update(subject.batch(others, update))
        interleaved.append(among_others.update(subject.batch(among_others, update)))
    expected = f"an agent to learn the same with and without others in its process{_cause(shared, subject)}"
    expect_equal(metrics, interleaved, expected)
    expect_equal(last, subject.snapshot(among_others), expected)


@rule("different seeds start with different weights", "Algorithm", seeds_reproduce)
def seeds_differ(subject: Subject) -> None:
    one, other = (subject.make([seed]) for seed in SEEDS[:2])
    weights = parameters(other)
    for name, weight in parameters(one).items():
        constant = weight.numel() == 1 or bool((weight == weight.flatten()[0]).all())
        if not constant and name in weights and torch.equal(weight, weights[name]):
            raise ContractError("two seeds to start with different weights", f"the same {name}")
    for update in range(HALF):
        for algorithm in (one, other):
            algorithm.update(subject.batch(algorithm, update, data_seeds=SEEDS[:1]))
    observations = subject.observations(one, MANY_STATES)
    with torch.no_grad():
        actions = one.act(observations)
        found = difference(actions, other.act(observations))
        if found is None and one.spec.discrete:  # two networks may find the same action best in all states
            found = difference(one.q_value(observations, actions), other.q_value(observations, actions))
    expect(found is not None, "two seeds to act differently, as their initial weights do", "the same actions")


@rule("different seeds draw different random numbers", "rule 4, and SingleAlgorithm", seeds_reproduce)
def seeds_draw_differently(subject: Subject) -> None:
    algorithm = subject.make()
    if not isinstance(algorithm, Replicated):
        return  # its random numbers come with the batch
    batch = subject.batch(algorithm, 0)
    with DrawFinder(subject.file) as draws:
        algorithm.update(batch)
    if not draws.private:
        return  # torch's global random state is seeded by the agent's seed
    state = algorithm.state_dict()
    equal = state["replicas"][0]["agent"]
    algorithm.load_state_dict(
        state | {"replicas": [replica | {"agent": equal} for replica in state["replicas"]]}
    )
    for update in range(UPDATES):
        algorithm.update(subject.batch(algorithm, update, data_seeds=SEEDS[:1] * len(SEEDS)))
    first, second, *_ = (replica["agent"] for replica in algorithm.state_dict()["replicas"])
    expected = "agents of two seeds to draw different random numbers in update"
    got = f"the same; {draws.private[0]} depends on no seed"
    expect(difference(first, second) is not None, expected, got)


@contextmanager
def restored_random_states() -> Iterator[None]:
    """Restores NumPy's, Python's and torch's global random states at the end."""
    numpy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng([]):
            yield
    finally:
        np.random.set_state(numpy)  # noqa: NPY002
        random.setstate(python)


def set_globals() -> None:
    """Sets what `globals_of_the_process` returns as no plug-in does; earlier calls may have changed it
    already."""
    np.random.seed(UNUSUAL_SEED)  # noqa: NPY002
    random.seed(UNUSUAL_SEED)
    torch.manual_seed(UNUSUAL_SEED)
    torch.set_num_threads(1)


def globals_of_the_process() -> dict[str, Any]:
    return {
        "NumPy's global random state": np.random.get_state(),  # noqa: NPY002
        "Python's global random state": random.getstate(),
        "torch's global random state": torch.get_rng_state(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's recording of gradients": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
    }


def _torch_seeds(algorithm: Algorithm) -> list[int]:
    """The seed that the random state of each single agent started from."""
    seeds = []
    if isinstance(algorithm, Replicated):
        with torch.random.fork_rng([]):
            for state in algorithm._random:
                torch.set_rng_state(state["cpu"])
                seeds.append(torch.initial_seed())
    return seeds


def _expect_no_draws(draws: DrawFinder, expected: str) -> None:
    expect(not draws.found, expected, f"others, drawn by {', '.join(draws.found[:1])}")


def _shared(subject: Subject) -> dict[str, Any]:
    """A copy of the values that all agents share."""
    return copy.deepcopy(shared_values(subject.found))


def _cause(shared: dict[str, Any], subject: Subject) -> str:
    """Says which of the values that all agents share have changed; empty if none has."""
    names = differing(shared, shared_values(subject.found))
    return f" ({', '.join(names[:3])} changed)" if names else ""
