"""The scripts of experiments/, with little data."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SMALL = [
    *("--algorithms", "bc:hidden=(8,8),name=bc", "--seeds", "0", "1", "--jobs", "1"),
    *("--protocol.start", "19800", "--evaluation.points", "1", "--evaluation.episodes", "1"),
]


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXPERIMENTS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_k_gamma_runs_a_study_for_each_pair(tmp_path: Path) -> None:
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


def test_k_gamma_refuses_what_means_nothing(tmp_path: Path) -> None:
    done = script("k_gamma.py", *SMALL, "--updates-per-growth", "0", "--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == "k_gamma: protocol.updates_per_growth: must be at least 1, not 0\n"


@pytest.mark.parametrize("name", ["figure1", "finetune", "mixed"])
def test_the_papers_figures_are_studies_whose_every_field_is_a_flag(name: str, tmp_path: Path) -> None:
    small = ("--datasets", "pendulum-replay", "--protocol.grow-by", "50")
    online = ("--online.steps", "20") if name == "finetune" else ()
    done = script(f"{name}.py", *SMALL, *small, *online, "--out", str(tmp_path / name))
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / name / "study.json").read_text())
    assert study["online"]["steps"] == (20 if online else 0)
    assert (tmp_path / name / "curves.png").stat().st_size > 5000
    rows = (tmp_path / name / "cells/pendulum-replay/bc/seed-1/rows.jsonl").read_text().splitlines()
    assert [json.loads(row)["samples"] for row in rows] == [19_800, 20_000, 20_020][: 2 + bool(online)]


def test_the_papers_third_figure_is_of_joined_data_that_arrives_in_turn(tmp_path: Path) -> None:
    joined = "mix:pendulum-replay:100+pendulum-replay:1%,name=both"
    small = ("--datasets", joined, "--protocol.grow-by", "50", "--protocol.start", "50")
    done = script("mixed.py", *SMALL, *small, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "study.json").read_text())
    assert (study["protocol"]["order"], study["protocol"]["window"]) == ("segments", 200_000)
    assert study["datasets"]["both"]["segments"] == [100, 200]


@pytest.mark.parametrize(("name", "online"), [("figure1", 0), ("finetune", 500_000)])
def test_the_papers_figures_are_of_twelve_datasets_and_five_algorithms(name: str, online: int) -> None:
    shown = script(f"{name}.py", "--help").stdout
    assert shown.count("-v2") == 12
    assert re.search(r"--online.steps INT.*?default:[^0-9]*(\d+)", shown, re.DOTALL)[1] == str(online)
    assert "awac bc cql iql td3_bc" in shown


def test_the_demo_ends_with_a_table_and_the_figure(tmp_path: Path) -> None:
    done = script("demo.py", *SMALL, "--protocol.grow-by", "50", "--out", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    assert "online" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"figure: {tmp_path}/demo/curves.png")
    assert (tmp_path / "demo" / "curves.png").stat().st_size > 5000


def test_the_benchmark_prints_each_algorithm_and_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "benchmark.json"
    options = (
        "--replicas",
        "1",
        "--rounds",
        "1",
        "--seconds",
        "0.02",
        "--algorithms",
        "bc",
        "--out",
        str(out),
    )
    done = script("benchmark.py", *options)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(out.read_text())["results"]
    assert result["algorithm"] == "bc"
    assert 0.01 < result["share of best 256"] < 1.5
