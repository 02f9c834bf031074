"""Rules on CUDA graphs and on the device of results. A GPU is used if there is one, but none is needed."""

from __future__ import annotations

from typing import Any

import torch

from seqeval.algorithm import Algorithm
from seqeval.check.interface import exploration_is_valid, metrics_are_valid, updates_are_counted
from seqeval.check.rules import ContractError, expect, expect_equal, rule
from seqeval.check.subject import CPU, UPDATES, Subject
from seqeval.check.tracing import Recorder, Trace, leaves
from seqeval.training.updater import WARM_UP


@rule("with a period, updates can be replayed on a GPU", "Algorithm.period", updates_are_counted)
def updates_can_be_replayed(subject: Subject) -> None:
    for device in _devices():
        algorithm = subject.make(device=device)
        period = algorithm.period
        if period is None:
            return
        valid = isinstance(period, int) and period >= 1
        expect(valid, "period to be None or an integer of at least 1", repr(period))
        first = WARM_UP * period
        subject.train(algorithm, 0, first)
        numbers = _host_values(algorithm)
        names: list[list[str]] = []
        traces: list[Trace] = []
        for update in range(first, first + period + UPDATES):
            batch = subject.batch(algorithm, update)
            with Recorder(subject.file) as recorder:
                names.append(list(algorithm.update(batch)))
            for operator in recorder.operators:
                if reason := operator.blocks_host():
                    got = f"{operator.overload}, which {reason}{subject.location(operator.line)}"
                    raise ContractError("an update that does not block the host", got)
            inputs = {name: value for name, value in leaves(vars(batch)).items() if value is not None}
            traces.append(Trace(recorder.operators, inputs))
            if len(traces) > period:
                expected = f"update {update + 1} to repeat update {update + 1 - period}"
                if found := traces.pop(0).difference(traces[-1]):
                    text, line = found
                    raise ContractError(expected, f"one that {text}{subject.location(line)}")
                earlier = names[-1 - period]
                expect(names[-1] == earlier, f"{expected} with its metrics {earlier}", names[-1])
        expect_equal(numbers, _host_values(algorithm), "no number on the host to change, except updates")


@rule("results are on the given device", "Algorithm.__init__", exploration_is_valid, metrics_are_valid)
def results_are_on_the_device(subject: Subject) -> None:
    for device in _devices():
        algorithm = subject.make(device=device)
        (metrics,) = subject.train(algorithm, 0, 1)
        actions = {"actions": subject.act(algorithm), "exploration": subject.explore(algorithm)}
        for name, value in (metrics | actions).items():
            expect(value.device.type == device.type, f"{name} on {device}", value.device)


def _devices() -> list[torch.device]:
    """The devices of this machine on which algorithms are checked."""
    return [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def _host_values(algorithm: Algorithm) -> dict[str, Any]:
    """The values of a state that are not tensors, except `updates`."""
    state = leaves(algorithm.state_dict())
    return {name: value for name, value in state.items() if name != "updates" and not torch.is_tensor(value)}
