"""Replayed updates equal those that Python makes: on the CPU, recorded operators stand in for CUDA graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recorded_graphs import RecordedGraphs, use_recorded_graphs
from training_setup import BUILT_IN, EXAMPLES, OTHER_KINDS, SMALL, Training, make_job, small_dataset

from seqeval import plugins
from seqeval.check.subject import SPECS, Subject
from seqeval.check.tracing import Recorder, Trace
from seqeval.config import Evaluation, Online, Protocol
from seqeval.training import updater
from seqeval.training.metrics import MetricMeans
from seqeval.training.updater import WARM_UP, GraphUpdater, Updater

STREAM = Protocol(start=20, grow_by=4)  # on 120 transitions: 26 updates
ONLINE = Online(steps=7, updates_per_step=2, mix=0.5)
FOUR_POINTS = Evaluation(points=4, episodes=1)
VARIANTS = [
    *((name, {}) for name in BUILT_IN),
    ("bc", {"decay_learning_rate": True}),
    ("iql", {"decay_learning_rate": True}),
    ("td3_bc", {"policy_delay": 3}),
]
CASES = pytest.mark.parametrize(
    ("name", "settings"), VARIANTS, ids=[":".join([name, *settings]) for name, settings in VARIANTS]
)
SUMMING = f"{EXAMPLES}:Summing"


def training(name: str, settings: dict[str, Any]) -> Training:
    dataset = small_dataset()
    return Training(make_job(name, [(dataset, [3, 1])], STREAM, ONLINE, FOUR_POINTS, **settings), [dataset])


@CASES
def test_a_run_with_replayed_updates_equals_one_without(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where normalizers are refreshed and online data is added."""
    expected = training(name, settings).train().outcome()
    made, replayed = use_recorded_graphs(monkeypatch), training(name, settings)
    assert replayed.train().outcome() == expected
    algorithm = replayed.checkpoints.trainer.agents.algorithm
    found = plugins.find(name)
    counts = [26] * found.learns_offline + [14] * found.learns_online  # each phase has graphs of its own
    assert algorithm.updates == sum(counts)
    for graphs, updates in zip(made, counts, strict=True):
        assert graphs.captured == min(algorithm.period, max(0, updates - WARM_UP * algorithm.period))
        assert graphs.replayed == max(0, updates - WARM_UP * algorithm.period)


@pytest.mark.parametrize("kind", ["transitions", "n_step", "sequences"])
def test_replayed_batches_of_every_kind_equal_those_of_python(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"kind": kind, "length": 3, "discount": 0.9}
    settings |= {"next_actions": True, "returns_to_go": True, "rows": True}
    expected = training(SUMMING, settings).train().outcome()
    made = use_recorded_graphs(monkeypatch)
    assert training(SUMMING, settings).train().outcome() == expected
    assert [graphs.replayed for graphs in made] == [23, 11]


@CASES
def test_a_run_with_replayed_updates_resumes_exactly(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the warm-up, within a period, after the last capture, and online."""
    expected = training(name, settings).train().outcome()
    use_recorded_graphs(monkeypatch)
    assert training(name, settings).train({2, 11, 22, 33}).outcome() == expected


def test_the_algorithm_counts_replayed_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    use_recorded_graphs(monkeypatch)
    replayed, counts = training("td3_bc", {}), []

    def is_due(updates: int) -> bool:
        counts.append((updates, replayed.checkpoints.trainer.agents.algorithm.updates))
        return False

    replayed.checkpoints.is_due = is_due
    replayed.train()
    assert counts == [(updates, updates) for updates in range(1, 41)]


def test_recorded_graphs_do_not_run_python_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with CUDA graphs, replaying an algorithm that decides in Python gives other numbers."""
    name = f"{EXAMPLES}:CountsInPython"
    expected = training(name, {}).train().outcome()
    use_recorded_graphs(monkeypatch)
    assert training(name, {}).train().outcome() != expected


def test_updates_are_captured_for_algorithms_with_a_period_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updater, "CudaGraphs", RecordedGraphs)
    kinds: dict[tuple[str, str], type] = {}
    sampler: Any = SimpleNamespace(buffer=SimpleNamespace(on_host=False))
    for name in ("td3_bc", "sb3:TD3"):
        for device in ("cpu", "cuda"):
            found = plugins.find(name)
            algorithm = found(SPECS["continuous"][0], found.Config(), [0], 10, torch.device("cpu"))
            algorithm.device = torch.device(device)
            kinds[name, device] = type(updater.make_updater(algorithm, sampler, MetricMeans(1)))
    assert kinds.pop(("td3_bc", "cuda")) is GraphUpdater
    assert set(kinds.values()) == {Updater}


@pytest.fixture
def meta_adam() -> Iterator[None]:
    """torch has no fused Adam with a learning rate in a tensor for tensors without values."""
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_fused_adamw_.tensor_lr", lambda *_, **__: None, "Meta")
        yield


@CASES
def test_updates_repeat_on_other_devices_too_and_use_nothing_on_the_host(
    name: str, settings: dict[str, Any], meta_adam: None
) -> None:
    """Tested on tensors without values, which cannot be read and do not use the CPU's kernels."""
    config = replace(
        plugins.find(name).Config(), batch_size=8, **SMALL.get(name, {"hidden": (16, 16)}), **settings
    )
    assert_updates_repeat(Subject(plugins.find(name), config, "continuous"))


@pytest.mark.parametrize(("name", "kind"), OTHER_KINDS)
def test_updates_with_discrete_actions_and_images_repeat_too(name: str, kind: str, meta_adam: None) -> None:
    config = replace(plugins.find(name).Config(), batch_size=8, hidden=(16, 16))
    space: Any = kind.removesuffix(" images")
    assert_updates_repeat(Subject(plugins.find(name), config, space, images=space != kind))


def assert_updates_repeat(subject: Subject) -> None:
    device = torch.device("meta")
    algorithm = subject.make(device=device)
    traces = []
    for update in range(9):
        batch = subject.batch(algorithm, update)
        with Recorder() as recorder:
            algorithm.update(batch)
        assert {tensor.device for operator in recorder.operators for tensor in operator.tensors()} == {device}
        fields = {key: value for key, value in vars(batch).items() if isinstance(value, torch.Tensor)}
        traces.append(Trace(recorder.operators, fields | batch.noise))
    period = algorithm.period
    assert all(one.difference(other) is None for one, other in zip(traces, traces[period:], strict=False))
    if period > 1:
        assert any(one.difference(other) for one, other in pairwise(traces))


def test_metric_means_are_in_order_of_arrival_and_stay_in_their_memory() -> None:
    means = MetricMeans(2)
    both, first, second = slice(0, 2), slice(0, 1), slice(1, 2)
    for value in (1.0, 2.0):
        means.add({"b": torch.tensor([value, -0.0]), "a": torch.tensor([3.0, math.nan])})
    memory = means._sums["b"].data_ptr()
    one, other = means.means(both)
    assert list(one.items()) == [("b", 1.5), ("a", 3.0)]
    assert math.copysign(1, other["b"]) == -1
    assert math.isnan(other["a"])
    means.clear(second)
    assert means.means(both) == [one, {}]
    assert means.means(second) == [{}]
    means.clear(first)
    means.add({"a": torch.tensor([0.1, 0.2])})
    assert [means.state_of(replica) for replica in (0, 1)] == [
        {"a": (pytest.approx(0.1), 1)},
        {"a": (pytest.approx(0.2), 1)},
    ]
    means.add({"b": torch.tensor([7.0, -0.0])})
    assert means._sums["b"].data_ptr() == memory
    (last,) = means.means(second)
    assert last == {"b": 0.0, "a": pytest.approx(0.2)}
    assert math.copysign(1, last["b"]) == -1


def test_metric_means_resume_from_the_states_of_replicas_in_any_order() -> None:
    means, resumed = MetricMeans(2), MetricMeans(2)
    means.add({"a": torch.tensor([1.0, 2.0])})
    means.clear(slice(0, 1))
    means.add({"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([5.0, 6.0])})
    resumed.load_states([means.state_of(1), means.state_of(0)], torch.device("cpu"))
    assert resumed.means(slice(0, 2)) == [{"a": 3.0, "b": 6.0}, {"a": 3.0, "b": 5.0}]
    for each, order in ((means, [7.0, 8.0]), (resumed, [8.0, 7.0])):
        each.add({"a": torch.tensor(order)})
    assert resumed.means(slice(0, 2)) == means.means(slice(0, 2))[::-1]


def test_counted_metrics_are_those_of_replayed_updates() -> None:
    means = MetricMeans(1)
    means.add({"a": torch.tensor([1.0])})
    means._sums["a"] += 5  # as a replayed graph does
    means.count(["a"])
    assert means.means(slice(0, 1)) == [{"a": 3.0}]
