"""Runners decide where evaluators run: in the training process, or in a second one while training
continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from seqeval.evaluation import Evaluator, Policies, VisibleData, evaluate


class SavablePolicies(Policies, Protocol):
    """Policies whose states can be sent to another process."""

    def states(self) -> list[dict[str, Any]]:
        """What `load_states` of the policies in the other process accepts."""


class Outcome(NamedTuple):
    """What an evaluation found."""

    results: Mapping[str, Sequence[Any]]  # by metric, an entry for each replica
    seconds: float


class EvaluationRunner(Protocol):
    """Runs one evaluation at a time."""

    def submit(self, dataset: str, agents: SavablePolicies, visible: VisibleData) -> None:
        """Starts the evaluation of the replicas of a dataset; the previous outcome has been collected."""

    def collect(self, seconds: float) -> Outcome | None:
        """The outcome, once; None if it is not there within so many seconds. Raises what the evaluation
        raised."""

    def close(self) -> None:
        """Stops a running evaluation and releases what the runner holds."""


class InProcessRunner:
    """Evaluates in the training process, which waits."""

    def __init__(self, create: Callable[[str], list[Evaluator]]) -> None:
        """`create` returns the evaluators for the replicas of a dataset."""
        self._create = create
        self._evaluators: dict[str, list[Evaluator]] = {}
        self._outcome: Outcome | None = None

    def submit(self, dataset: str, agents: SavablePolicies, visible: VisibleData) -> None:
        if dataset not in self._evaluators:
            self._evaluators[dataset] = self._create(dataset)
        self._outcome = timed(self._evaluators[dataset], agents, visible)

    def collect(self, seconds: float) -> Outcome | None:
        outcome, self._outcome = self._outcome, None
        return outcome

    def close(self) -> None:
        for evaluators in self._evaluators.values():
            for evaluator in evaluators:
                evaluator.close()


class SwitchingRunner:
    """Evaluates in the training process until that has taken some seconds in total, then in a second process,
    which needs seconds to start and some hundred megabytes."""

    def __init__(
        self,
        in_process: InProcessRunner,
        start_subprocess: Callable[[], EvaluationRunner],
        switch_after: float,
    ) -> None:
        self._runner: EvaluationRunner = in_process
        self._start_subprocess, self._seconds_left = start_subprocess, switch_after
        self._switched = False

    def submit(self, dataset: str, agents: SavablePolicies, visible: VisibleData) -> None:
        if not self._switched and self._seconds_left <= 0:
            self._runner.close()
            self._runner, self._switched = self._start_subprocess(), True
        self._runner.submit(dataset, agents, visible)

    def collect(self, seconds: float) -> Outcome | None:
        outcome = self._runner.collect(seconds)
        if outcome is not None:
            self._seconds_left -= outcome.seconds
        return outcome

    def close(self) -> None:
        self._runner.close()


def timed(evaluators: Sequence[Evaluator], agents: Policies, visible: VisibleData) -> Outcome:
    """The outcome of an evaluation in this process."""
    start = time.perf_counter()
    results = evaluate(evaluators, agents, visible)
    return Outcome(results, time.perf_counter() - start)
