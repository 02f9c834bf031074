"""Expected best of k, choice by a bandit, and AdaStop, against golden numbers and by hand."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import made_up
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqeval.analysis import bandit, tuning
from seqeval.analysis.adastop import adastop
from seqeval.errors import UserError
from seqeval.types import Reference


def golden(shared: Path, name: str) -> dict:
    return json.loads((shared / "golden" / f"{name}.json").read_text())


def test_expected_best_matches_published_curves(shared: Path) -> None:
    for case in golden(shared, "eop")["cases"]:
        found = tuning.expected_best(np.array(case["scores"]), case["n"])
        assert found == pytest.approx(case["expected_max"], rel=1e-12)


def test_released_sweep_of_rebrac_reproduces_its_published_curve(shared: Path) -> None:
    released = pd.read_csv(shared / "published" / "rebrac_eop.csv.gz")
    cases = {case["name"]: case for case in golden(shared, "eop")["cases"]}
    sweep = released[(released["algorithm"] == "ReBRAC") & (released["dataset"] == "hopper-medium-v2")]
    case = cases["rebrac_hopper_medium"]
    found = tuning.expected_best(sweep["score"].to_numpy(), case["n"])
    assert found == pytest.approx(case["expected_max"], abs=1e-6)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=4), st.integers(1, 4))
def test_expected_best_is_the_mean_over_all_draws(values: list[int], k: int) -> None:
    draws = [max(draw) for draw in product(values, repeat=k)]
    assert tuning.expected_best(np.array(values, float), [k]) == pytest.approx([np.mean(draws)])


@pytest.mark.parametrize(
    "name",
    [
        "constant_arms",
        "noisy_arms",
        "subsampled_arms",
        "equal_arms",
        "small_exploration",
        "unnormalised_returns",
    ],
)
def test_bandit_follows_the_golden_cases(shared: Path, name: str) -> None:
    case = next(case for case in golden(shared, "bandit")["cases"] if case["name"] == name)
    returns = np.array(case["returns"])[case["arms"]][None]
    ties, episodes = np.array(case["tie_uniforms"])[None], np.array(case["episode_index"])[None]
    pulled, best = bandit.pull_order(returns, ties, episodes, case["alpha"])
    assert pulled[0].tolist() == case["pulled"]
    assert best[0].tolist() == case["best"]


def test_bandit_deploys_only_arms_that_were_pulled(shared: Path) -> None:
    case = next(case for case in golden(shared, "bandit")["cases"] if case["name"] == "negative_returns")
    returns = np.array(case["returns"])[case["arms"]][None]
    ties, episodes = np.array(case["tie_uniforms"])[None], np.array(case["episode_index"])[None]
    pulled, best = bandit.pull_order(returns, ties, episodes, case["alpha"])
    assert pulled[0].tolist() == case["pulled"]
    assert all(best[0, k] in pulled[0, : k + 1] for k in range(len(best[0])))
    assert not all(b in case["pulled"][: k + 1] for k, b in enumerate(case["best"]))  # the original's fault


def test_bandit_has_its_exact_expectation_on_constant_arms(shared: Path) -> None:
    case = golden(shared, "bandit")["exact_expectation"]
    values = bandit.deployed_values(np.array(case["returns"]), 8, 4000, np.random.default_rng(0))
    assert values.mean(axis=0) == pytest.approx(case["mean_reported"], abs=0.1)
    assert (values[:, 4:] == 5).all()


def test_bandit_agrees_with_the_original_in_distribution(shared: Path) -> None:
    case = golden(shared, "bandit")["monte_carlo"]
    returns, trials = np.array(case["returns"]), 4000
    rng = np.random.default_rng(0)
    values = bandit.deployed_values(returns, len(case["pull"]), trials, rng, case["num_subsample"])
    error = np.sqrt(values.var(axis=0) / trials + np.square(case["standard_error"]))
    assert np.abs((values.mean(axis=0) - case["mean_reported"]) / error).max() < 5


@pytest.mark.parametrize("name", ["clear_difference", "level", "three_agents", "against_the_first"])
def test_adastop_decides_as_the_golden_cases(shared: Path, name: str) -> None:
    case = next(case for case in golden(shared, "adastop")["cases"] if case["name"] == name)
    scores = [np.array(values) for values in case["scores"].values()]
    pairs = [(first, second) for first, second in case["comparisons"]]
    found = adastop(scores, pairs, case["n"], case["K"], case["alpha"], np.random.default_rng(0))
    assert len(found) == len(case["absolute"])
    for interim, expected in zip(found, case["absolute"], strict=True):
        assert list(interim.decisions) == expected["decisions"]
        assert list(interim.statistics) == pytest.approx(expected["statistic"])
        assert interim.boundary == pytest.approx(expected["boundary"], abs=1e-9)
        assert interim.level_spent == pytest.approx(expected["level_spent"], abs=1e-12)


def test_adastop_with_random_permutations_keeps_its_level() -> None:
    """With too many permutations to enumerate, a difference is still found and equal agents rarely differ."""
    rng = np.random.default_rng(1)
    alike, better = rng.normal(0, 1, (2, 20)), rng.normal(3, 1, 20)
    found = adastop([*alike, better], [(0, 1), (0, 2)], 10, 2, 0.05, rng)[-1]
    assert found.decisions == ("equal", "smaller")
    assert found.level_spent <= 0.05


def sweep(value: dict[str, float], **columns: object) -> pd.DataFrame:
    """Rows of one algorithm whose variants have these values, plus the seed, at every size."""
    rows = made_up.rows(list(value), ["one"], 2, score=lambda variant, _, seed, n: value[variant] + seed)
    return rows.assign(algorithm="iql", **columns)


def test_best_of_k_by_hand() -> None:
    table = tuning.best_of_k(sweep({"a": 10.0, "b": 20.0, "c": 40.0}))
    end = table[table["samples"] == made_up.SIZE].set_index("k")
    assert list(end.index) == [1, 2, 3]
    # Means over the seeds: 10.5, 20.5, 40.5; with k = 2: (1·10.5 + 3·20.5 + 5·40.5) / 9.
    assert end["estimate"].tolist() == pytest.approx(
        [71.5 / 3, 274.5 / 9, (10.5 + 7 * 20.5 + 19 * 40.5) / 27]
    )
    assert (end["low"] < end["estimate"]).all()
    assert (end["estimate"] < end["high"]).all()
    assert set(end["settings"]) == {3}


def test_settings_share_the_resampled_seeds() -> None:
    """Settings whose values differ by seed alone gain nothing by k, nor do their intervals."""
    table = tuning.best_of_k(sweep({"a": 10.0, "b": 10.0, "c": 10.0}))
    for _, part in table.groupby("samples"):
        assert part["estimate"].tolist() == pytest.approx([10.5] * 3)
        assert part["low"].tolist() == pytest.approx([10.0] * 3)
        assert part["high"].tolist() == pytest.approx([11.0] * 3)


def test_k_beyond_the_settings_is_refused() -> None:
    with pytest.raises(UserError, match="4 settings cannot be chosen from the 3 of iql on one"):
        tuning.best_of_k(sweep({"a": 1.0, "b": 2.0, "c": 3.0}), [1, 4])
    with pytest.raises(UserError, match="no algorithm has several settings"):
        tuning.best_of_k(sweep({"a": 1.0}))


def test_choices_by_hand() -> None:
    rows = sweep({"a": 10.0, "b": 20.0, "c": 40.0})
    rows["loss"] = rows["variant"].map({"a": 3.0, "b": 1.0, "c": 2.0})
    rows["flat"] = 1.0
    rows["partial"] = rows["variant"].map({"a": 3.0, "b": 1.0})
    rows["episode_returns"] = [[2 * score] * 3 for score in rows["score"]]
    table = tuning.choices(
        rows, {"loss": False, "flat": True, "partial": True}, {"one": Reference(0.0, 200.0, "")}, (1, 3)
    )
    end = table[table["samples"] == made_up.SIZE].set_index("rule")["estimate"]
    assert end["oracle"] == pytest.approx(40.5)
    assert end["random"] == end["flat"] == pytest.approx(71.5 / 3)
    assert end["loss"] == pytest.approx(20.5)
    assert "partial" not in end
    assert end["bandit 3"] == pytest.approx(40.5)  # constant returns: three pulls try all settings
    assert end["bandit 1"] == pytest.approx(71.5 / 3, abs=2)
