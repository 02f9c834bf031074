"""Rank correlation and regret of metrics with true values, code lengths, and metrics as values."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from seqeval.analysis import agreement, declared_metrics, with_code_length, with_metric
from seqeval.analysis.agreement import RANDOM, random_regret, regret, spearman
from seqeval.errors import UserError

DECLARED = {
    "eval/up": {"unit": "return", "better": "higher"},
    "eval/down": {"unit": "nats", "better": "lower"},
    "eval/neither": {"unit": "transitions", "better": None},
}


def table(values: dict[str, list[float]], **metrics: dict[str, list[float]]) -> pd.DataFrame:
    """Rows at n = 100: for each variant a score and metrics for each seed."""
    rows: list[dict[str, Any]] = []
    for variant, scores in values.items():
        for seed, score in enumerate(scores):
            found = {f"eval/{name}": of[variant][seed] for name, of in metrics.items()}
            rows.append(
                {
                    "study": "s",
                    "dataset": "d",
                    "variant": variant,
                    "seed": seed,
                    "phase": "offline",
                    "samples": 100,
                    "status": "ok",
                    "score": score,
                    "return_mean": score,
                    **found,
                }
            )
    return pd.DataFrame(rows)


def estimates(found: pd.DataFrame, metric: str) -> dict[str, float]:
    chosen = found[found["metric"] == metric]
    return dict(zip(chosen["statistic"], chosen["estimate"], strict=True))


def test_by_hand() -> None:
    scores = {"a": [10.0], "b": [30.0], "c": [20.0], "d": [50.0]}
    up = {"a": [1.0], "b": [4.0], "c": [3.0], "d": [2.0]}  # the best run is third
    found = agreement(table(scores, up=up), DECLARED, top=(1, 2, 3))
    # Ranks (1, 4, 3, 2) and (1, 3, 2, 4): 1 - 6 Σd² / (n (n² - 1)) = 1 - 6 · 6 / 60.
    assert estimates(found, "eval/up") == pytest.approx(
        {"spearman": 0.4, "regret@1": 20.0, "regret@2": 20.0, "regret@3": 0.0}
    )
    assert (found["runs"].unique().tolist(), found["ranked"].unique().tolist()) == ([4], [4])
    # At random: 50 less the mean of 10, 20, 30, 50; of pairs the best are 20, 30, 30, 50, 50, 50.
    assert estimates(found, RANDOM) == pytest.approx(
        {"regret@1": 22.5, "regret@2": 50 - 230 / 6, "regret@3": 50 - (30 + 3 * 50) / 4}
    )
    assert found[["low", "high"]].isna().all(axis=None)  # one seed of each has no spread


def test_a_metric_that_is_better_low_is_turned_around() -> None:
    scores = {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    down = {name: [-value for value in values] for name, values in scores.items()}
    found = agreement(table(scores, up=scores, down=down, neither=scores), DECLARED)
    for name in ("eval/up", "eval/down"):
        assert estimates(found, name) == {"spearman": 1.0, "regret@1": 0.0, "regret@3": 0.0}
    assert set(found["metric"]) == {"eval/up", "eval/down", RANDOM}


def test_runs_without_the_metric_are_never_chosen_but_may_be_the_best() -> None:
    scores = {"a": [10.0], "b": [20.0], "best": [90.0]}
    found = agreement(table(scores, up={"a": [1.0], "b": [2.0], "best": [np.nan]}), DECLARED)
    assert estimates(found, "eval/up") == {"spearman": 1.0, "regret@1": 70.0, "regret@3": 70.0}
    assert set(found["runs"]) == {3}
    assert set(found.loc[found["metric"] == "eval/up", "ranked"]) == {2}


def test_of_runs_with_an_equal_metric_the_worst_is_chosen_first() -> None:
    assert regret(np.array([[1.0, 1.0, 0.0]]), np.array([[5.0, 3.0, 9.0]]), 1).tolist() == [6.0]
    assert np.isnan(regret(np.full((1, 2), np.nan), np.ones((1, 2)), 1)).all()


def test_intervals_resample_the_seeds_of_each_line() -> None:
    rng = np.random.default_rng(0)
    scores = {name: (level + rng.normal(size=8)).tolist() for name, level in (("a", 0), ("b", 1), ("c", 2))}
    noisy = {name: (np.array(of) + rng.normal(size=8)).tolist() for name, of in scores.items()}
    rows = table(scores, up=noisy, down=noisy)
    found = agreement(rows, DECLARED, repetitions=300)
    pd.testing.assert_frame_equal(
        found, agreement(rows.sample(frac=1, random_state=1), DECLARED, repetitions=300)
    )
    of_up = found[found["metric"] == "eval/up"].set_index("statistic")
    assert of_up.loc["spearman", "low"] < of_up.loc["spearman", "estimate"] < of_up.loc["spearman", "high"]
    of_down = found[found["metric"] == "eval/down"].set_index("statistic")
    assert of_down.loc["spearman", "low"] == pytest.approx(-of_up.loc["spearman", "high"])


def test_every_x_has_its_own_numbers() -> None:
    scores = {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    opposite = {name: [-value for value in values] for name, values in scores.items()}
    later = table(scores, up=opposite).assign(samples=200)
    found = agreement(pd.concat([table(scores, up=scores), later]), DECLARED)
    of = found[found["statistic"] == "spearman"].set_index("samples")["estimate"]
    assert of.to_dict() == {100: 1.0, 200: -1.0}


@given(arrays(float, (2, 5), elements=st.integers(0, 6)), st.integers(1, 7))
def test_the_regret_of_a_random_choice_is_the_mean_over_all_choices(value: np.ndarray, k: int) -> None:
    expected = [row.max() - np.mean([max(c) for c in combinations(row, min(k, 5))]) for row in value]
    np.testing.assert_allclose(random_regret(value, k), expected, atol=1e-12)


@given(arrays(float, (1, 9), elements=st.integers(0, 6)), arrays(float, (1, 9), elements=st.integers(0, 6)))
def test_the_correlation_is_that_of_pandas(metric: np.ndarray, value: np.ndarray) -> None:
    ranks = [pd.Series(values[0]).rank() for values in (metric, value)]
    if min(values.nunique() for values in ranks) == 1:
        assert np.isnan(spearman(metric, value)[0])
    else:
        assert spearman(metric, value)[0] == pytest.approx(ranks[0].corr(ranks[1]), abs=1e-12)


@given(arrays(float, (3, 7), elements=st.floats(-5, 5)), arrays(float, (3, 7), elements=st.floats(-5, 5)))
def test_regret_falls_with_k_to_zero(metric: np.ndarray, value: np.ndarray) -> None:
    of = [regret(metric, value, k) for k in range(1, 8)]
    assert all((after <= before).all() for before, after in pairwise(of))
    assert (of[0] >= 0).all()
    np.testing.assert_array_equal(of[-1], 0)


def test_without_true_values_or_metrics_there_is_one_line() -> None:
    rows = table({"a": [1.0], "b": [2.0]}, up={"a": [1.0], "b": [2.0]})
    with pytest.raises(UserError, match="no run has returns to compare metrics with; evaluate episodes"):
        agreement(rows.assign(score=np.nan, return_mean=np.nan), DECLARED)
    with pytest.raises(UserError, match="no run with returns has a metric; add some"):
        agreement(rows.drop(columns="eval/up"), DECLARED)
    one = table({"a": [1.0]}, up={"a": [1.0]})
    with pytest.raises(UserError, match=r"needs at least 2 runs .* that have a metric and returns"):
        agreement(one, DECLARED)
    found = agreement(pd.concat([rows, one.assign(dataset="e")]), DECLARED)
    assert found["dataset"].unique().tolist() == ["d"]  # no random choice without a metric beside it


def test_a_likelihood_of_deterministic_policies_is_refused_in_one_line() -> None:
    rows = table({"td3_bc": [1.0]}, prequential_squared_error={"td3_bc": [1.0]})
    declared = {"eval/prequential_nll": {"unit": "nats", "better": "lower"}}
    with pytest.raises(
        UserError,
        match=r"eval/prequential_nll: no run of td3_bc has this metric, since their policies are "
        r"deterministic; choose one of: score, return, eval/prequential_squared_error",
    ):
        with_metric(rows, "eval/prequential_nll", declared)
    with pytest.raises(UserError, match="did you mean 'eval/prequential_squared_error'"):
        with_metric(rows, "eval/prequential_square_error", declared)


def test_metrics_are_values_with_their_unit() -> None:
    rows = table({"a": [1.0, 2.0]}, up={"a": [7.0, np.nan]})
    found = with_metric(rows, "eval/up", declared_metrics([{}, {"metrics": DECLARED}]))
    assert found[["seed", "unit", "better"]].to_numpy().tolist() == [[s, "return", "higher"] for s in (0, 1)]
    np.testing.assert_array_equal(found["value"], [7.0, np.nan])  # the missing one is not hidden


def test_code_lengths_by_hand() -> None:
    def run(seed: int, nll: list[float]) -> pd.DataFrame:
        rows = {"samples": [10, 20, 40], "eval/prequential_nll": nll}
        rows |= {"eval/prequential_transitions": [10, 20, np.nan], "seed": seed, "phase": "offline"}
        return pd.DataFrame(rows).assign(dataset="d", variant="v", study="s")

    rows = pd.concat(
        [run(0, [2.0, 0.5, np.nan]), run(1, [np.nan, 1.0, np.nan]), run(2, [np.nan] * 3)], ignore_index=True
    )
    found = with_code_length(rows.sample(frac=1, random_state=0)).sort_index()
    lengths = found["eval/prequential_code_length"].to_numpy()
    np.testing.assert_array_equal(lengths[:3], [0.0, 20.0, 30.0])
    assert np.isnan(lengths[3:]).all()  # a likelihood that is not finite stays in the sum
    assert with_code_length(rows.drop(columns="eval/prequential_nll")).equals(
        rows.drop(columns="eval/prequential_nll")
    )
