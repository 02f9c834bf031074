"""The evaluators of a job that use the data. They run in the training process, between two updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqeval.evaluation import Evaluator, Policies, VisibleData
from seqeval.evaluation.runners import Outcome, timed
from seqeval.training.job import Job, Replica
from seqeval.types import Dataset


class DataEvaluation:
    """For each dataset of a job, the evaluators that use the data, for all replicas of that dataset."""

    def __init__(self, job: Job, datasets: Mapping[str, Dataset]) -> None:
        self._evaluators: dict[str, list[Evaluator]] = {
            name: job.create_evaluators(name, datasets[name].env_id, uses_data=True) for name in job.datasets
        }
        self._places: dict[Replica, int] = {}  # of each replica among those of its dataset
        for name in job.datasets:
            replicas = [replica for replica in job.replicas if replica.dataset == name]
            self._places |= {replica: place for place, replica in enumerate(replicas)}

    def evaluate(self, dataset: str, agents: Policies, visible: VisibleData) -> Outcome:
        """The results for all replicas of a dataset."""
        return timed(self._evaluators[dataset], agents, visible)

    def state_of(self, replica: Replica) -> list[dict[str, Any]]:
        """The state of each evaluator for a replica."""
        return [e.state_of(self._places[replica]) for e in self._evaluators[replica.dataset]]

    def load_states(self, states: Mapping[Replica, Sequence[Mapping[str, Any]]]) -> None:
        """Loads what `state_of` returned for all replicas of some datasets."""
        for name in {replica.dataset for replica in states}:
            replicas = sorted((r for r in states if r.dataset == name), key=self._places.__getitem__)
            for number, evaluator in enumerate(self._evaluators[name]):
                evaluator.load_states([states[replica][number] for replica in replicas])

    def close(self) -> None:
        for evaluators in self._evaluators.values():
            for evaluator in evaluators:
                evaluator.close()
