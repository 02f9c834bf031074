"""Stands in for CUDA graphs without a GPU: operators are recorded, and called again on the same memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from seqeval.algorithm import Algorithm
from seqeval.check.tracing import Operator, Recorder, leaves
from seqeval.replay.samplers import Sampler
from seqeval.training import trainer
from seqeval.training.metrics import MetricMeans
from seqeval.training.updater import GraphUpdater, Updater


class RecordedGraphs:
    """As `updater.CudaGraphs`, on the CPU.

    It replays the operators below Python and autograd, with the numbers and tensors of the first time: as in
    a CUDA graph, what Python would do differently now has no effect.
    """

    def __init__(self, *_: object) -> None:
        self.captured = self.replayed = 0

    def run(self, work: Callable[[], None]) -> None:
        work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        with Recorder() as recorder:
            work()
        done = True  # recording does the work, so the first replay must not repeat it

        def replay() -> None:
            nonlocal done
            self.replayed += 1
            if not done:
                for operator in recorder.operators:
                    call_again(operator)
            done = False

        return replay


def use_recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> list[RecordedGraphs]:
    """Makes every trainer capture and replay its updates; returns the list that its graphs are added to."""
    made: list[RecordedGraphs] = []

    def make(algorithm: Algorithm, batches: Sampler, metrics: MetricMeans) -> Updater:
        made.append(RecordedGraphs())
        assert algorithm.period is not None
        return GraphUpdater(algorithm, batches, metrics, algorithm.period, made[-1])

    monkeypatch.setattr(trainer, "make_updater", make)
    return made


@torch.no_grad()
def call_again(operator: Operator) -> None:
    """Repeats a call of an operator, and copies its results to where they were."""
    ties = [tie for result in operator.overload._schema.returns if (tie := result.alias_info) is not None]
    if ties and not any(tie.is_write for tie in ties):
        return  # a view sees what has changed
    again = operator.overload(*operator.args, **operator.kwargs)
    if not ties:
        for result, new in zip(leaves(operator.results).values(), leaves(again).values(), strict=True):
            if isinstance(result, torch.Tensor):
                result.copy_(new)
