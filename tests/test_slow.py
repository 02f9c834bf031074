"""Long tests, run by `make test-slow`: the algorithms at full size, and that they learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_algos import NAMES, SPEC, SPECS, batches, flat

from seqeval import Evaluation, Execution, Protocol, Study, plugins, run
from seqeval.algorithm import Algorithm, select_replica
from seqeval.training import matmul
from seqeval.types import Precision

pytestmark = pytest.mark.slow


def full_size(text: str, seeds: list[int]) -> Algorithm:
    name, _, kind = text.partition(" ")
    found = plugins.find(name)
    return found(SPECS.get(kind, SPEC), found.Config(), seeds, 100, torch.device("cpu"))


def trained(name: str, seeds: list[int]) -> dict:
    algorithm = full_size(name, seeds)
    for batch in batches(algorithm, 6):
        algorithm.update(batch)
    return algorithm.state_dict()


@pytest.mark.parametrize("replicas", [2, 7])
@pytest.mark.parametrize("name", NAMES)
def test_at_full_size_a_batched_replica_equals_a_solo_one_to_the_last_bit(name: str, replicas: int) -> None:
    together = trained(name, list(range(replicas)))
    for seed in range(replicas):
        assert all(map(torch.equal, flat(select_replica(together, seed)), flat(trained(name, [seed]))))


def demo(name: str) -> Study:
    return Study(
        datasets=("pendulum-replay",),
        algorithms=(name,),
        seeds=(0, 1, 2),
        protocol=Protocol(start=1000, grow_by=4),
        evaluation=Evaluation(points=10),
    )


@pytest.mark.parametrize(("name", "least"), [("bc", 20.0), ("td3_bc", 40.0)])
def test_the_demo_learns(name: str, least: float, tmp_path: Path) -> None:
    scores = run(demo(name), tmp_path / "study", Execution(jobs=1)).groupby("samples")["score"].mean()
    assert scores.iloc[0] < 15  # one update on a thousand transitions
    assert scores.iloc[-3:].mean() > least


@pytest.mark.skipif(not matmul.has_bfloat16(), reason="this processor has no products of bfloat16")
@pytest.mark.parametrize("name", ["bc", "td3_bc"])
def test_fast_precision_stays_within_the_spread_of_the_seeds(name: str, tmp_path: Path) -> None:
    def scores_by_seed(precision: Precision) -> pd.Series:
        study = replace(demo(name), precision=precision, device="cpu")
        return run(study, tmp_path / precision, Execution(jobs=1)).groupby("seed")["score"].mean()

    full, fast = scores_by_seed("full"), scores_by_seed("fast")
    assert full.min() <= fast.mean() <= full.max()
    assert (fast != full).all()


def test_bc_clones_a_good_policy_from_real_data(shared: Path, tmp_path: Path) -> None:
    study = Study(
        datasets=(str(shared / "data" / "halfcheetah_medium-zoo.hdf5"),),
        algorithms=("bc",),
        seeds=(0,),
        protocol=Protocol(regime="full", updates_per_size=20_000),
    )
    (score,) = run(study, tmp_path / "study", Execution(jobs=1))["score"]
    assert 35 < score < 52  # the data's mean is 45.5, its best episode 49.2
