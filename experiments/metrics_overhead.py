"""What metrics cost: the share of training time that evaluators take which need no environment.

    python experiments/metrics_overhead.py --algorithms iql cql td3_bc bc awac

Trains each algorithm with one seed while the last transitions of a dataset arrive, without episodes, and
prints the seconds of training and of evaluation, and their ratio. Points lie close together here, as in a
study on 20 000 transitions; on larger datasets metrics cost less.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import tyro

from seqeval import Evaluation, Execution, Protocol, Study, UserError, datasets, run

METRICS = ("prequential", "initial-value")  # those of a study by default, besides episodes


def main(
    dataset: str = "hopper-replay",
    algorithms: tuple[str, ...] = ("iql", "cql", "td3_bc", "bc", "awac"),
    metrics: tuple[str, ...] = METRICS,
    updates: int = 750,
    points: int = 1,
) -> None:
    """Print the cost of metrics.

    Args:
        dataset: A dataset of `seqeval run`.
        algorithms: Algorithms, optionally with settings.
        metrics: Evaluators, optionally with settings.
        updates: Updates between two points, in which as many transitions arrive.
        points: Intervals between evaluations.
    """
    transitions = len(datasets.load(dataset))
    print("| algorithm | updates | training, s | evaluation, s | share |\n|---|--:|--:|--:|--:|")
    for algorithm in algorithms:
        study = Study(
            (dataset,),
            (algorithm,),
            seeds=(0,),
            protocol=Protocol(start=transitions - points * updates),
            evaluation=Evaluation(points=points, metrics=metrics),
        )
        with tempfile.TemporaryDirectory() as folder:
            rows = run(study, Path(folder) / "study", Execution(jobs=1), None)
        training, evaluation = rows["train_seconds"].sum(), rows["eval_seconds"].sum()
        updates, share = rows["updates"].max(), evaluation / training
        print(
            f"| {algorithm} | {updates} | {training:.1f} | {evaluation:.2f} | {100 * share:.2f} % |",
            flush=True,
        )


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UserError as error:
        sys.exit(f"metrics_overhead: {error}")
