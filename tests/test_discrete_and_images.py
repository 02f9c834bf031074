"""The training loop with discrete actions and with images: replicas are independent, runs resume exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from training_setup import ONE_POINT, OTHER_KINDS, STREAM, Training, dataset_of, make_job, train

from seqeval import plugins
from seqeval.config import Online

ONLINE = Online(steps=12)
BATCHABLE = [
    (name, kind, setting)
    for name, kind in OTHER_KINDS
    if kind == "discrete" or name == "drq_bc"
    for setting in plugins.find(name).Config.batchable
]


def online_of(name: str, kind: str) -> Online:
    """Images of continuous actions have no environment here."""
    return ONLINE if plugins.find(name).learns_online and kind != "continuous images" else Online()


@pytest.mark.parametrize(("name", "kind"), OTHER_KINDS)
def test_rows_and_weights_of_a_seed_do_not_depend_on_the_other_seeds(name: str, kind: str) -> None:
    dataset, online = dataset_of(kind), online_of(name, kind)
    together = train(name, [4, 0, 11], dataset, online=online)
    assert {row.status for row in together.rows} == {"ok"}
    for run in together.job.runs:
        assert together.outcome(run) == train(name, [run.seed], dataset, online=online).outcome()


@pytest.mark.parametrize(("name", "kind"), OTHER_KINDS)
def test_a_run_resumes_exactly(name: str, kind: str) -> None:
    dataset = dataset_of(kind)

    def training() -> Training:
        return Training(make_job(name, [(dataset, [3, 1])], online=online_of(name, kind)), [dataset])

    whole, resumed = training().train(), training().train({2, 9, 33, 62, 66})
    assert len(resumed.jobs) >= 3
    assert resumed.outcome() == whole.outcome()


@pytest.mark.parametrize(("name", "kind", "setting"), BATCHABLE)
def test_a_batchable_setting_gives_the_numbers_of_solo_runs(name: str, kind: str, setting: str) -> None:
    dataset = dataset_of(kind)
    default = getattr(plugins.find(name).Config(), setting)
    default = {"max_weight": 1.0}.get(setting, 1.0 if default is None else default)
    values = [default, 0.5 * default + 0.01, 0.8 * default + 0.03]
    parts = [make_job(name, [(dataset, [0])], STREAM, evaluation=ONE_POINT, **{setting: v}) for v in values]
    replicas = [
        replace(replica, variant=replace(replica.variant, name=f"variant-{number}"))
        for number, part in enumerate(parts)
        for replica in part.replicas
    ]
    together = Training(parts[0].with_replicas(replicas), [dataset]).train()
    for replica, part in zip(replicas, parts, strict=True):
        alone = Training(part.with_replicas([replica]), [dataset]).train()
        assert together.outcome(replica.run) == alone.outcome()
