"""From the outcome of an evaluation to the rows of a curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqeval.evaluation import EPISODES, joined
from seqeval.evaluation.runners import Outcome
from seqeval.training.job import Point, Replica
from seqeval.types import Reference, Row


@dataclass(frozen=True)
class PendingRows:
    """The rows of an evaluation that has been submitted, without its results."""

    study: str
    regime: str
    replicas: Sequence[Replica]  # of one dataset
    points: Sequence[Point]
    updates: int
    metrics: Sequence[Mapping[str, float]]
    train_seconds: float  # of each replica
    from_data: Outcome  # of the evaluators that use the data

    def rows(self, outcome: Outcome, reference: Reference | None) -> list[Row]:
        """A row for each replica; `outcome` is that of the evaluators that need no data."""
        results = joined(outcome.results, self.from_data.results)
        seconds = outcome.seconds + self.from_data.seconds
        return [
            Row(
                study=self.study,
                dataset=replica.dataset,
                algorithm=replica.variant.algorithm,
                variant=replica.variant.name,
                seed=replica.seed,
                **point._asdict(),
                regime=self.regime,
                updates=self.updates,
                train_seconds=self.train_seconds,
                eval_seconds=seconds / len(self.replicas),
                **_results(results, place, self.metrics[place], reference),
            )
            for place, (replica, point) in enumerate(zip(self.replicas, self.points, strict=True))
        ]


def _results(
    results: Mapping[str, Sequence[Any]],
    place: int,
    metrics: Mapping[str, float],
    reference: Reference | None,
) -> dict[str, Any]:
    """A row's results. A replica whose losses, actions or returns are not finite has failed."""
    found = {name: values[place] for name, values in results.items()}
    returns, lengths, successes = (found.pop(name, None) for name in EPISODES)
    mean = float(np.mean(returns)) if returns else None
    evaluations = {name: float(value) for name, value in found.items() if value is not None}
    row = {"metrics": dict(metrics), "evaluations": evaluations}
    if not all(map(math.isfinite, metrics.values())) or (mean is not None and not math.isfinite(mean)):
        nothing: dict[str, Any] = {"episode_returns": [], "episode_lengths": [], "episode_successes": None}
        return row | nothing | {"status": "failed", "return_mean": None, "score": None}
    return row | {
        "status": "ok",
        "episode_returns": returns or [],
        "episode_lengths": lengths or [],
        "episode_successes": successes,
        "return_mean": mean,
        "score": None if reference is None or mean is None else reference.score(mean),
    }
