"""What a study would take, without running it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cluster import SMALL, run, run_partly
from conftest import Seqeval, refused

from seqeval import Evaluation, Execution, Online, Protocol, Study, load_policies
from seqeval.evaluation import VisibleData
from seqeval.evaluation.evaluators.initial_value import InitialValue
from seqeval.execution import dry_run
from seqeval.execution.dry_run import Estimate, JobEstimate, Measurement, estimate
from seqeval.execution.jobs import resolve
from seqeval.execution.storage import StudyDirectory
from seqeval.training.job import Job

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},name=td3", f"bc:{SMALL},name=bc"),
    seeds=(0, 1),
    protocol=Protocol(start=18_000, grow_by=10),
    evaluation=Evaluation(points=4, episodes=1),
    online=Online(steps=50, updates_per_step=2),
)
HERE = Execution(jobs=1)
COSTS = Measurement(update=0.5, environment_step=0.1, evaluation=2.0, memory=7, gpu_memory=0, policy=100)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that are measured, each with the same costs."""
    jobs: list[Job] = []

    def measure(job: Job) -> Measurement:
        jobs.append(job)
        return COSTS

    monkeypatch.setattr(dry_run, "_in_new_process", measure)
    return jobs


def test_updates_steps_evaluations_and_policies_are_counted(measured: list[Job], tmp_path: Path) -> None:
    found = estimate(STUDY, tmp_path / "out", replace(HERE, keep_policies=True))
    # Offline 201 updates and 5 points for each seed; online 50 steps, 100 updates and 4 points.
    td3, bc = found.jobs
    assert (td3.title, td3.runs, td3.updates) == ("pendulum-replay · td3 · seed 0, 1", 2, 2 * 301)
    assert td3.seconds == pytest.approx(0.5 * 301 + 0.1 * 2 * 50 + 2.0 * 9)
    assert td3.policies == 100 * 2 * 9
    # BC does not learn online: its online points evaluate the same policy.
    assert (bc.updates, bc.seconds) == (2 * 201, pytest.approx(0.5 * 201 + 2.0 * 9))
    assert found.seconds == pytest.approx(td3.seconds + bc.seconds)
    assert (found.parallel, found.memory, len(measured)) == (1, 7, 2)
    assert not (tmp_path / "out").exists()


def test_what_it_counts_is_what_a_study_makes(measured: list[Job], tmp_path: Path) -> None:
    options = {"keep_policies": True}
    run_partly(STUDY, tmp_path / "out", 7, save_every=0.0, **options)
    left = estimate(STUDY, tmp_path / "out", Execution(jobs=1, **options))
    assert 0 < sum(job.updates for job in left.jobs) < 2 * 301 + 2 * 201
    run(STUDY, tmp_path / "out", **options)
    rows = list(StudyDirectory(tmp_path / "out").rows())
    assert max(row["updates"] for row in rows if row["variant"] == "td3") == 301
    for variant in ("td3", "bc"):
        policies = load_policies(tmp_path / "out", "pendulum-replay", variant, 0)
        assert len(policies) == 9
    assert not estimate(STUDY, tmp_path / "out", HERE).jobs
    again = estimate(STUDY, tmp_path / "out", replace(HERE, redo=("bc",)))
    assert [job.updates for job in again.jobs] == [2 * 201]


def test_jobs_of_one_kind_share_a_measurement_on_the_largest_dataset(
    measured: list[Job], tmp_path: Path
) -> None:
    mixtures = ("mix:pendulum-replay:19000,name=a", "mix:pendulum-replay,name=b")
    study = replace(STUDY, datasets=mixtures, algorithms=STUDY.algorithms[:1])
    found = estimate(study, tmp_path / "out", HERE)
    assert len(found.jobs) == 2
    assert [job.datasets for job in measured] == [["b"]]


def test_jobs_in_parallel_start_when_one_before_them_ends() -> None:
    jobs = [JobEstimate("", 1, 1, seconds, memory, 0, 0) for seconds, memory in ((5, 3), (2, 1), (4, 2))]
    assert Estimate(jobs, 2, "cpu", ()).seconds == 6
    assert Estimate(jobs, 2, "cpu", ()).memory == 5
    assert Estimate(jobs, 1, "cpu", ()).seconds == 11
    assert Estimate(jobs, None, "cpu", ()).seconds == 11


def test_a_measurement_is_of_this_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this process, and with jobs that end within it."""
    monkeypatch.setattr(dry_run, "_in_new_process", lambda job: dry_run._measure(dry_run.pickle.dumps(job)))
    for study in (
        STUDY,
        replace(STUDY, protocol=Protocol(regime="retrain", start=100, sizes=2), online=Online()),
        replace(STUDY, protocol=Protocol(start=19_990, grow_by=10), online=Online()),
        replace(STUDY, datasets=("none",), env="Pendulum-v1", algorithms=STUDY.algorithms[:1]),
    ):
        monkeypatch.setattr(dry_run, "SECONDS", 0.05)
        for job in estimate(study, tmp_path / "out", replace(HERE, keep_policies=True)).jobs:
            assert 0 < job.seconds < 3600
            assert 10e6 < job.memory < 100e9
            assert 1000 < job.policies < 1e6


def test_evaluations_are_not_counted_as_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluator that takes 1000 seconds, of a clock of its own, with a point after every update."""
    clock = [0.0]

    def evaluate(self: InitialValue, agents: object, visible: VisibleData) -> dict[str, list[float]]:
        clock[0] += 1000.0
        return {"initial_value": [0.0] * len(self.seeds)}

    def perf_counter() -> float:
        clock[0] += 1e-3
        return clock[0]

    monkeypatch.setattr(InitialValue, "evaluate", evaluate)
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(perf_counter=perf_counter))
    metrics = Evaluation(every=1, metrics=("initial-value",))
    study = replace(STUDY, algorithms=STUDY.algorithms[:1], evaluation=metrics, online=Online())
    study = replace(study, protocol=Protocol(start=19_990, grow_by=1))
    (job,) = resolve(study, "cpu").jobs(StudyDirectory(Path("none")))
    found = dry_run._measure(dry_run.pickle.dumps(job))
    assert found.evaluation == pytest.approx(1000, abs=1)
    assert 0 < found.update < 1


ARGUMENTS = (
    *("run", "--datasets", "pendulum-replay", "--algorithms", f"bc:{SMALL},name=bc", "--seeds", 0),
    *("--protocol.start", 19_000, "--evaluation.episodes", 1, "--jobs", 1),
)


def test_the_flag_of_the_command_line(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    ended = seqeval(*ARGUMENTS, "--out", out, "--dry-run", "--keep-policies")
    assert ended.code == 0
    assert "measuring pendulum-replay · bc · seed 0" in ended.err
    assert re.search(r"pendulum-replay · bc · seed 0 +1 +1 001 +0\.\d GB +\d+ (s|min)\n", ended.out)
    assert re.search(r"1 job, 1 in parallel on the CPU: about \d+ (s|min), at most 0\.\d GB", ended.out)
    assert re.search(r"policies: 0\.\d MB on disk\nnothing was written", ended.out)
    assert not (tmp_path / "deep").exists()


def test_what_a_study_is_refused_for_is_refused(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = refused(seqeval(*ARGUMENTS, "--out", out, "--dry-run", "--protocol.start", 30_000))
    assert "start" in text
    (tmp_path / "file").write_text("")
    assert "a file, not a folder" in refused(seqeval(*ARGUMENTS, "--out", tmp_path / "file", "--dry-run"))
    run(replace(STUDY, online=Online()), out)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    assert "protocol.grow_by is 10 there" in refused(seqeval(*ARGUMENTS, "--out", out, "--dry-run"))
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before
