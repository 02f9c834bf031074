"""What stands for a CUDA graph where there is no GPU: operators, called again on the memory of before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from seqeval.algorithm import Algorithm
from seqeval.check.tracing import Operator, Recorder, leaves
from seqeval.training import lockstep
from seqeval.training.updater import ReplayingUpdater, Share, Updater


class RecordedGraphs:
    """As `updater.CudaGraphs`, on the CPU.

    What is replayed are the operators below Python and autograd, with the numbers and the tensors of the
    first time: what Python would do otherwise now is not seen, as in a CUDA graph.
    """

    def __init__(self, *_: object) -> None:
        self.captured = self.replayed = 0

    def run(self, work: Callable[[], None]) -> None:
        work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        with Recorder() as recorder:
            work()
        done = True  # here the work cannot be gone through without doing it: the first replay is that

        def replay() -> None:
            nonlocal done
            self.replayed += 1
            if not done:
                for operator in recorder.operators:
                    call_again(operator)
            done = False

        return replay


def replay(monkeypatch: pytest.MonkeyPatch) -> list[RecordedGraphs]:
    """From here on every run replays, by way of the graphs that are added to the list."""
    made: list[RecordedGraphs] = []

    def make(algorithm: Algorithm, shares: Sequence[Share]) -> Updater:
        made.append(RecordedGraphs())
        assert algorithm.period is not None
        return ReplayingUpdater(algorithm, shares, algorithm.period, made[-1])

    monkeypatch.setattr(lockstep, "make_updater", make)
    return made


@torch.no_grad()
def call_again(operator: Operator) -> None:
    """Does what the operator did, and puts what comes of it where it was."""
    ties = [tie for result in operator.overload._schema.returns if (tie := result.alias_info) is not None]
    if ties and not any(tie.is_write for tie in ties):
        return  # views are there
    again = operator.overload(*operator.args, **operator.kwargs)
    if not ties:
        for mine, new in zip(leaves(operator.results).values(), leaves(again).values(), strict=True):
            if isinstance(mine, torch.Tensor):
                mine.copy_(new)
