"""On a GPU: replayed updates equal those of Python, and the host waits only when rows are due."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Seqeval
from test_graph_updater import CASES, ONLINE, SUMMING
from training_setup import NO_ONLINE, ONE_POINT, SMALL, Training, make_job, small_dataset, tensors_in

from seqeval.algorithm import Noise
from seqeval.config import Online, Protocol
from seqeval.execution.storage import frame
from seqeval.replay.indices import IndexSampler
from seqeval.seeding import stream
from seqeval.training import trainer as trainer_module
from seqeval.training.updater import WARM_UP, CudaGraphs, Updater

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
STREAM = Protocol(start=20, grow_by=1)  # on 120 transitions: 101 updates
SEEDS = [3, 1, 7]


def training(
    name: str, settings: dict[str, Any], online: Online = NO_ONLINE, device: str = "cuda"
) -> Training:
    """With rows after the first and after the last offline update."""
    sizes = {} if name == SUMMING or name in SMALL else {"hidden": (64, 64)}
    dataset = small_dataset()
    settings = {"batch_size": 32, **sizes, **settings}
    job = make_job(name, [(dataset, SEEDS)], STREAM, online, ONE_POINT, device, **settings)
    return Training(job, [dataset])


def assert_close(one: Training, other: Training, tolerance: float = 1e-5) -> None:
    """Compares the metrics and weights of two runs."""
    for row, expected in zip(one.rows, other.rows, strict=True):
        assert (row.samples, row.updates, row.status) == (expected.samples, expected.updates, "ok")
        assert row.metrics == pytest.approx(expected.metrics, rel=tolerance, abs=tolerance)
    states = (tensors_in(list(each.checkpoints.finished.values())) for each in (one, other))
    for tensor, expected in zip(*states, strict=True):
        torch.testing.assert_close(tensor.cpu(), expected.cpu(), rtol=tolerance, atol=tolerance)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that each capture appends to."""
    found: list[None] = []
    capture = CudaGraphs.capture

    def counted(self: CudaGraphs, work: Callable[[], None]) -> Callable[[], None]:
        found.append(None)
        return capture(self, work)

    monkeypatch.setattr(CudaGraphs, "capture", counted)
    return found


@CASES
@pytest.mark.parametrize("online", [NO_ONLINE, ONLINE], ids=["offline", "online"])
def test_replayed_updates_equal_those_of_python(
    name: str, settings: dict[str, Any], online: Online, captures: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed = training(name, settings, online).train()
    algorithm = replayed.checkpoints.trainer.agents.algorithm
    made = 0 if name == "bc" else 2 * online.steps
    period = algorithm.period
    # The online phase captures graphs of its own.
    assert len(captures) == period + min(period, max(0, made - WARM_UP * period))
    assert algorithm.updates == 101 + made
    captures.clear()
    monkeypatch.setattr(trainer_module, "make_updater", Updater)
    by_python = training(name, settings, online).train()
    assert not captures
    if online is NO_ONLINE:
        assert_close(replayed, by_python)
    else:  # where one bit differs an action differs, and then the whole course of the run
        assert [row.samples for row in replayed.rows] == [row.samples for row in by_python.rows]
        assert {row.status for row in replayed.rows} == {"ok"}


@pytest.mark.parametrize("kind", ["transitions", "n_step", "sequences"])
def test_replayed_batches_of_every_kind_equal_those_of_python(
    kind: str, captures: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"kind": kind, "length": 3, "discount": 0.9}
    settings |= {"next_actions": True, "returns_to_go": True, "rows": True}
    replayed = training(SUMMING, settings).train()
    assert len(captures) == 1
    monkeypatch.setattr(trainer_module, "make_updater", Updater)
    assert_close(replayed, training(SUMMING, settings).train())


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@CASES
def test_the_host_waits_for_the_gpu_only_when_a_row_is_due(
    name: str, settings: dict[str, Any], captures: list[None]
) -> None:
    made, last = training(name, settings), 101

    def is_due(updates: int) -> bool:
        period = made.checkpoints.trainer.agents.algorithm.period
        assert updates == last or len(captures) == min(period, max(0, updates - WARM_UP * period))
        first = (WARM_UP + 1) * period + 1
        torch.cuda.set_sync_debug_mode("error" if first <= updates < last - 1 else "default")
        return False

    made.checkpoints.is_due = is_due
    try:
        made.train()
        torch.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError):  # the mode would have reported a wait
            torch.ones(1, device=GPU).item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@CASES
def test_an_interrupted_run_resumes(name: str, settings: dict[str, Any]) -> None:
    assert_close(training(name, settings).train({51}), training(name, settings).train())


@CASES
def test_the_first_update_equals_that_of_the_cpu(name: str, settings: dict[str, Any]) -> None:
    found = []
    for device in ("cpu", "cuda"):
        with training(name, settings, device=device).trainer() as trainer:
            rows = trainer.train()
            found.append([next(rows) for _ in SEEDS])
    for row, expected in zip(*found, strict=True):
        assert row.updates == 1
        assert row.metrics == pytest.approx(expected.metrics, rel=1e-3, abs=1e-5)


def test_sampled_indices_equal_those_of_the_cpu() -> None:
    seeds, (schedule,) = [3, 1], STREAM.schedules(120)
    orders = [stream(seed, "order").permutation(120).astype(np.int32) for seed in seeds]
    noise = {
        "normal": Noise("normal", (4, 2)),
        "uniform": Noise("uniform", (3,)),
        "bernoulli": Noise("bernoulli", (5,), 0.9),
    }
    on_cpu, on_gpu = (IndexSampler(device, [schedule] * 2, orders, seeds, 8, noise) for device in (CPU, GPU))
    for _ in range(schedule.updates):
        expected, found = on_cpu.draw(), on_gpu.draw()
        assert found.rows.device.type == "cuda"
        assert torch.equal(expected.rows, found.rows.cpu())
        assert torch.equal(expected.visible, found.visible.cpu())
        assert all(torch.equal(expected.noise[key], found.noise[key].cpu()) for key in noise)


def test_a_study_runs_on_a_gpu(tmp_path: Path, seqeval: Seqeval) -> None:
    what = ("--datasets", "pendulum-replay", "--algorithms", "bc", "td3_bc", "sb3:TD3", "--seeds", 0, 1)
    small = ("--trainer.start", 19900, "--evaluation.points", 2, "--evaluation.episodes", 1)
    ended = seqeval("run", *what, *small, "--device", "cuda", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    rows = frame([tmp_path / "run"])
    assert len(rows) == 3 * 2 * 3
    assert (rows["status"] == "ok").all()
    assert set(rows["updates"]) == {1, 51, 101}
