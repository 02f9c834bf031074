"""Rules on what evaluators ask an algorithm for: `log_prob`, `q_value` and `td_error`."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from seqeval.algorithm import Algorithm
from seqeval.check.acting import act_changes_nothing
from seqeval.check.interface import weights_stay_finite
from seqeval.check.randomness import agents_share_nothing
from seqeval.check.rules import difference, expect, expect_equal, rule
from seqeval.check.subject import HALF, SEEDS, Subject
from seqeval.replay.normalization import ACTION_MARGIN
from seqeval.types import Batch

MEASURES = ("log_prob", "q_value", "td_error")
GRID = 4001  # actions of the numerical integral
TOO_MUCH = 1.05  # probability of all actions that rounding cannot explain
REWARD = (1e-3, 1e-3)  # rtol and atol of a difference of 1 between two values in float32


@rule(
    "log_prob, q_value and td_error have their shapes, and are finite",
    "Algorithm.log_prob, q_value and td_error",
    weights_stay_finite,
)
def measures_are_valid(subject: Subject) -> None:
    for name in MEASURES:
        kinds = set()
        for algorithm in subject.untrained + subject.trained:
            for update in range(HALF):
                batch = subject.batch(algorithm, update)
                if update == 1 and not algorithm.spec.discrete:  # logged actions are often at their bounds
                    batch = replace(batch, actions=(1 - ACTION_MARGIN) * batch.actions.sign())
                values = _measure(algorithm, name, batch)
                if values is not None:
                    _expect_values(algorithm, name, values, batch)
                kinds.add("None" if values is None else str((*values.shape, 1, 1)[1]))
        got = " and ".join(sorted(kinds))
        expect("None" not in kinds or len(kinds) == 1, f"{name} to be None always or never", "None at times")
        if name == "td_error":
            expect(len(kinds) == 1, "td_error of the same number of critics in each call", got)


@rule(
    "log_prob, q_value and td_error change nothing, and are reproducible",
    "Algorithm.log_prob, q_value and td_error",
    measures_are_valid,
    act_changes_nothing,
    agents_share_nothing,
)
def measures_change_nothing(subject: Subject) -> None:
    plain, measured = subject.make(), subject.make()
    for update in range(HALF):
        plain.update(subject.batch(plain, update))
        measured.update(subject.batch(measured, update))
        for name in MEASURES:
            batch, random = subject.batch(measured, update), torch.get_rng_state()
            before = copy.deepcopy(measured.state_dict())
            first, again = (_measure(measured, name, batch) for _ in range(2))
            expect_equal(before, measured.state_dict(), f"the same state before and after {name}")
            kept = torch.equal(random, torch.get_rng_state())
            expect(kept, f"{name} to leave torch's global random state alone", "draws from it")
            unchanged = vars(subject.batch(measured, update))
            expect_equal(unchanged, vars(batch), f"{name} to leave what it is given as it is")
            expect_equal(first, again, f"two calls of {name} with the same inputs to agree")
    expect_equal(plain.state_dict(), measured.state_dict(), "the same updates with and without these calls")


@rule(
    "log_prob, q_value and td_error of a transition depend on nothing but that transition",
    "rule 2",
    measures_change_nothing,
)
def measures_keep_transitions_apart(subject: Subject) -> None:
    algorithm = subject.together.algorithm
    batch, other = subject.batch(algorithm, 1), subject.batch(algorithm, 3)
    for name in MEASURES:
        values = _measure(algorithm, name, batch)
        if values is None:
            continue
        for replica in range(len(SEEDS)):
            found = _measure(algorithm, name, _mixed(batch, other, (replica,)))
            others = [place for place in range(len(SEEDS)) if place != replica]
            same = found is not None and difference(values[others], found[others]) is None
            got = f"others when the inputs of replica {replica} change"
            expect(same, f"{name} of replica {others[0]} to use its own inputs", got)
        for first in (0, 1):
            found = _measure(algorithm, name, _mixed(batch, other, (slice(None), slice(first, None, 2))))
            kept = values[..., 1 - first :: 2]
            same = found is not None and difference(kept, found[..., 1 - first :: 2]) is None
            got = "another value when other transitions of the minibatch change"
            expect(same, f"{name} to use its own transition alone", got)


@rule(
    "the probabilities of log_prob add up to at most 1", "Algorithm.log_prob", measures_keep_transitions_apart
)
def probabilities_add_up(subject: Subject) -> None:
    for algorithm in (subject.trained[3], subject.untrained[3]):  # of one action dimension if continuous
        spec, observations = algorithm.spec, subject.observations(algorithm, 4, 1)
        grid = torch.linspace(-1, 1, GRID, device=algorithm.device)[1:-1]
        actions = torch.arange(spec.action_size, device=algorithm.device) if spec.discrete else grid
        shape = (len(SEEDS), len(actions)) if spec.discrete else (len(SEEDS), len(actions), 1)
        chosen = actions.view(shape[1:]).expand(shape)
        for state in range(observations.shape[1]):
            states = observations[:, state : state + 1].repeat_interleave(len(actions), 1)
            with torch.no_grad():
                logs = algorithm.log_prob(states, chosen)
            if logs is None:
                return
            total = logs.double().exp().sum(-1) * (1 if spec.discrete else 2 / (GRID - 1))
            if spec.discrete:
                expected = "the probabilities of all discrete actions to add up to 1"
                expect(bool((total - 1).abs().max() < TOO_MUCH - 1), expected, f"{total[0]:.4g}")
            else:
                expected = "the density of actions to integrate to at most 1 over [-1, 1]"
                expect(bool(total.max() < TOO_MUCH), expected, f"{total.max():.4g}")


@rule("td_error is Q minus a target", "Algorithm.td_error", measures_keep_transitions_apart)
def td_errors_are_differences(subject: Subject) -> None:
    algorithm = subject.together.algorithm
    batch = subject.batch(algorithm, 1)
    values = _measure(algorithm, "td_error", batch)
    if values is None or algorithm.sampling.kind != "transitions":
        return
    raised = _measure(algorithm, "td_error", replace(batch, rewards=batch.rewards + 1))
    assert raised is not None
    change = raised - values
    expected = "td_error to fall by 1 where the reward rises by 1"
    expect(
        bool(torch.allclose(change, -torch.ones_like(change), *REWARD)), expected, f"{change[0, 0, 0]:.4g}"
    )
    axes = batch.next_observations.dim() - batch.terminated.dim()
    ends = batch.terminated.view(*batch.terminated.shape, *[1] * axes) > 0
    following = torch.where(ends, 3 - 2 * batch.next_observations, batch.next_observations)
    found = _measure(algorithm, "td_error", replace(batch, next_observations=following))
    got = "another value when the next observation of a terminated transition changes"
    expect(difference(values, found) is None, "td_error to see no value behind a terminated transition", got)


def _measure(algorithm: Algorithm, name: str, batch: Batch) -> Tensor | None:
    with torch.no_grad():
        if name == "td_error":
            return algorithm.td_error(batch)
        pairs = batch.observations, batch.actions
        if algorithm.sampling.kind == "sequences":
            pairs = batch.observations[:, :, 0], batch.actions[:, :, 0]
        return getattr(algorithm, name)(*pairs)


def _expect_values(algorithm: Algorithm, name: str, values: Tensor, batch: Batch) -> None:
    """Checks the type, the shape and the dtype of values, and that they are finite."""
    expect(isinstance(values, Tensor), f"{name} in a tensor or None", type(values).__name__)
    replicas, size = batch.rewards.shape[:2]
    text = f"({replicas}, C, {size})" if name == "td_error" else f"({replicas}, {size})"
    axes = 3 if name == "td_error" else 2
    right = values.dim() == axes and values.shape[0] == replicas and values.shape[-1] == size
    expect(right, f"{name} {text}", tuple(values.shape))
    default = torch.get_default_dtype()
    expect(values.dtype == default, f"{name} of torch's default dtype, {default}", values.dtype)
    known = torch.ones_like(values, dtype=torch.bool)
    if batch.mask is not None and name == "td_error":  # a sequence that is cut short may have no target
        known = (batch.mask > 0).all(-1).unsqueeze(1).expand_as(values)
    expect(bool(values[known].isfinite().all()), f"finite values of {name}", "some that are not")


def _mixed(one: Batch, other: Batch, places: tuple[int | slice, ...]) -> Batch:
    """A batch with the values of another one at some places; noise stays."""
    changed: dict[str, Any] = {}
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = value.clone()
            changed[field.name][places] = getattr(other, field.name)[places]
    return replace(one, **changed)
