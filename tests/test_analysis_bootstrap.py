"""Estimators and their bootstrap against hand-computed values, against rliable, and as properties."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seqeval.analysis import bootstrap

NAMES = sorted(bootstrap.ESTIMATORS)


def estimate(name: str, values: np.ndarray, strata: np.ndarray) -> float:
    """The estimate of all runs, without a bootstrap."""
    return float(bootstrap.ESTIMATORS[name](values, bootstrap.resample(0, strata), strata)[0])


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return json.loads((shared / "golden" / "rliable.json").read_text())


@pytest.fixture(scope="module")
def golden_runs(golden: dict) -> dict:
    """Values (in points of score), weights and strata of each algorithm."""
    strata = np.tile(np.arange(len(golden["tasks"])), 5)
    return {
        name: (100 * np.ravel(scores), bootstrap.resample(20_000, strata, name), strata)
        for name, scores in golden["scores"].items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_estimates_and_intervals_match_rliable(name: str, golden: dict, golden_runs: dict) -> None:
    for algorithm, runs in golden_runs.items():
        found, low, high = bootstrap.interval(bootstrap.ESTIMATORS[name](*runs))
        assert found / 100 == pytest.approx(golden["aggregates"][algorithm][name], abs=1e-6)
        assert [low / 100, high / 100] == pytest.approx(golden["aggregate_ci"][algorithm][name], abs=0.01)


def test_performance_profiles_match_rliable(golden: dict, golden_runs: dict) -> None:
    levels = 100 * np.array(golden["profile_tau"])
    for algorithm, (values, weights, _) in golden_runs.items():
        found = bootstrap.profile(values, weights[:1], levels)[0]
        assert found == pytest.approx(golden["profile"][algorithm], abs=1e-6)


def test_probabilities_of_improvement_match_rliable(golden: dict, golden_runs: dict) -> None:
    for pair, expected in golden["probability_of_improvement"].items():
        first, second = pair.split(",")
        found, low, high = bootstrap.interval(bootstrap.improvement(golden_runs[first], golden_runs[second]))
        assert found == pytest.approx(expected, abs=1e-6)
        assert [low, high] == pytest.approx(golden["probability_ci"][pair], abs=0.01)


def test_estimates_match_hand_computed_values() -> None:
    values = np.array([0.0, 40.0, 80.0, 120.0, 10.0, 50.0, 90.0, 130.0])  # datasets 0, 0, 1, 1, 0, 0, 1, 1
    strata = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    assert estimate("mean", values, strata) == 65.0
    assert estimate("median", values, strata) == 65.0  # of 25 and 105
    assert estimate("iqm", values, strata) == 65.0  # of 40, 50, 80, 90
    assert estimate("optimality_gap", values, strata) == 100 - (470 / 8)


def test_runs_of_a_dataset_with_fewer_seeds_have_more_weight() -> None:
    values, strata = np.array([0.0, 1.0, 2.0, 90.0, 100.0]), np.array([0, 0, 0, 1, 1])
    assert estimate("mean", values, strata) == (1 + 95) / 2
    # The same as 0, 0, 1, 1, 2, 2 and 90, 90, 90, 100, 100, 100, of which three are cut at each end.
    assert estimate("iqm", values, strata) == pytest.approx((1 + 2 + 2 + 90 + 90 + 90) / 6)
    assert bootstrap.profile(values, bootstrap.resample(0, strata), np.array([1.5])).tolist() == [[4 / 6]]


def test_improvement_matches_hand_computed_value_and_a_tie_counts_half() -> None:
    first = np.array([1.0, 3.0, 5.0]), np.ones((1, 3)), np.array([0, 0, 1])
    second = np.array([2.0, 3.0, 5.0]), np.ones((1, 3)), np.array([0, 0, 1])
    # Dataset 0: 3 beats 2 and ties with 3, of four pairs; dataset 1: a tie.
    assert bootstrap.improvement(first, second)[0] == (1.5 / 4 + 0.5) / 2


def test_a_repetition_resamples_the_seeds_of_each_dataset() -> None:
    strata = np.array([0, 1, 0, 1, 1, 1, 2])
    weights = bootstrap.resample(1000, strata)
    assert weights.shape == (1001, 7)
    assert (weights[0] == [2, 1, 2, 1, 1, 1, 4]).all()  # 2, 4 and 1 seeds; the least common multiple is 4
    for dataset in range(3):
        assert (weights[:, strata == dataset].sum(axis=1) == 4).all()
    # Seeds are equally likely: 1000 repetitions of four draws among four, within five standard deviations.
    drawn = weights[1:, strata == 1].sum(axis=0)
    assert np.abs(drawn - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)


def test_weights_give_the_estimates_of_the_resampled_values() -> None:
    strata = np.repeat(np.arange(3), 4)
    values = np.random.default_rng(1).normal(50, 30, 12)
    weights = bootstrap.resample(200, strata, "line")
    for row in range(1, 201):
        drawn = np.repeat(values, weights[row].astype(int))
        tasks = np.repeat(strata, weights[row].astype(int))
        expected = {
            "mean": drawn.mean(),
            "median": np.median([drawn[tasks == task].mean() for task in range(3)]),
            "iqm": np.sort(drawn)[3:9].mean(),
            "optimality_gap": 100 - np.minimum(drawn, 100).mean(),
        }
        for name, function in bootstrap.ESTIMATORS.items():
            found = function(values, weights[row : row + 1], strata)[0]
            assert found == pytest.approx(expected[name], rel=1e-12)


def test_weights_depend_on_the_key_only() -> None:
    strata = np.zeros(5, int)
    assert (bootstrap.resample(50, strata, "a") == bootstrap.resample(50, strata, "a")).all()
    assert (bootstrap.resample(50, strata, "a") != bootstrap.resample(50, strata, "b")).any()


def test_interval_matches_hand_computed_values_and_keeps_infinite_ends() -> None:
    estimates = np.concatenate(([7.0], np.random.default_rng(0).permutation(np.arange(1.0, 201.0))))
    assert bootstrap.interval(estimates) == (7.0, 5.0, 196.0)  # 5 of 200 at or beyond each end
    estimates[1:][estimates[1:] > 150] = np.inf
    assert bootstrap.interval(estimates) == (7.0, 5.0, np.inf)
    assert bootstrap.interval(np.array([1.0, 2.0])) == (1.0, 2.0, 2.0)


runs = arrays(float, 12, elements=st.floats(-50, 150, width=32))


@given(runs)
def test_estimators_of_curves_equal_those_at_each_x(values: np.ndarray) -> None:
    strata = np.tile(np.arange(3), 4)
    weights = bootstrap.resample(20, strata)
    several = np.stack([values, values[::-1], 2 * values], axis=1)
    for function in bootstrap.ESTIMATORS.values():
        together = function(several, weights, strata)
        for column in range(3):
            single = function(several[:, column], weights, strata)
            assert np.allclose(together[:, column], single, rtol=1e-12, atol=1e-9)


@given(runs, st.floats(-20, 20))
def test_a_shift_of_the_values_shifts_the_estimates(values: np.ndarray, by: float) -> None:
    strata = np.tile(np.arange(3), 4)
    weights = bootstrap.resample(20, strata)
    for name in ("mean", "median", "iqm"):
        moved = bootstrap.ESTIMATORS[name](values + by, weights, strata)
        assert np.allclose(moved, bootstrap.ESTIMATORS[name](values, weights, strata) + by, atol=1e-9)


@given(runs, runs)
def test_probabilities_of_improvement_of_a_pair_add_up_to_one(x: np.ndarray, y: np.ndarray) -> None:
    strata = np.tile(np.arange(3), 4)
    first = x, bootstrap.resample(20, strata, "x"), strata
    second = y, bootstrap.resample(20, strata, "y"), strata
    forward, backward = bootstrap.improvement(first, second), bootstrap.improvement(second, first)
    assert np.allclose(forward + backward, 1, atol=1e-12)


@given(st.permutations(range(12)))
def test_estimates_do_not_depend_on_the_order_of_the_runs(order: list[int]) -> None:
    strata, values = np.tile(np.arange(3), 4), np.linspace(0, 120, 12)
    for name in NAMES:
        assert estimate(name, values[order], strata[order]) == pytest.approx(estimate(name, values, strata))
