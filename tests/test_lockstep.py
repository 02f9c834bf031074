"""Agents on several datasets who make their updates together do what they do alone, to the last bit."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import pytest
import torch
from conftest import make_dataset
from recorded import replay
from seqeval.training.lockstep import Due, in_lockstep
from test_algos import flat
from test_protocol import LABELS, timeless
from test_resume import SHORT, learnt, through_a_file

from seqeval import environments, plugins
from seqeval.algorithm import Algorithm, Config, SingleAlgorithm
from seqeval.check.subject import SPECS, Subject
from seqeval.config import Evaluation, Online, Protocol
from seqeval.replicated import replicate
from seqeval.training import lockstep, trainer
from seqeval.training.agents import Agents
from seqeval.training.trainer import Moment
from seqeval.training.updater import Updater
from seqeval.types import Continuous, Dataset, Environment, Reference, Row

STREAM = Protocol(start=20, grow_by=4)
POINTS = Evaluation(points=3, episodes=1)
OFFLINE, ONLINE = Online(), Online(steps=5, updates_per_step=2)
OWN = [name for name in plugins.names() if ":" not in name]


@final
class Noisy(SingleAlgorithm):
    """Draws from torch's own generator wherever it may, and has its learning rate fall until its end."""

    Config = Config

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.net = torch.nn.Linear(self.spec.observation_size, self.spec.action_size)

    def update(self, batch: Any) -> dict[str, torch.Tensor]:
        self.updates += 1
        rate = 0.1 * (1 - self.updates / self.total_updates)
        loss = (self.net(batch.observations) - batch.actions + torch.randn(())).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter -= rate * parameter.grad
                parameter.grad = None
        return {"loss": loss.detach()}

    def act(self, observations: torch.Tensor) -> torch.Tensor:
        return self.net(observations).tanh()

    def explore(self, observations: torch.Tensor) -> torch.Tensor:
        return (self.act(observations) + torch.randn(())).clamp(-1, 1)


def dataset(name: str, episodes: int, seed: int) -> Dataset:
    """Its rewards are scaled by a span of returns of its own, and its actions have bounds of their own."""
    data = make_dataset(episodes, seed=seed, env_id=SHORT)
    bounds = Continuous(*(torch.tensor([b], dtype=torch.float32).numpy() for b in (-2 - seed, 2)))
    logged_in = Environment("hopper", 3, bounds, None)
    reference = Reference(0.0, 100.0 + seed, "made up")
    return replace(data, name=name, logged_in=logged_in, reference=reference)


SIZES = [dataset("middle", 9, 1), dataset("small", 6, 2), dataset("large", 12, 3)]
EQUAL = [dataset("one", 9, 1), dataset("two", 9, 2)]


@dataclass
class Member:
    """Agents on a dataset, with what is stored of them."""

    name: str
    data: Dataset
    seeds: Sequence[int]
    how: Protocol = STREAM
    online: Online = OFFLINE
    changes: Any = None

    def __post_init__(self) -> None:
        self.rows: list[Row] = []
        self.saved: tuple[Any, int] = None, 0
        self.stop: int | None = None
        self.begin()

    def begin(self) -> None:
        """As after a crash: it goes on from what was saved."""
        found = replicate(Noisy) if self.name == "noisy" else plugins.find(self.name)
        widths = {"noisy": {}, "sb3:TD3": {"net_arch": (16, 16)}}.get(self.name, {"hidden": (16, 16)})
        config = replace(found.Config(), batch_size=8, **widths, **(self.changes or {}))
        seeds = [seed for seed, _ in trainer.replicas(self.how, self.seeds, len(self.data))]
        total = trainer.updates(self.how, self.online, len(self.data), found)
        world = environments.of(self.data)
        self.agents: Agents = trainer.make_agents(found, config, world, seeds, total, torch.device("cpu"))
        del self.rows[self.saved[1] :]

    def course(self) -> Generator[Row | Due, None, None]:
        """Stores its rows; ends at `stop` updates, saved there."""
        what = self.agents, self.data, self.how, POINTS, LABELS, self.online, self.saved[0]
        for event in trainer.course_of(*what):
            if isinstance(event, Row):
                self.rows.append(event)
                yield event
            elif isinstance(event, Due):
                yield event
            elif isinstance(event, Moment) and self.agents.algorithm.updates == self.stop:
                self.saved = through_a_file(event.states()), len(self.rows)
                return

    def outcome(self) -> tuple[list[dict], list[bytes]]:
        return [timeless(row) for row in self.rows], learnt(self.agents)


def run(members: Sequence[Member]) -> None:
    for _ in in_lockstep([member.course() for member in members]):
        pass


def alone(members: Sequence[Member]) -> list[Any]:
    """What comes of them one by one."""
    others = [replace(member) for member in members]
    for member in others:
        run([member])
    return [member.outcome() for member in others]


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The seeds of each algorithm that is made of several."""
    found: list[tuple[int, ...]] = []
    join = lockstep._joined

    def watched(algorithms: Sequence[Algorithm]) -> Algorithm:
        algorithm = join(algorithms)
        found.append(algorithm.seeds)
        return algorithm

    monkeypatch.setattr(lockstep, "_joined", watched)
    return found


CASES: list[tuple[str, dict[str, Any], list[Dataset]]] = [
    *((name, {}, SIZES) for name in OWN),
    ("td3_bc", {"policy_delay": 3, "scale_rewards": True}, SIZES),
    ("iql", {"decay_learning_rate": True}, EQUAL),
    ("bc", {"decay_learning_rate": True}, EQUAL),
    ("noisy", {"normalize_observations": True}, EQUAL),
    ("sb3:TD3", {}, EQUAL),
]


@pytest.mark.parametrize(
    ("name", "changes", "datasets"), CASES, ids=[":".join([name, *changes]) for name, changes, _ in CASES]
)
def test_together_each_does_what_it_does_alone(
    name: str, changes: dict[str, Any], datasets: list[Dataset], joined: list
) -> None:
    """Rows and normalisers are due at other updates where sizes differ; there are other seeds on each."""
    seeds = [[3, 1], [1], [0, 3]]
    members = [
        Member(name, data, mine, online=ONLINE, changes=changes)
        for data, mine in zip(datasets, seeds, strict=False)
    ]
    expected = alone(members)
    assert joined == []
    run(members)
    assert [member.outcome() for member in members] == expected
    assert joined == ([(3, 1, 1, 0, 3), (3, 1, 0, 3)] if datasets is SIZES else [(3, 1, 1)])
    points = {tuple(row.updates for row in member.rows if row.seed == member.seeds[0]) for member in members}
    assert len(points) == (3 if datasets is SIZES else 1)


@pytest.mark.parametrize("regime", ["retrain", "warm", "full"])
def test_in_every_regime(regime: Any, joined: list) -> None:
    how = Protocol(regime=regime, start=20, sizes=3, updates_per_size=5)
    members = [Member("td3_bc", data, [3, 1], how=how) for data in SIZES]
    expected = alone(members)
    run(members)
    assert [member.outcome() for member in members] == expected
    assert [len(seeds) for seeds in joined] == [3 * 2 * (3 if regime == "retrain" else 1)]


@pytest.mark.parametrize("name", ["td3_bc", "noisy"])
def test_who_was_saved_at_another_update_catches_up_first(name: str, joined: list) -> None:
    """One stopped before its first row, one between two, one online and one never begun."""
    stops = [3, 9, 22, None]
    members = [Member(name, data, [3, 1], online=ONLINE) for data in [EQUAL[0]] * 4]
    expected = alone(members)
    for member, stop in zip(members, stops, strict=True):
        member.stop = stop
        if stop is not None:
            run([member])
            member.begin()
        member.stop = 15 if stop != 22 else None
    run(members)  # together up to 15, where three of them are stopped again
    assert joined == [(3, 1) * 2, (3, 1) * 3]
    for member in members:
        if member.stop:
            assert member.saved[0][0]["updates"] == 15
            member.begin()
            member.stop = None
            run([member])
    assert [member.outcome() for member in members] == expected


def test_who_is_caught_up_with_may_leave_again(joined: list) -> None:
    """Alone, together, and alone again: nothing is left there of the first time."""
    members = [Member("td3_bc", data, [3, 1]) for data in (SIZES[2], SIZES[1])]  # 26 and 11 updates
    expected = alone(members)
    for member, stop in zip(members, (3, 7), strict=True):
        member.stop = stop
        run([member])
        member.begin()
        member.stop = None
    run(members)
    assert joined == [(3, 1) * 2]
    assert [member.outcome() for member in members] == expected


def test_replayed_they_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each draws is gathered within what is captured, from where it lies; once one is over, the others'
    updates are captured anew."""
    members = [Member("td3_bc", data, [3, 1]) for data in SIZES]
    expected = alone(members)
    made = replay(monkeypatch)
    run(members)
    assert [member.outcome() for member in members] == expected
    # 11, 19 and 26 updates: three, then two, then one together; 6 of each warm up.
    assert [graphs.captured for graphs in made] == [2, 2, 1]
    assert [graphs.replayed for graphs in made] == [5, 2, 1]


def test_a_failure_of_one_closes_the_others() -> None:
    closed = []

    def course(name: str) -> Generator[Row | Due, None, None]:
        try:
            for event in Member("bc", EQUAL[0], [0]).course():
                if name == "fails" and isinstance(event, Row):
                    raise ZeroDivisionError
                yield event
        finally:
            closed.append(name)

    courses = [course(name) for name in ("one", "fails", "other")]
    with pytest.raises(ZeroDivisionError):
        list(in_lockstep(courses))
    assert sorted(closed) == ["fails", "one", "other"]


def test_the_time_of_an_update_is_shared_and_no_time_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))

    class Slow(Updater):
        def update(self, drawn: Any) -> None:
            super().update(drawn)
            for _ in range(9):
                next(clock)

    monkeypatch.setattr(lockstep, "make_updater", Slow)
    monkeypatch.setattr(lockstep.time, "perf_counter", lambda: next(clock))
    members = [Member("bc", EQUAL[0], [3, 1]), Member("bc", EQUAL[1], [4])]
    run(members)
    for member in members:
        # An update takes 10 ticks of which each of three replicas has a third.
        ticks = sum(row.train_seconds for row in member.rows if row.seed != 1)
        assert member.rows[-1].updates == 19
        assert ticks >= 19 * 10 / 3
    assert sum(row.train_seconds + row.eval_seconds for m in members for row in m.rows) < next(clock)


@pytest.mark.parametrize("name", OWN)
def test_an_algorithm_that_does_not_count_down_does_the_same_whatever_is_to_come(name: str) -> None:
    """And one that does says so."""
    found = plugins.find(name)
    decays = hasattr(found.Config(), "decay_learning_rate")
    for changes in ({}, {"decay_learning_rate": True}) if decays else ({},):
        config = replace(found.Config(), batch_size=8, hidden=(16, 16), **changes)
        subject, states = Subject(found, config, "continuous"), []
        for total in (5, 500):
            algorithm = found(SPECS["continuous"][0], config, [0, 1], total, torch.device("cpu"))
            for update in range(5):
                algorithm.update(subject.batch(algorithm, update))
            states.append([tensor.numpy().tobytes() for tensor in flat(algorithm.state_dict())])
        assert (states[0] != states[1]) == bool(changes) == found.counts_down(config)
    assert replicate(Noisy).counts_down(Config())
