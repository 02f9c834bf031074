"""Curves over seeds: values computed by hand, and every incomplete seed reported."""

from __future__ import annotations

import pandas as pd
import pytest

from seqeval import analysis
from seqeval.errors import UserError

DATA = 9  # transitions of the dataset; larger n are online


def rows(scores: dict[tuple[str, int, int], float | None], failed: tuple = ()) -> pd.DataFrame:
    """Rows of one study and dataset from {(variant, seed, samples): score}."""
    return pd.DataFrame(
        [
            {
                "study": "s",
                "dataset": "d",
                "variant": variant,
                "seed": seed,
                "phase": "online" if samples > DATA else "offline",
                "samples": samples,
                "score": score,
                "return_mean": None if (variant, seed, samples) in failed else 7.0,
                "status": "failed" if (variant, seed, samples) in failed else "ok",
            }
            for (variant, seed, samples), score in scores.items()
        ]
    )


FULL = {
    ("a", 0, 5): 1.0,
    ("a", 1, 5): 3.0,
    ("a", 0, 9): 4.0,
    ("a", 1, 9): 8.0,
    ("b", 0, 5): 2.0,
    ("b", 0, 9): 6.0,
}


def test_mean_curves_match_hand_computed_values() -> None:
    table = analysis.mean_curves(rows(FULL)).set_index(["variant", "samples"])
    assert table.loc[("a", 5), ["mean", "low", "high", "seeds", "total_seeds"]].tolist() == [
        2.0,
        1.0,
        3.0,
        2,
        2,
    ]
    assert table.loc[("a", 9), ["mean", "low", "high", "seeds", "total_seeds"]].tolist() == [
        6.0,
        4.0,
        8.0,
        2,
        2,
    ]
    assert table.loc[("b", 9), ["mean", "low", "high", "seeds", "total_seeds"]].tolist() == [
        6.0,
        6.0,
        6.0,
        1,
        1,
    ]
    assert set(table["unit"]) == {"score"}


def test_last_points_match_hand_computed_values() -> None:
    table = analysis.last_points(rows(FULL)).set_index("variant")
    assert table.loc["a", ["samples", "mean", "low", "high"]].tolist() == [9, 6.0, 4.0, 8.0]
    assert table.loc["a", "std"] == pytest.approx(8**0.5)
    assert pd.isna(table.loc["b", "std"])


def test_a_failed_seed_is_counted_and_reported_but_not_averaged() -> None:
    scores = FULL | {("a", 1, 9): None}
    found = rows(scores, failed=(("a", 1, 9),))
    table = analysis.mean_curves(found).set_index(["variant", "samples"])
    assert table.loc[("a", 9), ["mean", "seeds", "total_seeds"]].tolist() == [4.0, 1, 2]
    assert table.loc[("a", 5), "unit"] == "score"  # a failed seed does not turn scores into returns
    assert analysis.describe_incomplete(found) == ["d, a, seed 1: failed from n = 9 on"]


def test_a_line_with_only_failed_seeds_is_kept() -> None:
    failed = (("b", 0, 5), ("b", 0, 9))
    found = rows(FULL | dict.fromkeys(failed), failed)
    table = analysis.last_points(found).set_index("variant")
    assert table.loc["b", ["seeds", "total_seeds"]].tolist() == [0, 1]
    assert pd.isna(table.loc["b", "mean"])


def test_a_seed_that_ends_early_is_reported() -> None:
    scores = {key: value for key, value in FULL.items() if key != ("a", 1, 9)}
    assert analysis.describe_incomplete(rows(scores)) == ["d, a, seed 1: ends at n = 5, others at 9"]
    assert analysis.describe_incomplete(rows(FULL)) == []
    assert analysis.describe_incomplete(rows(FULL).assign(planned=9)) == []
    messages = analysis.describe_incomplete(rows(FULL).assign(planned=20))
    assert messages == ["d, a: ends at n = 9 of 20", "d, b: ends at n = 9 of 20"]


def test_a_dataset_without_scores_uses_returns() -> None:
    table = analysis.mean_curves(rows(dict.fromkeys(FULL)))
    assert set(table["unit"]) == {"return"}
    assert set(table["mean"]) == {7.0}


def test_an_unevaluated_dataset_has_no_unit_and_is_not_incomplete() -> None:
    without = rows(dict.fromkeys(FULL)).assign(dataset="bare", return_mean=None)
    both = pd.concat([rows(FULL), without], ignore_index=True)
    assert analysis.unevaluated_datasets(both) == ["bare"]
    assert analysis.unevaluated_datasets(rows(FULL)) == []
    assert (
        analysis.unevaluated_datasets(rows(FULL).assign(return_mean=None)) == []
    )  # scores without returns, as published runs
    table = analysis.last_points(both).set_index(["dataset", "variant"])
    assert table["unit"].tolist() == ["score", "score", "none", "none"]
    assert table.loc[("bare", "a"), ["samples", "seeds", "total_seeds"]].tolist() == [9, 0, 2]
    assert table.loc["bare", "mean"].isna().all()
    assert analysis.describe_incomplete(both) == []
    kept, notes = analysis.complete_rows(both)
    assert kept["dataset"].unique().tolist() == ["d"]
    assert notes == ["not evaluated, so not in the statistics: bare"]
    with pytest.raises(UserError, match="no seed is left for statistics; not evaluated"):
        analysis.complete_rows(without)
    failed = (both["dataset"] == "bare") & (both["variant"] == "b") & (both["samples"] == 9)
    both.loc[failed, "status"] = "failed"
    assert analysis.describe_incomplete(both) == ["bare, b, seed 0: failed from n = 9 on"]


def test_each_phase_of_a_line_has_a_last_point() -> None:
    more = {("a", 0, 12): 5.0, ("a", 1, 12): 7.0, ("a", 0, 10): 0.0, ("a", 1, 10): 0.0}
    table = analysis.last_points(rows(FULL | more))
    found = table[["variant", "phase", "samples", "mean", "std"]].fillna(-1).to_numpy().tolist()
    root = 2**0.5
    assert found == [
        ["a", "offline", 9, 6.0, pytest.approx(2 * root)],
        ["a", "online", 12, 6.0, pytest.approx(root)],
        ["b", "offline", 9, 6.0, -1],
    ]


def test_a_line_without_online_updates_is_frozen() -> None:
    more = {("a", 0, 12): 5.0, ("b", 0, 12): 5.0}
    both = rows(FULL | more)
    assert analysis.frozen_lines(rows(FULL).assign(updates=9)) == set()
    assert analysis.frozen_lines(both.assign(updates=both["samples"])) == set()
    still = both["samples"].clip(upper=9).where(both["variant"] == "a", both["samples"])
    assert analysis.frozen_lines(both.assign(updates=still)) == {("d", "a", "s")}
