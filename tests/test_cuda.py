"""On a GPU: updates captured and replayed are those that Python makes, and the host waits for rows alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Seqeval, make_dataset
from test_algos import flat
from test_protocol import LABELS
from test_resume import SHORT
from test_updater import CASES, ONLINE

from seqeval import environments, plugins
from seqeval.algorithm import Noise
from seqeval.config import Evaluation, Online, Protocol
from seqeval.execution.storage import frame
from seqeval.replay.samplers import Minibatches
from seqeval.seeding import stream
from seqeval.training import lockstep, trainer
from seqeval.training.agents import Agents
from seqeval.training.trainer import Moment
from seqeval.training.updater import WARM_UP, CudaGraphs, Updater
from seqeval.types import Row

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
STREAM = Protocol(start=20, grow_by=1)  # on 120 transitions: 101 updates
POINTS = Evaluation(points=1, episodes=1)  # rows after the first and after the last of them
OFFLINE = Online()


def start(
    name: str,
    changes: dict[str, Any],
    online: Online = OFFLINE,
    device: torch.device = GPU,
) -> Agents:
    found, data = plugins.find(name), make_dataset(env_id=SHORT)
    config = replace(found.Config(), **({"batch_size": 32, "hidden": (64, 64)} | changes))
    updates = trainer.updates(STREAM, online, len(data), found)
    return trainer.make_agents(found, config, environments.of(data), [3, 1, 7], updates, device)


def events(agents: Agents, online: Online = OFFLINE, states: Any = None) -> Iterator[Row | Moment]:
    data = make_dataset(env_id=SHORT)
    return trainer.events(agents, data, STREAM, POINTS, LABELS, online, states)


def run(agents: Agents, online: Online = OFFLINE) -> tuple[list[Row], dict]:
    """The rows, and what is learnt."""
    rows = [event for event in events(agents, online) if isinstance(event, Row)]
    return rows, agents.algorithm.state_dict()


def same(one: tuple[list[Row], dict], other: tuple[list[Row], dict], tolerance: float = 1e-5) -> None:
    """Metrics and weights of two runs agree."""
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert (mine.samples, mine.updates, mine.status) == (theirs.samples, theirs.updates, "ok")
        assert mine.metrics == pytest.approx(theirs.metrics, rel=tolerance, abs=tolerance)
    for mine, theirs in zip(flat(one[1]), flat(other[1]), strict=True):
        torch.testing.assert_close(mine.cpu(), theirs.cpu(), rtol=tolerance, atol=tolerance)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with each capture."""
    found: list[None] = []
    capture = CudaGraphs.capture

    def counted(self: CudaGraphs, work: Callable[[], None]) -> Callable[[], None]:
        found.append(None)
        return capture(self, work)

    monkeypatch.setattr(CudaGraphs, "capture", counted)
    return found


@CASES
@pytest.mark.parametrize("online", [OFFLINE, ONLINE], ids=["offline", "online"])
def test_replayed_updates_are_those_that_python_makes(
    name: str, changes: dict[str, Any], online: Online, captures: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = start(name, changes, online)
    replayed = run(agents, online)
    assert len(captures) == agents.algorithm.period
    assert agents.algorithm.updates == 101 + (0 if name == "bc" else 2 * online.steps)
    monkeypatch.setattr(lockstep, "make_updater", Updater)
    by_python = run(start(name, changes, online), online)
    assert len(captures) == agents.algorithm.period
    if online is OFFLINE:
        same(replayed, by_python)
    else:  # a bit that is other is another action, and another course
        assert [row.samples for row in replayed[0]] == [row.samples for row in by_python[0]]
        assert {row.status for row in replayed[0]} == {"ok"}


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@CASES
def test_the_host_waits_for_the_gpu_where_a_row_is_due_and_nowhere_else(
    name: str, changes: dict[str, Any], captures: list[None]
) -> None:
    agents = start(name, changes)
    begun, last, period = (WARM_UP + 1) * agents.algorithm.period + 1, 101, agents.algorithm.period
    try:
        for event in events(agents):
            if isinstance(event, Row):
                continue
            done = agents.algorithm.updates
            assert done == last or len(captures) == min(period, max(0, done - WARM_UP * period))
            torch.cuda.set_sync_debug_mode("error" if begun <= done < last else "default")
        torch.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError):  # what would have told of it
            torch.ones(1, device=GPU).item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@CASES
def test_a_run_that_was_stopped_goes_on(name: str, changes: dict[str, Any]) -> None:
    whole = run(start(name, changes))
    agents = start(name, changes)
    for event in events(agents):
        if isinstance(event, Moment) and agents.algorithm.updates == 51:
            file = io.BytesIO()
            torch.save(event.states(), file)
            break
    file.seek(0)
    agents = start(name, changes)
    rest = [event for event in events(agents, states=torch.load(file, "cpu")) if isinstance(event, Row)]
    same((rest, agents.algorithm.state_dict()), (whole[0][3:], whole[1]))


@CASES
def test_the_first_update_is_the_cpus(name: str, changes: dict[str, Any]) -> None:
    found = []
    for device in (CPU, GPU):
        rows = (event for event in events(start(name, changes, device=device)) if isinstance(event, Row))
        found.append([next(rows) for _ in range(3)])
    for mine, theirs in zip(*found, strict=True):
        assert mine.updates == 1
        assert mine.metrics == pytest.approx(theirs.metrics, rel=1e-3, abs=1e-5)


def test_draws_are_the_cpus() -> None:
    seeds, (schedule,) = [3, 1], STREAM.schedules(120)
    orders = [stream(seed, "order").permutation(120).astype(np.int32) for seed in seeds]
    noise = {
        "normal": Noise("normal", (4, 2)),
        "uniform": Noise("uniform", (3,)),
        "bernoulli": Noise("bernoulli", (5,), 0.9),
    }
    here, there = (
        list(Minibatches(device, [schedule] * 2, orders, seeds, 8, noise).until(schedule.updates))
        for device in (CPU, GPU)
    )
    assert len(here) == len(there) == 101
    for mine, theirs in zip(here, there, strict=True):
        assert theirs.rows.device.type == "cuda"
        assert torch.equal(mine.rows, theirs.rows.cpu())
        assert all(torch.equal(mine.noise[key], theirs.noise[key].cpu()) for key in noise)


def test_a_study_runs_there(tmp_path: Path, seqeval: Seqeval) -> None:
    what = ("--datasets", "pendulum-replay", "--algorithms", "bc", "td3_bc", "sb3:TD3", "--seeds", 0, 1)
    small = ("--trainer.start", 19900, "--evaluation.points", 2, "--evaluation.episodes", 1)
    ended = seqeval("run", *what, *small, "--device", "cuda", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    rows = frame([tmp_path / "run"])
    assert len(rows) == 3 * 2 * 3
    assert (rows["status"] == "ok").all()
    assert set(rows["updates"]) == {1, 51, 101}
