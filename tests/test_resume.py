"""A run that was stopped and goes on is the same run, to the last bit."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import make_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from test_online import OWN
from test_protocol import LABELS, timeless, weights

from seqeval import environments, plugins
from seqeval.config import Evaluation, Online, Protocol
from seqeval.datasets import load
from seqeval.evaluation import evaluator
from seqeval.evaluation.episodes import Episodes
from seqeval.training import trainer
from seqeval.training.agents import Agents
from seqeval.training.online import EnvironmentFailed
from seqeval.training.trainer import Moment
from seqeval.types import Dataset, Row

POINTS = Evaluation(points=3, episodes=1)
SHORT = "Pendulum-v1?max_episode_steps=5"
STREAM = Protocol(start=20, grow_by=7)  # on 120 transitions: 16 updates
REGIMES = {
    "stream": STREAM,
    "stream, full normaliser": replace(STREAM, normalizer="full"),
    "retrain": Protocol(regime="retrain", start=20, sizes=3, updates_per_size=5),
    "warm": Protocol(regime="warm", start=20, sizes=3, updates_per_size=5),
    "full": Protocol(regime="full", updates_per_size=9),
}


def start(name: str, seeds: list[int], data: Dataset, how: Protocol, online: Online) -> Agents:
    """Agents with small networks."""
    found = plugins.find(name)
    widths = "net_arch" if name.startswith("sb3:") else "hidden"
    config = replace(found.Config(), batch_size=8, **{widths: (16, 16)})
    replicas = trainer.replicas(how, seeds, len(data))
    updates = trainer.updates(how, online, len(data), found)
    seeds = [seed for seed, _ in replicas]
    device = torch.device("cpu")
    return trainer.make_agents(found, config, environments.of(data), seeds, updates, device)


def learnt(agents: Agents) -> list[bytes]:
    """All that they have learnt, bit by bit."""
    replicas = range(len(agents.algorithm.seeds))
    return [tensor.numpy().tobytes() for replica in replicas for tensor in weights(agents, replica)]


def through_a_file(states: Any) -> Any:
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Late:
    """Evaluations that are over when they have been asked for so many times, of agents of their own."""

    def __init__(self, agents: Agents, data: Dataset, patience: int) -> None:
        self._agents, self._patience, self._left = agents, patience, 0
        self._evaluator = evaluator(data.env_id, agents.algorithm.seeds, POINTS)

    def begin(self, samples: Sequence[int], states: Callable[[], Any]) -> None:
        self._samples, self._states, self._left = samples, through_a_file(states()), self._patience

    def over(self, seconds: float = 0.0) -> bool:
        self._left -= 1
        return self._left < 0

    def take(self) -> tuple[list[Episodes], float]:
        assert self._left < 0, "it is not over"
        self._agents.load_states(self._states)
        return self._evaluator(self._agents.act, self._samples), 2.0

    def close(self) -> None:
        self._evaluator.close()


def with_stops(
    name: str,
    seeds: list[int],
    data: Dataset,
    how: Protocol,
    online: Online,
    stops: set[int],
    patience: int | None = None,
) -> tuple[list[dict], list[bytes]]:
    """The rows and final weights of a run that dies after each of these updates, having last been saved there
    or, at every other stop, an update before. What came after that is lost. With `patience` evaluations go on
    beside it for so long."""
    rows: list[Row] = []
    states, saved_rows = None, 0
    for number, stop in enumerate([*sorted(stops), None]):
        agents = start(name, seeds, data, how, online)
        del rows[saved_rows:]
        late = None if patience is None else Late(start(name, seeds, data, how, online), data, patience)
        for event in trainer.events(agents, data, how, POINTS, LABELS, online, states, late):
            if isinstance(event, Row):
                rows.append(event)
                continue
            updates = agents.algorithm.updates
            if stop is not None and updates >= stop - number % 2:
                states, saved_rows = through_a_file(event.states()), len(rows)
            if updates == stop:
                break
    return [timeless(row) for row in rows], learnt(agents)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", OWN)
def test_offline_it_goes_on_as_if_it_had_never_stopped(name: str, regime: str) -> None:
    how, data = REGIMES[regime], make_dataset(env_id=SHORT)
    whole = with_stops(name, [3, 1], data, how, Online(), set())
    stops = with_stops(name, [3, 1], data, how, Online(), {2, 5, 6, 9, 14})
    assert len(whole[0]) >= 2
    assert stops == whole


@pytest.mark.parametrize("name", [*OWN, "sb3:TD3"])
@pytest.mark.parametrize("mix", ["uniform", 0.5])
def test_online_too(name: str, mix: Any) -> None:
    data, online = make_dataset(env_id=SHORT), Online(steps=9, updates_per_step=2, mix=mix)
    whole = with_stops(name, [3, 1], data, STREAM, online, set())
    stops = with_stops(name, [3, 1], data, STREAM, online, {16, 17, 22, 23, 30, 34})
    assert {row["phase"] for row in whole[0]} == {"offline", "online"}
    assert stops == whole


def test_where_there_is_no_data_and_actions_are_discrete() -> None:
    data, online = load("none", "CartPole-v1?max_episode_steps=9"), Online(steps=60)
    whole = with_stops("sb3:DQN", [3, 1], data, Protocol(), online, set())
    assert with_stops("sb3:DQN", [3, 1], data, Protocol(), online, {1, 20, 41, 60}) == whole
    assert len({len(row["episode_returns"]) for row in whole[0]}) == 1


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(1, 33), min_size=1, max_size=6))
def test_wherever_and_however_often_it_is_stopped(stops: set[int]) -> None:
    data, online = make_dataset(env_id=SHORT), Online(steps=18)
    whole = with_stops("td3_bc", [0], data, STREAM, online, set())
    assert with_stops("td3_bc", [0], data, STREAM, online, stops) == whole


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("patience", [0, 4, 50])
def test_rows_that_are_still_to_come_when_it_stops_come_once(regime: str, patience: int) -> None:
    how, data = REGIMES[regime], make_dataset(env_id=SHORT)
    whole = with_stops("td3_bc", [3, 1], data, how, Online(), set())
    assert with_stops("td3_bc", [3, 1], data, how, Online(), set(), patience) == whole
    assert with_stops("td3_bc", [3, 1], data, how, Online(), {2, 5, 6, 9, 14, 15}, patience) == whole


@pytest.mark.parametrize("name", ["td3_bc", "bc"])
@pytest.mark.parametrize("patience", [0, 4, 50])
def test_online_too_they_come_once(name: str, patience: int) -> None:
    data, online = make_dataset(env_id=SHORT), Online(steps=9, updates_per_step=2)
    whole = with_stops(name, [3, 1], data, STREAM, online, set())
    stops = {6, 15, 16, *({17, 18, 22, 23, 30, 34} if name == "td3_bc" else set())}
    assert with_stops(name, [3, 1], data, STREAM, online, set(), patience) == whole
    assert with_stops(name, [3, 1], data, STREAM, online, stops, patience) == whole
    nothing = load("none", SHORT)
    if name == "td3_bc":
        whole = with_stops(name, [3, 1], nothing, Protocol(), online, set())
        assert with_stops(name, [3, 1], nothing, Protocol(), online, {1, 3, 9, 16}, patience) == whole


def test_from_every_moment_there_is_it_goes_on_to_the_same_rows() -> None:
    """Also from those at which it waits, and where the policy does not learn online."""
    data, online = make_dataset(env_id=SHORT), Online(steps=9)
    whole, _ = with_stops("bc", [3], data, STREAM, online, set())

    def events(states: Any) -> Iterator[Row | Moment]:
        agents, others = (start("bc", [3], data, STREAM, online) for _ in range(2))
        late = Late(others, data, 3)
        return trainer.events(agents, data, STREAM, POINTS, LABELS, online, states, late)

    rows, moments = list[Row](), []
    for event in events(None):
        if isinstance(event, Row):
            rows.append(event)
        else:
            moments.append((len(rows), through_a_file(event.states())))
    assert [timeless(row) for row in rows] == whole
    assert len(moments) > 16
    for there, states in moments[-8:]:
        more = [event for event in events(states) if isinstance(event, Row)]
        assert [timeless(row) for row in (*rows[:there], *more)] == whole


def test_an_evaluation_is_at_most_one_point_behind_and_costs_training_no_time() -> None:
    data = make_dataset(env_id=SHORT)
    agents, others = (start("td3_bc", [0, 4], data, STREAM, Online()) for _ in range(2))
    events = trainer.events(agents, data, STREAM, POINTS, LABELS, Online(), None, Late(others, data, 10**3))
    waited, seen = 0, []
    for event in events:
        if isinstance(event, Row):
            seen.append((event.samples, agents.algorithm.updates))
            assert event.eval_seconds == 1.0  # its share of two seconds
            assert 0 < event.train_seconds < 0.5
        elif event.states()[0]["updates"] < agents.algorithm.updates or waited:
            waited += 1
            time.sleep(0.001)  # what the caller does while it waits is no training
    assert waited > 1000
    points = sorted({samples for samples, _ in seen})
    # The rows of a point are there when the next is due, and those of the last at the end.
    due = [updates for samples, updates in seen if samples != points[0]]
    assert [samples for samples, _ in seen] == [n for n in points for _ in range(2)]
    assert due == sorted(due)
    assert seen[-1][1] == 16


def test_seeds_saved_together_go_on_apart_and_the_other_way_round() -> None:
    data, online = make_dataset(env_id=SHORT), Online(steps=9)

    def states(seeds: list[int], at: int) -> list:
        agents = start("iql", seeds, data, STREAM, online)
        for event in trainer.events(agents, data, STREAM, POINTS, LABELS, online):
            if isinstance(event, Moment) and (updates := event.states()[0]["updates"]) == at:
                assert updates == at
                return through_a_file(event.states())
        raise AssertionError("there is no such update")

    def on(seeds: list[int], saved: list) -> Iterator[dict]:
        agents = start("iql", seeds, data, STREAM, online)
        for event in trainer.events(agents, data, STREAM, POINTS, LABELS, online, saved):
            if isinstance(event, Row):
                yield timeless(event)

    together = states([4, 5], 20)
    apart = [states([4], 20)[0], states([5], 20)[0]]
    expected = list(on([4, 5], together))
    assert list(on([4, 5], apart)) == expected
    alone = [list(on([seed], together[i : i + 1])) for i, seed in enumerate((4, 5))]
    assert [row for pair in zip(*alone, strict=True) for row in pair] == expected


def test_an_environment_that_does_other_things_the_second_time_is_told() -> None:
    data, online = make_dataset(env_id=SHORT), Online(steps=9)
    agents = start("iql", [0], data, STREAM, online)
    for event in trainer.events(agents, data, STREAM, POINTS, LABELS, online):
        if isinstance(event, Moment) and (states := event.states())[0]["environment"] is not None:
            break
    states[0]["environment"]["observation"] += 1
    again = trainer.events(
        start("iql", [0], data, STREAM, online), data, STREAM, POINTS, LABELS, online, states
    )
    with pytest.raises(EnvironmentFailed, match="does not do the same again"):
        next(again)


def test_moments_come_after_each_update_and_before_what_is_due_there() -> None:
    data = make_dataset(env_id=SHORT)
    agents = start("iql", [0], data, STREAM, Online())
    kinds = [type(event).__name__ for event in trainer.events(agents, data, STREAM, POINTS, LABELS)]
    assert kinds.count("Moment") == 16
    assert kinds[:3] == ["Moment", "Row", "Moment"]
    assert kinds[-2:] == ["Moment", "Row"]
