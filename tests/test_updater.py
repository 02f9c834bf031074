"""Updates replayed are those that Python makes: on the CPU, recorded operators stand for a CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, final

import pytest
import torch
from conftest import make_dataset
from recorded import RecordedGraphs, replay
from test_algos import NAMES
from test_protocol import LABELS, timeless
from test_resume import SHORT, learnt, through_a_file

from seqeval import environments, plugins
from seqeval.algorithm import Algorithm, Config
from seqeval.check.subject import SPECS, Subject
from seqeval.check.tracing import Recorder, Trace
from seqeval.config import Evaluation, Online, Protocol
from seqeval.training import trainer, updater
from seqeval.training.agents import Agents
from seqeval.training.trainer import Moment
from seqeval.training.updater import WARM_UP, Meter, ReplayingUpdater, Updater
from seqeval.types import Row

STREAM = Protocol(start=20, grow_by=4)  # on 120 transitions: 26 updates
ONLINE = Online(steps=7, updates_per_step=2, mix=0.5)
POINTS = Evaluation(points=4, episodes=1)
VARIANTS = [
    *((name, {}) for name in NAMES),
    ("bc", {"decay_learning_rate": True}),
    ("iql", {"decay_learning_rate": True}),
    ("td3_bc", {"policy_delay": 3}),
]
CASES = pytest.mark.parametrize(
    ("name", "changes"), VARIANTS, ids=[":".join([name, *changes]) for name, changes in VARIANTS]
)


def start(found: type[Algorithm], changes: dict[str, Any]) -> Agents:
    data = make_dataset(env_id=SHORT)
    config = replace(found.Config(), batch_size=8, **changes)
    updates = trainer.updates(STREAM, ONLINE, len(data), found)
    return trainer.make_agents(found, config, environments.of(data), [3, 1], updates, torch.device("cpu"))


def small(name: str, changes: dict[str, Any]) -> Agents:
    return start(plugins.find(name), {"hidden": (16, 16)} | changes)


def events(agents: Agents, states: Any = None) -> Iterator[Row | Moment]:
    data = make_dataset(env_id=SHORT)
    return trainer.events(agents, data, STREAM, POINTS, LABELS, ONLINE, states)


def run(agents: Agents) -> tuple[list[dict], list[bytes]]:
    """The rows, and all that is learnt."""
    return [timeless(event) for event in events(agents) if isinstance(event, Row)], learnt(agents)


@CASES
def test_a_run_that_replays_is_the_run_that_python_makes(
    name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normalisers that change on the way and data that is added online included."""
    expected = run(small(name, changes))
    made, agents = replay(monkeypatch), small(name, changes)
    assert run(agents) == expected
    (graphs,), period, updates = made, agents.algorithm.period, agents.algorithm.updates
    assert updates == (26 if name == "bc" else 26 + 14)
    assert graphs.captured == period
    assert graphs.replayed == updates - WARM_UP * period


@CASES
def test_stopped_it_goes_on_as_if_it_had_never_stopped(
    name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the warm-up, in the midst of a period, after the last capture, and online."""
    expected = run(small(name, changes))
    replay(monkeypatch)
    rows: list[dict] = []
    states: Any = None
    for stop in (2, 11, 22, *(() if name == "bc" else (33,)), None):
        agents = small(name, changes)
        for event in events(agents, states):
            if isinstance(event, Row):
                rows.append(timeless(event))
            elif agents.algorithm.updates == stop:
                states = through_a_file(event.states())
                break
    assert (rows, learnt(agents)) == expected


def test_the_agents_count_their_updates_while_they_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch)
    agents = small("td3_bc", {})
    counts = [agents.algorithm.updates for event in events(agents) if isinstance(event, Moment)]
    assert counts == list(range(1, 41))


@final
class Hasty(Algorithm):
    """Says that it can be replayed, and has Python decide what an update does."""

    Config = Config
    period = 1

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.net = torch.nn.ParameterDict({"sum": torch.zeros(len(self.seeds))}).requires_grad_(False)

    def update(self, batch: Any) -> dict[str, torch.Tensor]:
        self.updates += 1
        self.net["sum"] += self.updates * batch.rewards.mean(-1)
        return {"sum": self.net["sum"].clone()}

    def act(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*observations.shape[:-1], 1)


def test_what_stands_for_a_graph_sees_as_little_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(start(Hasty, {}))
    replay(monkeypatch)
    assert run(start(Hasty, {})) != expected


def test_a_gpu_is_for_what_declares_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updater, "CudaGraphs", RecordedGraphs)
    kinds = {}
    for name in ("td3_bc", "sb3:TD3"):
        for device in ("cpu", "cuda"):
            found = plugins.find(name)
            algorithm = found(SPECS["continuous"][0], found.Config(), [0], 10, torch.device("cpu"))
            algorithm.device = torch.device(device)
            kinds[name, device] = type(updater.make_updater(algorithm, []))
    assert kinds.pop(("td3_bc", "cuda")) is ReplayingUpdater
    assert set(kinds.values()) == {Updater}


@pytest.fixture
def meta_adam() -> Iterator[None]:
    """torch has no fused Adam with a learning rate in a tensor where tensors have no values."""
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_fused_adamw_.tensor_lr", lambda *_, **__: None, "Meta")
        yield


@CASES
def test_off_the_cpu_updates_repeat_too_and_nothing_of_them_is_on_the_host(
    name: str, changes: dict[str, Any], meta_adam: None
) -> None:
    """On tensors that have no values, and so cannot be read: as on any device but the CPU, where kernels of
    their own are used."""
    device = torch.device("meta")
    config = replace(plugins.find(name).Config(), batch_size=8, hidden=(16, 16), **changes)
    subject = Subject(plugins.find(name), config, "continuous")
    algorithm = subject.make(device=device)
    traces = []
    for update in range(9):
        batch = subject.batch(algorithm, update)
        with Recorder() as recorder:
            algorithm.update(batch)
        assert {tensor.device for operator in recorder.operators for tensor in operator.tensors()} == {device}
        tensors = {key: value for key, value in vars(batch).items() if key != "noise"} | batch.noise
        traces.append(Trace(recorder.operators, tensors))
    period = algorithm.period
    assert all(one.difference(other) is None for one, other in zip(traces, traces[period:], strict=False))
    if period > 1:
        assert any(one.difference(other) for one, other in pairwise(traces))


def test_a_meter_takes_means_in_order_of_arrival_and_keeps_its_place() -> None:
    meter = Meter()
    for value in (1.0, 2.0):
        meter.add({"b": torch.tensor([value, -0.0]), "a": torch.tensor([3.0, math.nan])})
    place = meter._sums["b"].data_ptr()
    first, second = meter.means(2)
    meter.clear()
    assert list(first.items()) == [("b", 1.5), ("a", 3.0)]
    assert math.copysign(1, second["b"]) == -1
    assert math.isnan(second["a"])
    assert meter.means(2) == [{}, {}]
    meter.add({"a": torch.tensor([0.1, 0.2])})
    assert [meter.state_of(replica) for replica in (0, 1)] == [
        {"a": (pytest.approx(0.1), 1)},
        {"a": (pytest.approx(0.2), 1)},
    ]
    meter.add({"b": torch.tensor([7.0, -0.0])})
    assert meter._sums["b"].data_ptr() == place
    last = meter.means(2)[1]
    assert list(last.items()) == [("a", pytest.approx(0.2)), ("b", 0.0)]
    assert math.copysign(1, last["b"]) == -1
