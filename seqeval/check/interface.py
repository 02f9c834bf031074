"""Rules on what an algorithm declares, and on what `update` and `act` accept and return."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from seqeval import plugins
from seqeval.algorithm import ActionSpace, Algorithm, Noise, Sampling
from seqeval.check.attributes import attributes, memory, parameters
from seqeval.check.rules import ContractError, expect, expect_equal, rule
from seqeval.check.subject import MANY_STATES, SEEDS, STATES, UPDATES, Subject
from seqeval.check.tracing import leaves
from seqeval.replicated import Replicated

RARE_METRICS = 2  # names that may occur in a single update, such as that of an update of targets


@rule("Config is a frozen dataclass that extends seqeval.algorithm.Config", "Config")
def config_is_valid(subject: Subject) -> None:
    if fault := plugins.config_fault(subject.found):
        raise ContractError("a Config that a study can set and store", f"one that breaks this: {fault}")


@rule("action_spaces and learns_online are valid", "Algorithm.action_spaces and learns_online")
def declarations_are_valid(subject: Subject) -> None:
    found, online = subject.found, subject.found.learns_online
    kinds = " or ".join(map(repr, get_args(ActionSpace)))
    for name in ("action_spaces", "image_action_spaces"):
        spaces = getattr(found, name)
        valid = _are_action_spaces(spaces) and any((found.action_spaces, found.image_action_spaces))
        expect(valid, f"{name} to be a tuple of {kinds}", repr(spaces))
    expect(isinstance(online, bool), "learns_online to be True or False", repr(online))


@rule("1 and 3 replicas can be built", "Algorithm.__init__", config_is_valid, declarations_are_valid)
def can_be_built(subject: Subject) -> None:
    for algorithm in subject.untrained:
        expect(algorithm.updates == 0, "updates to start at 0", algorithm.updates)


@rule("noise is valid, and the same for 1 and 3 replicas", "Noise", can_be_built)
def noise_is_valid(subject: Subject) -> None:
    kinds = get_args(get_type_hints(Noise)["kind"])
    for algorithm in subject.untrained:
        for name, noise in algorithm.noise.items():
            expect(isinstance(noise, Noise), f"noise {name!r} to be a Noise", noise)
            expect(noise.kind in kinds, f"noise {name!r} to be one of {', '.join(kinds)}", noise.kind)
    for one, three in zip(subject.untrained[::2], subject.untrained[1::2], strict=True):
        expected = f"3 replicas to declare the noise of 1, {dict(one.noise)}"
        expect(three.noise == one.noise, expected, dict(three.noise))


@rule("sampling is valid, and the same for 1 and 3 replicas", "Sampling", can_be_built)
def sampling_is_valid(subject: Subject) -> None:
    kinds = get_args(get_type_hints(Sampling)["kind"])
    for one, three in zip(subject.untrained[::2], subject.untrained[1::2], strict=True):
        sampling = one.sampling
        expect(isinstance(sampling, Sampling), "sampling to be a Sampling", type(sampling).__name__)
        expect(sampling.kind in kinds, f"sampling to be one of {', '.join(kinds)}", sampling.kind)
        valid = isinstance(sampling.length, int) and sampling.length >= 1
        expect(valid, "the length of sampling to be an integer of at least 1", sampling.length)
        expect(three.sampling == sampling, f"3 replicas to declare {sampling}, as 1 does", three.sampling)


@rule("weights are of torch's default dtype", "Algorithm", can_be_built)
def weights_have_default_dtype(subject: Subject) -> None:
    for algorithm in subject.untrained:
        for name, weight in parameters(algorithm).items():
            default = torch.get_default_dtype()
            expect(weight.dtype == default, f"{name} to be of torch's default dtype, {default}", weight.dtype)


@rule(
    "update accepts batches of 1 and 3 replicas, of two sizes",
    "Algorithm.update",
    noise_is_valid,
    sampling_is_valid,
    weights_have_default_dtype,
)
def can_be_updated(subject: Subject) -> None:
    for untrained, trained in zip(subject.untrained, subject.trained, strict=True):
        expected = f"noise to stay as declared, {dict(untrained.noise)}"
        expect(trained.noise == untrained.noise, expected, dict(trained.noise))


@rule("metrics are (R,), finite, detached and on the device", "Algorithm.update", can_be_updated)
def metrics_are_valid(subject: Subject) -> None:
    for trained in subject.short:
        algorithm, shape = trained.algorithm, (len(trained.algorithm.seeds),)
        for metrics in trained.metrics:
            expect(isinstance(metrics, dict), "update to return a dict", type(metrics).__name__)
            for name, value in metrics.items():
                metric = f"metric {name!r} to be"
                expect(isinstance(value, Tensor), f"{metric} a tensor", type(value).__name__)
                expect(value.device == algorithm.device, f"{metric} on {algorithm.device}", value.device)
                expect(value.shape == shape, f"{metric} {_describe(subject, shape)}", tuple(value.shape))
                expect(not value.requires_grad, f"{metric} detached", "one with a gradient")
                expect(bool(value.isfinite().all()), f"{metric} finite", value.tolist())


@rule("metrics keep their names", "Algorithm.update", metrics_are_valid)
def metrics_keep_their_names(subject: Subject) -> None:
    counts = Counter(name for metrics in subject.together.metrics for name in metrics)
    once = sorted(name for name, count in counts.items() if count == 1)
    expected = f"each metric to be returned more than once in {subject.long} updates"
    expect(len(once) <= RARE_METRICS, expected, f"{len(once)} that are not, such as {once[:1]}")


@rule("weights stay finite", "Algorithm.update", metrics_are_valid)
def weights_stay_finite(subject: Subject) -> None:
    for algorithm in [*subject.trained, subject.together.algorithm]:
        for name, weight in parameters(algorithm).items():
            expect(bool(weight.isfinite().all()), f"finite {name} after {algorithm.updates} updates", "NaN")


@rule("updates counts every update", "Algorithm.updates", can_be_updated)
def updates_are_counted(subject: Subject) -> None:
    for algorithm in (subject.make(SEEDS[:1]), subject.make()):
        for update in range(UPDATES):
            algorithm.update(subject.batch(algorithm, update))
            expected = f"updates to be {update + 1} after update {update + 1}"
            expect(algorithm.updates == update + 1, expected, algorithm.updates)


@rule("update does not change its batch", "Algorithm.update", can_be_updated)
def batch_is_unchanged(subject: Subject) -> None:
    for algorithm in (subject.make(SEEDS[:1]), subject.make()):
        for update in range(UPDATES):
            batch = subject.batch(algorithm, update)
            algorithm.update(batch)
            expect_equal(vars(subject.batch(algorithm, update)), vars(batch), "an unchanged batch")


@rule("update keeps no tensor of its batch", "Algorithm.update", batch_is_unchanged)
def batch_is_released(subject: Subject) -> None:
    algorithm = subject.make()
    for update in range(UPDATES):
        batch = subject.batch(algorithm, update)
        algorithm.update(batch)
        given = {memory(value): name for name, value in leaves(vars(batch)).items() if value is not None}
        for path, value in attributes(algorithm).items():
            name = given.get(memory(value)) if isinstance(value, Tensor) else None
            expected = f"attribute {path} to be a copy of the batch's {name}"
            expect(name is None, expected, "the tensor itself, whose memory the next batch may use")


@rule("a state holds tensors, numbers and text", "state_dict", can_be_updated)
def state_is_plain(subject: Subject) -> None:
    for path, value in leaves(subject.trained[1].state_dict()).items():
        plain = value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str, bytes)
        expect(plain, f"{path} in state_dict to be a tensor, a number or text", type(value).__name__)


@rule("the axes of a state start with R", "state_dict", state_is_plain)
def states_start_with_replicas(subject: Subject) -> None:
    if subject.is_single:
        return
    algorithm = subject.trained[1]
    for path, value in leaves(algorithm.state_dict()).items():
        if isinstance(value, Tensor) and value.dim():
            expected = f"{path} in state_dict to start with R = {len(SEEDS)}"
            expect(value.shape[0] == len(SEEDS), expected, tuple(value.shape))


@rule("act returns (R, E, action), or (R, E) if actions are discrete", "Algorithm.act", weights_stay_finite)
def actions_have_shape(subject: Subject) -> None:
    for algorithm in subject.untrained + subject.trained:
        expect_actions(subject, algorithm, subject.act(algorithm), STATES)


@rule("actions are within [-1, 1], or from 0 to n - 1 if discrete", "Algorithm.act", actions_have_shape)
def actions_are_in_bounds(subject: Subject) -> None:
    for algorithm in subject.untrained + subject.trained:
        expect_bounds(algorithm, subject.act(algorithm))


@rule("explore returns actions as act does", "Algorithm.explore", actions_are_in_bounds)
def exploration_is_valid(subject: Subject) -> None:
    for algorithm in subject.make_all_sizes() + subject.trained:
        actions = subject.explore(algorithm)
        expect_actions(subject, algorithm, actions, MANY_STATES)
        expect_bounds(algorithm, actions)


def has_valid_action_spaces(found: type[Algorithm]) -> bool:
    both = found.action_spaces, found.image_action_spaces
    return any(both) and all(map(_are_action_spaces, both))


def _are_action_spaces(spaces: Any) -> bool:
    return isinstance(spaces, tuple) and all(space in get_args(ActionSpace) for space in spaces)


def expect_actions(subject: Subject, algorithm: Algorithm, actions: Any, states: int) -> None:
    """Checks the type, the shape and the dtype of the actions of every replica, and that they are finite."""
    spec = algorithm.spec
    shape = (len(algorithm.seeds), states, *(() if spec.discrete else (spec.action_size,)))
    dtype = torch.int64 if spec.discrete else torch.get_default_dtype()
    wanted = "torch.int64, because they are discrete" if spec.discrete else "torch's default dtype"
    expect(isinstance(actions, Tensor), "actions in a tensor", type(actions).__name__)
    expect(actions.shape == shape, f"actions {_describe(subject, shape)}", tuple(actions.shape))
    expect(actions.dtype == dtype, f"actions of {wanted}", actions.dtype)
    expect(bool(actions.isfinite().all()), "finite actions", "some that are not")


def expect_bounds(algorithm: Algorithm, actions: Tensor) -> None:
    """Checks that actions are within the bounds of their space."""
    if algorithm.spec.discrete:
        highest = algorithm.spec.action_size - 1
        for action in (actions.min().item(), actions.max().item()):
            expect(0 <= action <= highest, f"actions from 0 to {highest}", f"one that is {action}")
    else:
        largest = actions.abs().max().item()
        expect(largest <= 1, "actions within [-1, 1]", f"one of size {largest:.4g}")


def _describe(subject: Subject, shape: tuple[int, ...]) -> str:
    """A shape as the author of the algorithm sees it."""
    if issubclass(subject.found, Replicated):
        return f"{shape[1:]} from each of {shape[0]} agents, {shape} together"
    return str(shape)
