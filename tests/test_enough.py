"""`seqeval enough`: sequential tests of a study, and the seeds that they draw."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
from cluster import SMALL, run, run_partly
from conftest import Seqeval, refused

from seqeval import Evaluation, Protocol, Study, UserError, cli
from seqeval.analysis.enough import Design, sequential_tests
from seqeval.execution.storage import StudyDirectory

NOISE = np.random.default_rng(0).normal(0, 1, (3, 40))
DESIGN = Design(per_interim=5, interims=3)


def rows(means: dict[str, float], seeds: int = 5, score: Callable | None = None):
    """Rows on one dataset whose variants have these means, with noise of deviation 1."""
    names = list(means)
    return made_up.rows(
        names, ["one"], seeds, score=lambda v, d, seed, n: means[v] + NOISE[names.index(v), seed]
    )


def test_a_clear_difference_is_decided_and_a_level_pair_is_open() -> None:
    (test,) = sequential_tests(rows({"a": 0.0, "b": 0.1, "c": 9.0}), DESIGN)
    decisions = {(c.first, c.second): c.decision for c in test.comparisons}
    assert decisions == {("a", "b"): "continue", ("a", "c"): "smaller", ("b", "c"): "smaller"}
    assert not test.decided
    assert test.missing == {"a": [5, 6, 7, 8, 9], "b": [5, 6, 7, 8, 9]}  # c needs no more
    assert test.needed == 10
    difference = next(c.difference for c in test.comparisons if c.second == "c")
    assert difference == pytest.approx(-9 + (NOISE[0, :5] - NOISE[2, :5]).mean())


def test_decided_variants_need_no_more_seeds() -> None:
    table = rows({"a": 0.0, "b": 0.1, "c": 9.0}, seeds=15)
    (whole,) = sequential_tests(table, DESIGN)
    table = table[(table["variant"] != "c") | (table["seed"] < 5)]
    (test,) = sequential_tests(table, DESIGN)
    assert test == whole
    assert [c.interims for c in test.comparisons] == [3, 1, 1]
    assert test.decided
    assert test.missing == {}


def test_without_an_interim_nothing_is_decided() -> None:
    (test,) = sequential_tests(rows({"a": 0.0, "b": 100.0}, seeds=3), DESIGN, against="b")
    assert [(c.first, c.second, c.decision, c.difference) for c in test.comparisons] == [
        ("b", "a", "continue", None)
    ]
    assert test.missing == {"a": [3, 4], "b": [3, 4]}


def test_what_cannot_be_tested_is_refused(tmp_path: Path, seqeval: Seqeval) -> None:
    with pytest.raises(UserError, match="no 'z' among the variants; choose from: a, b"):
        sequential_tests(rows({"a": 0.0, "b": 1.0}), DESIGN, against="z")
    with pytest.raises(UserError, match="no two variants"):
        sequential_tests(rows({"a": 0.0}), DESIGN)
    for flags, text in (
        (("--alpha", 2), "alpha: must be between 0 and 1"),
        (("--per-interim", 1), "per_interim: must be at least 2"),
    ):
        assert text in refused(seqeval("enough", tmp_path, *flags))
    assert "no study here" in refused(seqeval("enough", tmp_path))


STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"bc:{SMALL},name=bc", f"td3_bc:{SMALL},alpha=1|2,name=td3"),
    seeds=(0,),
    protocol=Protocol(start=19_990, grow_by=10),
    evaluation=Evaluation(points=1, episodes=1, metrics=("episodes",)),
)


def test_it_draws_seeds_into_the_same_study(tmp_path: Path, seqeval: Seqeval) -> None:
    out = tmp_path / "study"
    run(STUDY, out)
    design = ("enough", out, "--per-interim", 2, "--interims", 2)
    first = seqeval(*design)
    assert first.code == 0
    assert (
        "the first interim needs 2 seeds of each open variant (present: 1 of bc, 1 of td3:alpha=1"
        in first.out
    )
    assert "seeds tested" in first.out.splitlines()[0]
    command = next(line for line in first.out.splitlines() if "seqeval run" in line)
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(command)[1:])
    assert ended.value.code == 0
    assert seeds(out) == {"bc": {0, 1}, "td3:alpha=1": {0, 1}, "td3:alpha=2": {0, 1}}
    last = seqeval(*design, "--run", "--limit", 3, "--jobs", 1)
    assert "the limit of 3 seeds is reached" in last.out
    assert seeds(out)["bc"] == {0, 1}
    last = seqeval(*design, "--run", "--jobs", 1)
    assert "every comparison is decided" in last.out
    assert last.out.count("no difference found") == 3
    assert seeds(out) == {name: {0, 1, 2, 3} for name in seeds(out)}
    assert StudyDirectory(out).study()["algorithms"]["td3:alpha=1"]["sweep"] == "td3"


def test_it_finishes_interrupted_seeds_first(tmp_path: Path, seqeval: Seqeval) -> None:
    out = tmp_path / "study"
    two = replace(STUDY, algorithms=(STUDY.algorithms[0], f"td3_bc:{SMALL},name=td3"), seeds=(0, 1))
    run_partly(two, out, 3)
    design = ("enough", out, "--per-interim", 2, "--interims", 1)
    assert "finish the study, for example with --run" in refused(seqeval(*design))
    assert "every comparison is decided" in seqeval(*design, "--run", "--jobs", 1).out
    assert seeds(out) == {"bc": {0, 1}, "td3": {0, 1}}


def seeds(out: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for row in StudyDirectory(out).rows():
        found.setdefault(row["variant"], set()).add(row["seed"])
    return found
