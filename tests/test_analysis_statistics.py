"""Statistics of curves and their summaries against hand-computed values, and as properties."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqeval import UserError, analysis
from seqeval.analysis import curves, statistics, summaries, tables

Curve = dict[int, float]
DATA = 10  # transitions of every dataset in this file


def rows(runs: dict[tuple[str, str, int], Curve], study: str = "s", unit: str = "score") -> pd.DataFrame:
    """Rows from {(dataset, variant, seed): {n: value}}; beyond n = 10 they are online."""
    return pd.DataFrame(
        [
            {
                "study": study,
                "dataset": dataset,
                "variant": variant,
                "seed": seed,
                "phase": "online" if n > DATA else "offline",
                "samples": n,
                "score": value if unit == "score" else math.nan,
                "return_mean": value,
                "status": "ok",
            }
            for (dataset, variant, seed), curve in runs.items()
            for n, value in curve.items()
        ]
    )


def values(table: pd.DataFrame) -> dict:
    return {(d, v, s): x for d, v, _, s, _, x in table.iloc[:, :6].itertuples(index=False)}


TWO = {
    ("d", "a", 0): {2: 0.0, 6: 10.0, 10: 20.0, 14: 12.0, 18: 30.0},
    ("d", "a", 1): {2: 4.0, 6: 4.0, 10: 8.0},
}


def test_final_values_and_areas_match_hand_computed_values() -> None:
    assert values(analysis.final_values(rows(TWO))) == {("d", "a", 0): 20.0, ("d", "a", 1): 8.0}
    assert values(statistics.online_final_values(rows(TWO))) == {("d", "a", 0): 30.0}
    # (0 + 10)/2 * 4 + (10 + 20)/2 * 4 over 8; (4 + 4)/2 * 4 + (4 + 8)/2 * 4 over 8. Online does not count.
    assert values(statistics.areas(rows(TWO))) == {("d", "a", 0): 10.0, ("d", "a", 1): 5.0}


def test_a_run_of_one_point_has_no_area() -> None:
    assert statistics.areas(rows({("d", "a", 0): {10: 5.0}})).empty


def test_online_gains_and_drops_match_hand_computed_values() -> None:
    curve = {2: 0.0, 10: 50.0, 12: 30.0, 14: 20.0, 18: 90.0}  # the first quarter of eight steps ends at 12
    found = rows({("d", "a", 0): curve, ("d", "a", 1): {2: 1.0, 10: 3.0}})
    assert values(statistics.online_gains(found)) == {("d", "a", 0): 40.0}
    assert values(statistics.online_drops(found)) == {("d", "a", 0): 20.0}
    late = rows({("d", "a", 0): {10: 5.0, 18: 7.0}})  # no point in the first quarter: the first point counts
    assert values(statistics.online_drops(late)) == {("d", "a", 0): -2.0}
    from_scratch = rows({("d", "a", 0): {11: 5.0, 18: 7.0}})
    assert statistics.online_gains(from_scratch).empty


def test_forgetting_matches_hand_computed_values() -> None:
    curve = {0: 0.0, 4: 40.0, 6: 20.0, 8: 60.0, 10: 100.0}
    found = analysis.forgetting(rows({("d", "a", 0): curve}), {"d": [4, 7]})
    assert found["border"].tolist() == [4, 7]
    # From 4 to 7: 40 … 20 over two, 20 … 40 over one. From 7 to 10: 40 … 60 over one, 60 … 100 over two.
    assert found["value"].tolist() == pytest.approx([40 - (30 * 2 + 30) / 3, 40 - (50 + 80 * 2) / 3])
    assert len(analysis.means_over_seeds(found)) == 2


def test_means_over_two_seeds_match_hand_computed_interval() -> None:
    (line,) = analysis.means_over_seeds(analysis.final_values(rows(TWO))).to_dict("records")
    assert (line["estimate"], line["low"], line["high"], line["seeds"]) == (14.0, 8.0, 20.0, 2)


def test_lines_of_different_studies_or_datasets_are_kept_apart() -> None:
    one = rows({("d", "a", 0): {2: 1.0}, ("e", "a", 0): {2: 2.0}}, "s")
    other = rows({("d", "a", 0): {2: 3.0}}, "t")
    found = analysis.means_over_seeds(analysis.final_values(pd.concat([one, other])))
    assert sorted(zip(found["dataset"], found["study"], found["estimate"], strict=True)) == [
        ("d", "s", 1.0),
        ("d", "t", 3.0),
        ("e", "s", 2.0),
    ]


GRID = {
    (dataset, variant, seed): {5: base + seed, 10: 2 * base + seed}
    for dataset, shift in (("d", 0), ("e", 30))
    for variant, level in (("a", 10), ("b", 20))
    for base in (level + shift,)
    for seed in range(4)
}


def test_one_seed_has_no_interval() -> None:
    one = rows({key: curve for key, curve in GRID.items() if key[2] == 0})
    finals = analysis.final_values(one)
    for table in (
        analysis.means_over_seeds(finals),
        analysis.aggregate(finals),
        analysis.probability_of_improvement(finals),
    ):
        assert table["estimate"].notna().all()
        assert table[["low", "high"]].isna().all(axis=None)
    two = rows({key: curve for key, curve in GRID.items() if key[2] == 0 or key[:2] == ("d", "a")})
    assert analysis.aggregate(analysis.final_values(two)).set_index("variant")["low"].notna()["a"].all()


def test_different_regimes_are_reported() -> None:
    both = pd.concat([rows(GRID).assign(regime="stream"), rows(GRID, "t").assign(regime="retrain")])
    assert analysis.complete_rows(both)[1] == ["regimes differ: s stream, t retrain"]
    assert analysis.complete_rows(both[both["study"] == "t"])[1] == []


def test_aggregates_match_hand_computed_values() -> None:
    table = analysis.aggregate(analysis.final_values(rows(GRID))).set_index(["variant", "estimator"])
    # a: 20 … 23 and 80 … 83
    assert table.loc[("a", "mean"), "estimate"] == 51.5
    assert table.loc[("a", "median"), "estimate"] == 51.5
    assert table.loc[("a", "iqm"), "estimate"] == (22 + 23 + 80 + 81) / 4
    assert table.loc[("b", "optimality_gap"), "estimate"] == 100 - (41.5 + 100) / 2
    assert (table["low"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["high"]).all()
    assert table.loc[("a", "mean"), ["datasets", "runs"]].tolist() == [2, 8]


def test_improvement_and_profile_match_hand_computed_values() -> None:
    finals = analysis.final_values(rows(GRID))
    pairs = analysis.probability_of_improvement(finals).set_index(["first", "second"])["estimate"]
    assert pairs["b", "a"] == 1.0
    assert pairs["a", "b"] == 0.0
    profile = analysis.performance_profile(finals, [21.5, 50, 200]).set_index(["variant", "level"])[
        "estimate"
    ]
    assert profile["a"].tolist() == [6 / 8, 4 / 8, 0.0]


@pytest.mark.parametrize("statistic", [analysis.aggregate, analysis.probability_of_improvement])
def test_lines_on_different_datasets_are_refused(statistic: object) -> None:
    partial = {key: curve for key, curve in GRID.items() if key[:2] != ("e", "b")}
    with pytest.raises(ValueError, match="b is not on e"):
        statistic(analysis.final_values(rows(partial)))


def test_returns_of_several_datasets_are_compared_within_each_and_not_averaged() -> None:
    finals = analysis.final_values(rows(GRID, unit="return"))
    with pytest.raises(ValueError, match="only scores"):
        analysis.aggregate(finals)
    pairs = analysis.probability_of_improvement(finals).set_index(["first", "second"])["estimate"]
    assert pairs["b", "a"] == 1.0
    least = analysis.probability_of_improvement(finals, lower_is_better=True)
    assert least.set_index(["first", "second"])["estimate"]["a", "b"] == 1.0


def test_aggregate_curves_equal_aggregate_at_every_share() -> None:
    found = rows(GRID)
    curves = analysis.aggregate_curves(found, {"d": 10, "e": 10}, repetitions=50)
    assert sorted(set(curves["share"])) == [0.5, 1.0]
    for share, n in ((0.5, 5), (1.0, 10)):
        expected = analysis.aggregate(analysis.final_values(found[found["samples"] == n]), repetitions=50)
        both = curves[curves["share"] == share].merge(expected, on=["variant", "study", "estimator"])
        assert len(both) == 8
        for column in ("estimate", "low", "high"):
            assert both[f"{column}_x"].to_numpy() == pytest.approx(both[f"{column}_y"].to_numpy())


def test_curves_are_compared_inside_their_common_range() -> None:
    runs = {("d", "a", 0): {2: 0.0, 10: 8.0}, ("e", "a", 0): {10: 0.0, 15: 5.0, 20: 20.0}}
    found = rows(runs).assign(phase="offline")
    curves = analysis.aggregate_curves(found, {"d": 10, "e": 20}, ["mean"], repetitions=10)
    # d has shares 0.2 to 1, e 0.5 to 1: the union inside is 0.5, 0.75, 1. d is at 3, 5.5, 8 there.
    assert curves["share"].tolist() == [0.5, 0.75, 1.0]
    assert curves["estimate"].tolist() == pytest.approx([1.5, 5.25, 14.0])


@pytest.mark.parametrize("statistic", [analysis.aggregate_curves, analysis.mean_ranks])
def test_curves_without_a_common_share_are_refused(statistic: object) -> None:
    early, late = rows({("d", "a", 0): {2: 0.0, 4: 8.0}}), rows({("d", "b", 0): {9: 0.0, 10: 8.0}}, "t")
    with pytest.raises(UserError, match=r"^no share .*: a of s ends at 40 % of d, b of t begins at 90 %"):
        statistic(pd.concat([early, late]), {"d": 10})


def test_mean_ranks_match_hand_computed_values() -> None:
    runs = {
        ("d", "a", 0): {5: 1.0, 10: 9.0},
        ("d", "b", 0): {5: 2.0, 10: 2.0},
        ("d", "c", 0): {5: 2.0, 10: 1.0},
        ("e", "a", 0): {5: 1.0, 10: 9.0},
        ("e", "b", 0): {5: 0.0, 10: 2.0},
        ("e", "c", 0): {5: 3.0, 10: 3.0},
    }
    table = analysis.mean_ranks(rows(runs), {"d": 10, "e": 10}, repetitions=10).set_index(
        ["variant", "share"]
    )
    assert table["estimate"].to_dict() == {
        ("a", 0.5): 2.5,  # third and second
        ("a", 1.0): 1.0,
        ("b", 0.5): 2.25,  # first with c, third
        ("b", 1.0): 2.5,
        ("c", 0.5): 1.25,
        ("c", 1.0): 2.5,
    }


def test_mean_ranks_of_level_runs_are_in_the_middle() -> None:
    """The means differ (4 and 3), but a run of either line is better half of the time."""
    runs = {
        ("d", v, s): {10: x} for v, xs in {"a": (2.0, 6.0), "b": (3.0, 3.0)}.items() for s, x in enumerate(xs)
    }
    table = analysis.mean_ranks(rows(runs), {"d": 10})
    assert table[["variant", "estimate"]].to_numpy().tolist() == [["a", 1.5], ["b", 1.5]]
    assert table.iloc[0][["low", "high"]].tolist() == [1, 2]  # seed 1 drawn twice, seed 0 drawn twice


@given(
    st.integers(1, 6).flatmap(
        lambda seeds: st.lists(  # by line, dataset and seed
            st.lists(st.lists(st.floats(-9, 9), min_size=seeds, max_size=seeds), min_size=3, max_size=3),
            min_size=2,
            max_size=5,
        )
    )
)
@settings(max_examples=60)
def test_a_mean_rank_lies_inside_its_interval_and_all_add_up(scores: list[list[list[float]]]) -> None:
    runs = {
        (dataset, str(line), seed): {10: value}
        for line, of_line in enumerate(scores)
        for dataset, values in zip("def", of_line, strict=True)
        for seed, value in enumerate(values)
    }
    table = analysis.mean_ranks(rows(runs), dict.fromkeys("def", 10), repetitions=300)
    assert (table["low"] <= table["estimate"] + 1e-9).all()
    assert (table["estimate"] <= table["high"] + 1e-9).all()
    lines = len(scores)
    assert table["estimate"].sum() == pytest.approx(lines * (lines + 1) / 2)


def test_samples_to_level_match_hand_computed_values() -> None:
    found = rows({("d", "a", 0): {2: 0.0, 6: 10.0, 10: 20.0}, ("d", "a", 1): {2: 0.0, 6: 10.0, 10: 40.0}})
    (line,) = curves.samples_to_level(found, level=5).to_dict("records")
    assert (line["estimate"], line["low"], line["high"]) == (4.0, 4.0, 4.0)
    (line,) = curves.samples_to_level(found, level=20).to_dict("records")  # the mean goes from 10 to 30
    assert line["estimate"] == 8.0
    assert (line["low"], line["high"]) == (6 + 4 / 3, 10.0)  # seed 1 drawn twice, seed 0 drawn twice
    (line,) = curves.samples_to_level(found, level=35).to_dict("records")
    assert (line["estimate"], line["high"]) == (math.inf, math.inf)
    assert math.isfinite(line["low"])
    (line,) = curves.samples_to_level(found, share=0.5).to_dict("records")
    assert (line["level"], line["estimate"]) == (15.0, 7.0)
    (line,) = curves.samples_to_level(found, level=-5).to_dict("records")
    assert line["estimate"] == 2.0
    assert curves.samples_to_level(rows({("d", "a", 0): {2: -9.0, 10: -1.0}}), share=0.5).empty
    with pytest.raises(ValueError, match="give a level or a share"):
        curves.samples_to_level(found)


def test_overtakings_match_hand_computed_values() -> None:
    runs = {
        ("d", "a", 0): {2: 0.0, 4: 10.0, 6: 0.0, 10: 40.0},
        ("d", "b", 0): {2: 5.0, 10: 5.0},
        ("d", "c", 0): {2: -1.0, 10: 5.0},
    }
    table = analysis.overtakings(rows(runs)).set_index(["ahead", "behind"])
    assert table.loc[("a", "b"), "estimate"] == 6.5  # below 5 at 6 for the last time, 40 at 10
    assert table.loc[("a", "b"), "holds"] == 1.0
    assert table.loc[("a", "c"), "estimate"] == pytest.approx(6 + 4 * 2 / (2 + 35))  # c is at 2, then 5
    assert ("b", "c") not in table.index  # level at the end
    always_ahead = rows({("d", "a", 0): {2: 1.0, 10: 2.0}, ("d", "b", 0): {3: 0.0, 10: 0.0}})
    assert analysis.overtakings(always_ahead)["estimate"].tolist() == [3.0]


def test_an_overtaking_that_depends_on_one_seed_has_an_infinite_end() -> None:
    seeds = {("d", "a", 0): {2: 0.0, 10: 40.0}, ("d", "a", 1): {2: 0.0, 10: 1.0}}
    found = rows(seeds | {("d", "b", 0): {2: 5.0, 10: 5.0}})
    (line,) = analysis.overtakings(found).to_dict("records")
    assert (line["ahead"], line["high"]) == ("a", math.inf)
    assert 0.6 < line["holds"] < 0.9  # not in the quarter of the repetitions that draw seed 1 only


def test_mean_difference_matches_hand_computed_value() -> None:
    ours = analysis.final_values(rows({("d", "a", 0): {10: 9.0}, ("d", "a", 1): {10: 5.0}}))
    theirs = analysis.final_values(rows({("d", "a", 3): {10: 1.0}}, "published"))
    assert summaries.mean_difference(ours, theirs) == (6.0, 4.0, 8.0)


def test_incomplete_seeds_are_refused_or_left_out_by_name() -> None:
    whole = {("d", "a", seed): {2: 1.0, 6: 2.0, 10: 3.0} for seed in range(6)}
    found = rows(whole)
    assert analysis.complete_rows(found)[1] == []
    short = found[~((found["seed"] == 1) & (found["samples"] == 10))]
    gappy = short[~((short["seed"] == 2) & (short["samples"] == 6))].copy()
    gappy.loc[gappy["seed"] == 3, ["score", "return_mean"]] = math.nan
    gappy.loc[(gappy["seed"] == 4) & (gappy["samples"] == 6), "status"] = "failed"
    gappy.loc[(gappy["seed"] == 4) & (gappy["samples"] == 6), ["score", "return_mean"]] = math.nan
    messages = analysis.describe_incomplete(gappy)
    assert messages == [
        "d, a, seed 1: ends at n = 6, others at 10",
        "d, a, seed 2: 1 of 3 points are missing",
        "d, a, seed 3: no value at n = 2",
        "d, a, seed 4: failed from n = 6 on",
    ]
    with pytest.raises(UserError, match=r"seed 1: ends at n = 6, others at 10 \(and 3 more\)"):
        analysis.complete_rows(gappy)
    kept, notes = analysis.complete_rows(gappy, leave_out=True)
    assert set(kept["seed"]) == {0, 5}
    assert len(notes) == 4
    with pytest.raises(UserError, match="no seed is left"):
        analysis.complete_rows(gappy[gappy["seed"] == 3], leave_out=True)
    with pytest.raises(ValueError, match="values are missing"):
        analysis.final_values(gappy)


def test_datasets_that_cannot_be_compared_are_left_out_by_name() -> None:
    partial = {key: curve for key, curve in GRID.items() if key[:2] != ("e", "b")}
    kept, notes = analysis.comparable_rows(rows(partial))
    assert set(kept["dataset"]) == {"d"}
    assert notes == ["not in every line, so not in statistics over datasets: e"]
    plain = rows({("f", v, s): {5: 1.0, 10: 2.0} for v in "ab" for s in range(4)}, unit="return")
    kept, notes = analysis.comparable_rows(pd.concat([rows(GRID), plain]))
    assert set(kept["dataset"]) == {"d", "e"}
    assert notes == ["no scores, so not in statistics over datasets: f"]
    with pytest.raises(UserError, match="nothing to compare over datasets: no scores"):
        analysis.comparable_rows(plain)


def test_unequal_seeds_and_ends_are_reported() -> None:
    runs = {key: curve for key, curve in GRID.items() if key != ("e", "b", 3)}
    shorter = {key: ({5: 1.0, 9: 2.0} if key[:2] == ("d", "a") else curve) for key, curve in runs.items()}
    _, notes = analysis.comparable_rows(rows(shorter))
    assert notes == [
        "3 to 4 seeds per line: every dataset has the same weight, whatever its number of seeds",
        "d: lines end at n = 9, 10; each is taken at its own end",
    ]


# --- the registry ---


@pytest.mark.parametrize("statistic", analysis.STATISTICS.values(), ids=analysis.STATISTICS)
def test_every_statistic_gives_an_estimate_per_line(statistic: statistics.Statistic) -> None:
    found = rows({(d, v, s): {2: s, 10: 5 + s, 18: 9 + s} for d in "de" for v in "ab" for s in range(3)})
    table = statistic.estimates(found.assign(**{"train/regret": 0.25}))
    assert {"dataset", "variant", "study", "unit", "estimate", "low", "high"} <= set(table)
    assert sorted(zip(table["dataset"], table["variant"], strict=True)) == [*product("de", "ab")]
    assert (table["low"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["high"]).all()
    assert ("value" in statistic.compute(found)) == statistic.of_runs


def test_regret_is_that_of_the_last_online_row_and_lower_is_better() -> None:
    curve = {2: 0.0, 10: 5.0, 14: 9.0, 18: 9.0}
    found = rows({("d", v, s): curve for v in "abc" for s in range(3)}).assign(
        updates=lambda rows: rows["samples"]
    )
    regrets = {"a": {14: 0.9, 18: 0.5}, "b": {14: 0.1, 18: 0.25}, "c": {}}  # c reports no success
    found["train/regret"] = [
        regrets[variant].get(n, math.nan)
        for variant, n in zip(found["variant"], found["samples"], strict=True)
    ]
    values = statistics.online_regrets(found)
    assert values[["variant", "seed", "value"]].to_numpy().tolist() == [
        *(["a", 0, 0.5], ["a", 1, 0.5], ["a", 2, 0.5]),
        *(["b", 0, 0.25], ["b", 1, 0.25], ["b", 2, 0.25]),
    ]
    assert set(values["unit"]) == {"share"}
    table, _ = tables.collect(found)
    of_regret = table[table["statistic"] == "regret"].set_index("variant")
    assert of_regret["best"].to_dict() == {"a": False, "b": True}
    assert "the lowest value of a row" in tables.markdown(table[table["statistic"] == "regret"])
    assert statistics.online_regrets(found.drop(columns="train/regret")).empty


def test_a_new_statistic_is_one_function_and_appears_in_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "STATISTICS", analysis.STATISTICS.copy())
    monkeypatch.setattr(tables, "STATISTICS", statistics.STATISTICS)

    @statistics.statistic("doubled", "doubled", "at the end of the data, doubled")
    def doubled(rows: pd.DataFrame) -> pd.DataFrame:
        found = analysis.final_values(rows)
        return found.assign(value=2 * found["value"])

    table, _ = tables.collect(rows(GRID).assign(updates=1))
    by_statistic = table.set_index(["statistic", "dataset", "estimator", "variant"])["estimate"]
    assert list(table["statistic"].unique()) == ["final", "area", "doubled"]
    assert by_statistic["doubled"].to_list() == pytest.approx((2 * by_statistic["final"]).to_list())
    assert "Score at the end of the data, doubled." in tables.markdown(table)


# --- properties ---

heights = st.lists(st.floats(-50, 150, width=32), min_size=3, max_size=8)


@settings(max_examples=40, deadline=None)
@given(heights)
def test_an_area_lies_between_lowest_and_highest_and_does_not_depend_on_the_scale_of_x(
    curve: list[float],
) -> None:
    n = np.linspace(1, DATA, len(curve)).round(3)
    found = rows({("d", "a", 0): dict(zip(n.tolist(), curve, strict=True))})
    (area,) = statistics.areas(found)["value"]
    assert min(curve) - 1e-6 <= area <= max(curve) + 1e-6
    doubled = rows({("d", "a", 0): dict(zip((2 * n).tolist(), curve, strict=True))}).assign(phase="offline")
    assert statistics.areas(doubled)["value"].tolist() == pytest.approx([area])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-50, 150), min_size=3, max_size=8), st.integers(-50, 150))
def test_a_curve_has_the_level_where_it_first_reaches_it(curve: list[int], level: int) -> None:
    found = rows({("d", "a", 0): dict(enumerate(curve, 1))})
    (n,) = curves.samples_to_level(found, level=level, repetitions=1)["estimate"]
    x = np.arange(1, len(curve) + 1)
    if math.isinf(n):
        assert max(curve) < level
    elif n > 1:
        assert np.interp(n, x, curve) == pytest.approx(level, abs=1e-4)
        assert all(value < level for value in np.array(curve)[x < n - 1e-9])
    else:
        assert curve[0] >= level


@given(st.integers(0, 3))
def test_intervals_of_a_line_do_not_depend_on_other_lines(left_out: int) -> None:
    some = {key: curve for key, curve in GRID.items() if key[1] == "a" or left_out == 0}
    whole = analysis.aggregate(analysis.final_values(rows(GRID)), repetitions=20)
    part = analysis.aggregate(analysis.final_values(rows(some)), repetitions=20)
    expected = whole[whole["variant"] == "a"].reset_index(drop=True)
    assert part[part["variant"] == "a"].reset_index(drop=True).equals(expected)


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_statistics_do_not_depend_on_the_order_of_the_rows(random: object) -> None:
    found = rows(GRID)
    order = list(range(len(found)))
    random.shuffle(order)
    shuffled = found.iloc[order]
    sizes = {"d": DATA, "e": DATA}
    for statistic in (
        lambda r: analysis.means_over_seeds(statistics.areas(r), 20),
        lambda r: analysis.aggregate_curves(r, sizes, repetitions=5),
        lambda r: curves.samples_to_level(r, share=0.9, repetitions=5),
    ):
        expected, other = statistic(found), statistic(shuffled)
        keys = [name for name in expected if expected[name].dtype == "str"]
        pd.testing.assert_frame_equal(
            expected.sort_values(keys, kind="stable", ignore_index=True),
            other.sort_values(keys, kind="stable", ignore_index=True),
        )
