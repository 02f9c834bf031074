"""Variants that differ in batchable settings are trained in one job, each with the numbers, to the last bit,
that it has on its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from training_setup import BUILT_IN, STREAM, Training, make_job, small_dataset

from seqeval import plugins
from seqeval.algorithm import merge_configs, per_replica, structure
from seqeval.config import Online, Protocol
from seqeval.training.job import Job

SEEDS = [0, 3]
ONLINE = Online(steps=4, updates_per_step=2)
BATCHABLE = [(name, setting) for name in BUILT_IN for setting in plugins.find(name).Config.batchable]

# Where a setting would not show in so few updates.
SHOWS_WITH = {"dt:weight_decay": {"learning_rate": 0.1, "learning_rate_warmup": 1}}


def job_of(name: str, values: list[dict[str, Any]], **options: Any) -> Job:
    """One job of a variant for each of the settings."""
    parts = [make_job(name, [(small_dataset(), SEEDS)], **options, **value) for value in values]
    replicas = [
        replace(replica, variant=replace(replica.variant, name=f"variant-{number}"))
        for number, part in enumerate(parts)
        for replica in part.replicas
    ]
    return parts[0].with_replicas(replicas)


def outcomes(job: Job) -> dict[Any, Any]:
    training = Training(job, [small_dataset()]).train()
    return {run: training.outcome(run) for run in job.runs}


def assert_same_as_solo(job: Job) -> None:
    together = outcomes(job)
    weights = {tuple(weights) for _, weights in together.values()}
    assert len(weights) == len(job.runs)  # every setting matters
    for run in job.runs:
        solo = outcomes(job.with_replicas([replica for replica in job.replicas if replica.run == run]))
        assert together[run] == solo[run]


def three_values(name: str, setting: str) -> list[float]:
    """Values of a setting that give different numbers."""
    default = getattr(plugins.find(name).Config(), setting)
    if setting == "max_weight" or default is None:  # a bound of 100 is not reached
        default = 1.0
    return [default, 0.5 * default + 0.01, 0.8 * default + 0.03]


@pytest.mark.parametrize(("name", "setting"), BATCHABLE, ids=map(":".join, BATCHABLE))
def test_a_batchable_setting_gives_the_numbers_of_solo_runs(name: str, setting: str) -> None:
    online = ONLINE if plugins.find(name).learns_online else Online()
    others = SHOWS_WITH.get(f"{name}:{setting}", {})
    values = [{**others, setting: value} for value in three_values(name, setting)]
    assert_same_as_solo(job_of(name, values, online=online))


def test_several_settings_at_once_and_several_sizes() -> None:
    values = [{"expectile": 0.6, "temperature": 1.0}, {"expectile": 0.8, "learning_rate": 1e-3}]
    protocol = Protocol(regime="retrain", start=40, sizes=2, updates_per_size=5)
    assert_same_as_solo(job_of("iql", values, protocol=protocol))


def test_rates_that_decay_differ_between_replicas() -> None:
    values = [{"learning_rate": rate, "decay_learning_rate": True} for rate in (1e-3, 3e-4)]
    assert_same_as_solo(job_of("iql", values, protocol=STREAM))


def test_a_sweep_resumes_exactly() -> None:
    job = job_of("td3_bc", [{"alpha": alpha} for alpha in (1.0, 2.5)], online=ONLINE)
    interrupted = Training(job, [small_dataset()]).train(kills=[20, 41, 64])
    assert len(interrupted.jobs) > 3
    assert {run: interrupted.outcome(run) for run in job.runs} == outcomes(job)


def test_only_settings_that_differ_become_tensors() -> None:
    config = plugins.find("iql").Config()
    merged: Any = merge_configs([config, replace(config, expectile=0.9)], torch.device("cpu"))
    assert merged.expectile.tolist() == [0.7, 0.9]
    assert merged.temperature == 3.0
    assert config.expectile == 0.7
    assert merge_configs([config, config], torch.device("cpu")) == config


def test_structural_settings_keep_variants_apart() -> None:
    config = plugins.find("iql").Config()
    assert structure(config) == structure(replace(config, expectile=0.9))
    assert structure(config) != structure(replace(config, batch_size=8))


def test_a_setting_of_each_replica_is_shaped_to_broadcast() -> None:
    values = torch.tensor([0.25, 0.5], dtype=torch.float64)
    shaped = per_replica(values, torch.zeros(2, 3, 4))
    assert isinstance(shaped, torch.Tensor)
    assert shaped.shape == (2, 1, 1)
    assert shaped.dtype == torch.float32
    assert per_replica(0.25, torch.zeros(2, 3)) == 0.25
