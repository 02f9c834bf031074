"""The scripts in experiments/, on little data."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from seqeval import plots, plugins
from seqeval.execution.provenance import processor

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SMALL = [
    *("--algorithms", "bc:hidden=(8,8),name=bc", "--seeds", "0", "1", "--jobs", "1"),
    *("--protocol.start", "19800", "--evaluation.points", "1", "--evaluation.episodes", "1"),
]


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXPERIMENTS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_k_gamma_runs_one_study_per_pair_and_draws_the_sensitivity(tmp_path: Path) -> None:
    values = ("--updates-per-growth", "1", "2", "--grow-by", "50", "100")
    done = script("k_gamma.py", *SMALL, *values, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for k in (1, 2):
        for gamma in (50, 100):
            study = json.loads((tmp_path / f"K{k}-gamma{gamma}" / "study.json").read_text())
            assert study["protocol"]["updates_per_growth"] == k
            assert study["protocol"]["grow_by"] == gamma
    assert done.stdout.count("pendulum-replay") == 4
    assert done.stdout.count("2 of 2") == 4
    assert done.stdout.splitlines()[-2:] == [str(tmp_path / f"sensitivity.{kind}") for kind in ("png", "pdf")]
    assert (tmp_path / "sensitivity.png").stat().st_size > 5000


def test_k_gamma_refuses_zero_updates_per_growth(tmp_path: Path) -> None:
    done = script("k_gamma.py", *SMALL, "--updates-per-growth", "0", "--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == "k_gamma: protocol.updates_per_growth: must be at least 1, not 0\n"


@pytest.mark.parametrize("name", ["figure1", "finetune", "mixed"])
def test_each_figure_of_the_paper_is_a_study_that_flags_can_change(name: str, tmp_path: Path) -> None:
    small = ("--datasets", "pendulum-replay", "--protocol.grow-by", "50")
    online = ("--online.steps", "20") if name == "finetune" else ()
    done = script(f"{name}.py", *SMALL, *small, *online, "--out", str(tmp_path / name))
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / name / "study.json").read_text())
    assert study["online"]["steps"] == (20 if online else 0)
    assert (tmp_path / name / "curves.png").stat().st_size > 5000
    rows = (tmp_path / name / "runs/pendulum-replay/bc/seed-1/rows.jsonl").read_text().splitlines()
    assert [json.loads(row)["samples"] for row in rows] == [19_800, 20_000, 20_020][: 2 + bool(online)]


def test_the_mixed_figure_of_the_paper_uses_segments_of_joined_datasets(tmp_path: Path) -> None:
    joined = "mix:pendulum-replay:100+pendulum-replay:1%,name=both"
    small = ("--datasets", joined, "--protocol.grow-by", "50", "--protocol.start", "50")
    done = script("mixed.py", *SMALL, *small, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "study.json").read_text())
    assert (study["protocol"]["order"], study["protocol"]["window"]) == ("segments", 200_000)
    assert study["datasets"]["both"]["segments"] == [100, 200]


@pytest.mark.parametrize(("name", "online"), [("figure1", 0), ("finetune", 500_000)])
def test_figures_of_the_paper_default_to_twelve_datasets_and_five_algorithms(name: str, online: int) -> None:
    shown = script(f"{name}.py", "--help").stdout
    assert shown.count("-v2") == 12
    assert re.search(r"--online.steps INT.*?default:[^0-9]*(\d+)", shown, re.DOTALL)[1] == str(online)
    assert "awac bc cql iql td3_bc" in shown


def test_the_demo_prints_a_table_and_draws_the_curves(tmp_path: Path) -> None:
    done = script("demo.py", *SMALL, "--protocol.grow-by", "50", "--out", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    assert "online" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"figure: {tmp_path}/demo/curves.png")
    assert (tmp_path / "demo" / "curves.png").stat().st_size > 5000


BENCHMARK = [
    *("--algorithms", "bc", "--replicas", "2", "--sizes", "1000", "2000", "--rounds", "2"),
    *("--seconds", "0.02", "--episode-steps", "10", "--grow-by", "55000", "--shape", "2", "2", "2", "3"),
]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The JSON file and the standard output of a benchmark with all its parts."""
    out = tmp_path_factory.mktemp("benchmark") / "bench.json"
    done = script("benchmark.py", *BENCHMARK, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_the_benchmark_prints_the_command_that_repeats_each_part(benchmark: tuple[Any, str]) -> None:
    found, printed = benchmark
    assert found["processor"] == processor()
    assert list(found["parts"]) == list("abcdefgh")
    for name, part in found["parts"].items():
        assert part["command"] == f"python experiments/benchmark.py --parts {name} {' '.join(BENCHMARK)}"
        assert len([line for line in printed.splitlines() if line.endswith(part["command"])]) == 1


def test_the_benchmark_compares_updates_with_the_fastest_matrix_product(benchmark: tuple[Any, str]) -> None:
    results = [r for r in benchmark[0]["parts"]["a"]["results"] if r["device"] == "cpu"]
    assert [(r["algorithm"], r["replicas"]) for r in results] == [("bc", 2)]
    layers = 2 * 256 * (11 * 256 + 256 * 256 + 256 * 3)
    for result in results:
        assert result["flops_per_update"] == 3 * layers - 2 * 256 * 11 * 256
        for turn in result["rounds"]:
            assert {"torch.mm 256", "torch.mm 1024"} <= set(turn["products"])
            assert turn["machine_flops_per_second"] == max(turn["products"].values())
            reached = turn["updates_per_second"] * result["flops_per_update"]
            assert turn["share"] == pytest.approx(reached / turn["machine_flops_per_second"])
            assert 0.005 < turn["share"] < 1.5
        assert result["share"] == pytest.approx(sum(turn["share"] for turn in result["rounds"]) / 2)
        if sys.platform == "linux":
            assert 5e7 < result["peak_bytes"] < 5e9


def test_the_benchmark_estimates_the_gpu_hours_of_the_first_figure_of_the_paper(monkeypatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    hours = importlib.import_module("speed.updates").figure_hours
    names = ("bc", "td3_bc", "iql", "awac", "cql")
    found = [
        {"algorithm": name, "device": device, "updates_per_second": speed}
        for name, best in zip(names, (1000.0, 500.0, 250.0, 250.0, 50.0), strict=True)
        for device, speed in (("cpu", 1e9), ("cuda", best / 2), ("cuda", best))
    ]
    seconds = 64.4e6 * (1 / 1000 + 1 / 500 + 2 / 250 + 1 / 50)
    assert hours(found) == pytest.approx(seconds / 3600)
    assert hours(found[3:]) is None
    assert hours([result for result in found if result["device"] == "cpu"]) is None


def test_the_benchmark_compares_two_processes_with_one(benchmark: tuple[Any, str]) -> None:
    (result,) = benchmark[0]["parts"]["g"]["results"]
    assert (result["algorithm"], result["replicas"], len(result["rounds"])) == ("bc", 5, 2)
    for turn in result["rounds"]:
        assert turn["times"] == pytest.approx(turn["together"] / turn["alone"])
        assert 0.1 < turn["times"] < 4


def test_the_benchmark_compares_evaluation_with_the_bare_environment(benchmark: tuple[Any, str]) -> None:
    results = benchmark[0]["parts"]["b"]["results"]
    measured = [(result["environment"].partition("?")[0], result["backend"]) for result in results]
    envpool = [("Hopper-v4", "envpool")] if importlib.util.find_spec("envpool") else []
    assert measured == [("Hopper-v4", "gymnasium"), *envpool, ("Pendulum-v1", "gymnasium")]
    for result in results:
        assert (result["replicas"], result["episodes"]) == (2, 10)
        for turn in result["rounds"]:
            assert turn["steps"] == 2 * 10 * 10
            assert turn["share"] == turn["steps_per_second"] / turn["bare_steps_per_second"]
            assert turn["bare_steps_per_second"] > 100


def test_the_benchmark_splits_the_time_of_a_study_into_shares(benchmark: tuple[Any, str]) -> None:
    results = benchmark[0]["parts"]["c"]["results"]
    assert [result["what"] for result in results] == ["updates", "evaluation", "everything else"]
    assert sum(result["share"] for result in results) == pytest.approx(1)
    assert all(result["seconds"] > 0 for result in results)
    (wall,) = {round(result["seconds"] / result["share"], 6) for result in results}
    assert wall < 120


def test_the_benchmark_compares_larger_sizes_with_the_smallest(benchmark: tuple[Any, str]) -> None:
    results = [r for r in benchmark[0]["parts"]["d"]["results"] if r["device"] == "cpu"]
    small, large, replicas = results
    assert [r["along"] for r in results] == ["transitions", "transitions", "replicas"]
    assert [(r["replicas"], r["transitions"]) for r in results] == [(1, 1000), (1, 2000), (2, 100_000)]
    assert small["times_the_first"] == replicas["times_the_first"] == 1
    ratios = [seconds / first for seconds, first in zip(large["rounds"], small["rounds"], strict=True)]
    assert large["times_the_first"] == pytest.approx(sum(ratios) / 2)
    assert large["seconds_per_update"] == pytest.approx(sum(large["rounds"]) / 2)


def test_the_benchmark_checks_that_start_up_does_not_import_torch(benchmark: tuple[Any, str]) -> None:
    results = benchmark[0]["parts"]["e"]["results"]
    assert [(r["what"], r["target"]) for r in results] == [("seqeval --help", 0.3), ("import seqeval", 0.3)]
    for result in results:
        assert result["seconds"] == min(result["rounds"]) > 0
        assert result["met"] == (result["seconds"] < result["target"])
        assert not result["loads_torch"]


def test_the_benchmark_draws_every_figure_of_a_synthetic_study(benchmark: tuple[Any, str]) -> None:
    results = benchmark[0]["parts"]["f"]["results"]
    drawn = {r["what"].removeprefix("seqeval plot --figure ") for r in results if "--figure" in r["what"]}
    assert drawn == {name for name in plots.names() if plots.find(name).tables is None}
    others = [r["what"] for r in results if "--figure" not in r["what"]]
    assert others == ["load", "IQM along x", "draw it", "seqeval table", "seqeval report"]
    for result in results:
        assert (result["runs"], result["rows"]) == (2 * 2 * 2, 2 * 2 * 2 * 3)
        assert 0 < result["cpu_seconds"] < 60
        assert result["seconds"] > 0
    commands = [r["cpu_seconds"] for r in results if r["what"].startswith("seqeval")]
    assert min(commands) > 0.2  # a process that imports pandas


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("exact_comparison")


def write_study(path: Path, runs: str = "runs", names: tuple[str, str] = ("actor", "critic")) -> Path:
    """A study directory with two runs of three rows each, and policies of two tensors with these names."""
    for seed in (0, 1):
        folder = path / runs / "data" / "bc" / f"seed-{seed}"
        folder.mkdir(parents=True)
        rows = [
            {
                "study": path.name,
                "train_seconds": 0.5 + len(names[0]),
                "eval_seconds": len(names[1]),
                "seed": seed,
                "samples": samples,
                "score": 0.1 * samples,
                "metrics": {"loss": 1e-7},
            }
            for samples in (1, 2, 3)
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        tensors = dict(zip(names, (torch.zeros(2, 3), torch.ones(())), strict=True))
        torch.save({"updates": 7, "algorithm": tensors}, folder / "policy.pt")
    return path


def test_studies_that_differ_only_in_name_seconds_and_layout_are_the_same(
    comparison: ModuleType, tmp_path: Path
) -> None:
    one, other = (write_study(tmp_path / name, runs=name) for name in ("cells", "runs"))
    renamed = write_study(tmp_path / "renamed", names=("network", "q"))
    assert comparison.differences(one, other) == []
    assert comparison.differences(one, renamed, tensor_names=False) == []
    assert comparison.differences(one, renamed) == [
        f"data/bc/seed-{seed}: policy.pt differs" for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"score": 0.2,', '"score": 0.20000000000000004,', "score: 0.2 and 0.20000000000000004"),
        ('"loss": 1e-07', '"loss": -0.0', "train/loss: 1e-07 and -0.0"),
        ('"samples": 2,', '"samples": 2.0,', "samples: 2 and 2.0"),
        ('"samples": 2, ', "", "samples: 2 and null"),
    ],
)
def test_one_changed_value_is_found(
    comparison: ModuleType, tmp_path: Path, old: str, new: str, expected: str
) -> None:
    one, other = write_study(tmp_path / "one"), write_study(tmp_path / "other")
    file = other / "runs/data/bc/seed-1/rows.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    assert old in lines[1]
    file.write_text(lines[0] + lines[1].replace(old, new) + lines[2])
    assert comparison.differences(one, other) == [f"data/bc/seed-1, row 2, {expected}"]


def test_columns_that_only_the_new_study_has_are_no_difference(
    comparison: ModuleType, tmp_path: Path
) -> None:
    one, other = write_study(tmp_path / "one"), write_study(tmp_path / "other")
    file = other / "runs/data/bc/seed-1/rows.jsonl"
    file.write_text(file.read_text().replace('"samples"', '"new": null, "samples"'))
    assert comparison.differences(one, other) == []


def test_missing_runs_rows_and_policies_are_found(comparison: ModuleType, tmp_path: Path) -> None:
    one, other = write_study(tmp_path / "one"), write_study(tmp_path / "other")
    first, second = (other / f"runs/data/bc/seed-{seed}" for seed in (0, 1))
    (first / "policy.pt").unlink()
    assert comparison.differences(one, other) == ["data/bc/seed-0: policy.pt differs"]
    lines = (first / "rows.jsonl").read_text().splitlines(keepends=True)
    (first / "rows.jsonl").write_text("".join(lines[:2]))
    assert comparison.differences(one, other)[0] == "data/bc/seed-0: 3 rows and 2"
    (second / "rows.jsonl").unlink()
    assert comparison.differences(one, other)[0] == f"data/bc/seed-1: only in {one}"
    assert comparison.differences(other, one)[0] == f"data/bc/seed-1: only in {one}"


@pytest.mark.parametrize("value", [1e-45, -0.0, float("nan")])
def test_one_changed_bit_of_a_policy_is_found(comparison: ModuleType, tmp_path: Path, value: float) -> None:
    one, other = write_study(tmp_path / "one"), write_study(tmp_path / "other")
    file = other / "runs/data/bc/seed-0/policy.pt"
    policy = torch.load(file, weights_only=True)
    policy["algorithm"]["actor"][1, 2] = value
    torch.save(policy, file)
    for tensor_names in (True, False):
        found = comparison.differences(one, other, tensor_names)
        assert found == ["data/bc/seed-0: policy.pt differs"]


def test_compare_checkouts_refuses_unknown_studies_and_checkouts_without_environment(tmp_path: Path) -> None:
    unknown = script("compare_checkouts.py", str(tmp_path), str(tmp_path), "--only", "strem")
    assert unknown.returncode == 2
    assert unknown.stderr == "compare_checkouts: only: no study 'strem'; did you mean 'stream'?\n"
    empty = script("compare_checkouts.py", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out"))
    assert empty.returncode == 2
    assert empty.stderr == (
        f"compare_checkouts: {tmp_path}: no virtual environment; run `make install` in it\n"
    )


# --- proofs of reliability ---


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_few_malformed_files_of_every_format_reveal_no_fault(tmp_path: Path) -> None:
    done = script("fuzz.py", "--files", "60", "--seed", "1", "--out", str(tmp_path / "faults"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "60 malformed files: 0 faults (tracebacks, crashes, hangs, memory)"
    assert {line.split(":")[0] for line in done.stdout.splitlines()} >= {".hdf5", ".npz", ".pkl"}
    assert not (tmp_path / "faults").exists()


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module("fuzz")


def test_the_reader_of_malformed_files_reports_each_fault(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that it starts is replaced by one that does what the name of the file says."""
    monkeypatch.setattr(fuzz, "SECONDS", 0.5)
    monkeypatch.setattr(fuzz, "serve", misbehave)
    reader = fuzz.Reader()
    for name, outcome in (("crash", "crash"), ("traceback", "traceback"), ("memory", "memory")):
        assert reader.read(tmp_path / name, True)[0] == outcome
    assert reader.read(tmp_path / "hang", True)[0] == "hang"
    assert reader.process is None


def misbehave(requests: Any) -> None:
    requests.send("ready")
    while True:
        path, _ = requests.recv()
        if path.name == "crash":
            os._exit(3)
        if path.name == "hang":
            time.sleep(60)
        requests.send((path.name, "", 2 * 10**9 if path.name == "memory" else 0))


@pytest.mark.parametrize(
    ("phases", "online", "reason"),
    [
        ({"offline": 2, "online": 2}, True, None),
        ({"offline": 4}, False, None),
        ({"offline": 4}, True, "no kill in the online phase"),
        ({"between": 1, "online": 3}, True, "no kill in the offline phase"),
        ({"offline": 1, "online": 2}, True, "only 3 of 4 kills"),
        ({}, False, "only 0 of 4 kills"),
    ],
)
def test_chaos_fails_if_it_proves_less_than_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, phases: dict[str, int], online: bool, reason: str | None
) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    found = importlib.import_module("chaos").too_few(Counter(phases), 4, online)
    assert found is None if reason is None else reason in found


def test_there_is_a_figure_of_each_built_in_algorithm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    settings = importlib.import_module("algorithms").SETTINGS
    built_in = {name: plugins.find(name) for name in plugins.names() if not name.startswith("sb3:")}
    assert set(settings) == {name for name, found in built_in.items() if "continuous" in found.action_spaces}
    plugins.parse_all([f"{name}:{text},name={name}" for name, text in settings.items()])
    others = importlib.import_module("discrete").STUDIES
    for study in others.values():
        variants = plugins.parse_all(study.algorithms)
        discrete = {name for name, found in built_in.items() if "discrete" in found.action_spaces}
        assert {variant.algorithm for variant in variants} == {*discrete - {"bc10"}, "sb3:DQN"}
    small = ("--seeds", "0", "--protocol.start", "19800", "--online.steps", "2", "--jobs", "1")
    points = ("--evaluation.points", "1", "--evaluation.episodes", "1")
    done = script("algorithms.py", "td3_bc", *small, *points, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["bc.png", "td3_bc.png"]


def test_algorithms_without_a_figure_are_refused(tmp_path: Path) -> None:
    done = script("algorithms.py", "td3", "--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("algorithms: td3: no algorithm of this name; choose from bc, ")


def test_the_settings_of_the_study_on_shared_data_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    module = importlib.import_module("shared_data")
    for _, environment, datasets, algorithms, updates in module.STUDIES:
        study = module.study(Path("data"), environment, datasets, algorithms, updates)
        assert [v.name for v in plugins.parse_all(study.algorithms)] == list(algorithms)
        assert study.protocol.updates_per_growth == updates
