"""The report: its data and tables match the rows, and its sentences match the study."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_pages import (
    END,
    HOSTILE,
    TWO,
    ParsedPage,
    dataset,
    embedded,
    embedded_rows,
    final_values,
    make_page,
    make_rows,
    make_study,
    read_csv,
    with_metrics,
    write_big_page,
)
from seqeval.plots import report, style
from seqeval.plots.report import Rerun, _curves, _protocol, _tables

from seqeval import analysis
from seqeval.config import Protocol
from seqeval.errors import UserError


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_big_page(tmp_path_factory.mktemp("big") / "big.html")


@pytest.fixture(scope="module")
def two() -> str:
    return make_page(TWO, make_rows(TWO))


# --- Embedded data ---


def test_the_embedded_data_match_the_rows(two: str) -> None:
    rows = make_rows(TWO)
    data = embedded(two)
    back = embedded_rows(data)
    key = ["dataset", "variant", "seed", "phase", "samples"]
    both = rows.merge(back, on=key, how="outer", suffixes=("", "_back"), indicator=True)
    assert (both["_merge"] == "both").all()
    spread = rows.groupby("dataset")["return_mean"].agg(np.ptp)
    error = (both["return_mean"] - both["return_mean_back"]).abs()
    assert (error <= 1e-5 * both["dataset"].map(spread)).all()
    scales = {scale["name"]: scale["reference"] for scale in data["datasets"]}
    assert scales == {"one": [-100.0, 300.0], "two": None}
    scored = both[both["dataset"] == "one"]
    np.testing.assert_allclose((scored["return_mean_back"] + 100) / 4, scored["score"], atol=1e-3)
    assert [line["frozen"] for line in data["lines"]] == [True, False, True, False]
    assert len(data["grids"]) == 1  # all runs share it


def test_a_missing_return_is_null_and_its_line_has_no_statistics() -> None:
    rows = make_rows(TWO)
    lost = (rows["dataset"] == "one") & (rows["variant"] == "bc") & (rows["seed"] == 1)
    rows.loc[lost & (rows["samples"] == END), ["score", "return_mean", "status"]] = (np.nan, np.nan, "failed")
    page = make_page(TWO, rows)
    data = embedded(page)
    line = next(line for line in data["lines"] if (line["dataset"], line["style"]) == (0, 0))
    at_end = [returns[data["grids"][grid].index(END)] is None for _, grid, _, returns, _ in line["runs"]]
    assert at_end == [False, True, False]
    text = ParsedPage(page).visible_text
    assert "one, bc: 1 of 3 seeds incomplete (seed 1 failed from n = 3000 on)" in text
    assert "one bc — — — — 2 of 3 seeds" in text
    assert set(final_values(data).index) == {("one", "mine"), ("two", "bc"), ("two", "mine")}
    left_out = make_page(TWO, rows, leave_out=True)
    assert "1 of 3 seeds incomplete, left out of the statistics" in ParsedPage(left_out).visible_text
    assert final_values(embedded(left_out)).loc[("one", "bc"), "seeds"] == 2


def test_colours_and_dashes_are_those_of_the_other_figures() -> None:
    again = make_rows(TWO, name="t")
    both = pd.concat([make_rows(TWO), again])
    data = embedded(report.page(both, {"s": TWO, "t": TWO}, {}))
    styles = {line["label"]: line for line in data["styles"]}
    assert list(styles) == ["bc (s)", "bc (t)", "mine (s)", "mine (t)"]
    assert styles["bc (s)"]["colour"] == styles["bc (t)"]["colour"] == style.ALGORITHM_COLOURS["bc"]
    assert styles["bc (s)"]["dark"] != style.ALGORITHM_COLOURS["bc"]  # black would be invisible
    assert styles["mine (s)"]["colour"] == style.colour_of("mine")
    assert (styles["bc (s)"]["dash"], styles["bc (t)"]["dash"]) == ("", "8,2.4")


def test_segments_of_a_joined_dataset_are_embedded_and_have_a_table_of_forgetting() -> None:
    names = ["hopper-random-v2", "hopper-expert-v2"]
    joined = dataset("joined", segments=[1000, 2000], segments_in_turn=names)
    study = make_study([joined, dataset("single")], ["mine", "other"], [0, 1])
    rows = make_rows(study)
    rows = rows[(rows["seed"] == 0) | (rows["variant"] == "mine") | (rows["samples"] < END)]
    page = make_page(study, rows)
    assert embedded(page)["datasets"][0]["segments"] == [["random", 1000], ["expert", 2000]]
    text = ParsedPage(page).visible_text
    assert "dataset algorithm random to expert seeds joined mine" in text
    assert "joined other — 1 of 2 seeds" in text.partition("random to expert")[2]
    assert "single" not in text.partition("random to expert")[2].partition("Datasets")[0]
    (forgetting,) = [
        copy["csv"] for copy in embedded(page)["tables"].values() if "random to expert" in copy["csv"]
    ]
    wanted = analysis.means_over_seeds(
        analysis.forgetting(rows[rows["variant"] == "mine"], {"joined": [1000]})
    )
    np.testing.assert_allclose(pd.read_csv(io.StringIO(forgetting))["estimate"], wanted["estimate"])


def test_a_dataset_without_an_environment_is_not_drawn_and_has_a_warning() -> None:
    rows = make_rows(TWO)
    rows.loc[rows["dataset"] == "two", "return_mean"] = np.nan
    page = make_page(TWO, rows)
    assert [drawn["name"] for drawn in embedded(page)["datasets"]] == ["one"]
    assert "two: not evaluated, because it has no environment" in ParsedPage(page).visible_text
    with pytest.raises(UserError, match="no returns and no scores to draw"):
        make_page(TWO, rows[rows["dataset"] == "two"])


def test_three_hundred_runs_of_two_hundred_points_fit_into_six_megabytes(big: Path) -> None:
    assert big.stat().st_size < 6e6
    assert sum(len(line["runs"]) for line in embedded(big.read_text())["lines"]) == 300


# --- Statistics ---


def test_the_tables_match_the_statistics(two: str) -> None:
    rows = make_rows(TWO)
    data = embedded(two)
    wanted = analysis.means_over_seeds(analysis.final_values(rows)).set_index(["dataset", "variant"])
    found = final_values(data)
    for column in ("estimate", "low", "high"):
        np.testing.assert_allclose(found[column], wanted.loc[found.index, column])
    shown = wanted.loc[("one", "mine")]
    entry = f"{shown['estimate']:.1f} {shown['low']:.1f} to {shown['high']:.1f}"
    assert entry in ParsedPage(two).visible_text
    better = read_csv(data, "first,second")
    assert better.equals(
        analysis.probability_of_improvement(analysis.final_values(analysis.comparable_rows(rows)[0]))
    )
    over = read_csv(data, "dataset,unit,ahead")
    assert set(over["ahead"]) == {"mine"}


def test_a_latex_table_has_one_line_per_row_and_escapes_special_characters() -> None:
    study = make_study([dataset("a_b & 50%")], ["x#1", "mine"], [0, 1])
    data = embedded(make_page(study, make_rows(study)))
    text = data["tables"]["table-0-0"]["latex"]
    assert text.startswith("\\begin{tabular}{llrrrrr}\n\\toprule\n")
    assert text.count(" \\\\\n") == 3
    assert r"a\_b \& 50\% & x\#1 & " in text
    assert not re.search(r"(?<!\\)[%#_]", text)


@pytest.mark.parametrize(
    ("datasets", "variants", "why"),
    [
        (
            [dataset("one")],
            ["bc", "mine"],
            "two datasets with scores are needed, and there is one, one.",
        ),
        ([dataset("one", reference=None)], ["bc", "mine"], "nothing to compare over datasets"),
        ([dataset("one")], ["bc"], "There is only one line"),
    ],
)
def test_a_statistic_that_cannot_be_computed_is_replaced_by_its_reason(
    datasets: list[dict[str, Any]], variants: list[str], why: str
) -> None:
    study = make_study(datasets, variants, [0, 1])
    page = make_page(study, make_rows(study))
    reasons = re.findall(r'<p class="reason">(.*?)</p>', page)
    assert any(why in reason for reason in reasons)
    assert "optimality gap" not in page.split("<h2>Statistics</h2>")[1].split("</section>")[0]
    assert "<tbody></tbody>" not in page


def test_incomplete_seeds_prevent_statistics_over_datasets_unless_left_out() -> None:
    study = make_study([dataset("one"), dataset("two")], ["bc", "mine"], [0, 1])
    rows = make_rows(study)
    rows = rows[(rows["seed"] == 0) | (rows["variant"] == "bc") | (rows["samples"] < END)]
    refused, left_out = make_page(study, rows), make_page(study, rows, leave_out=True)
    assert "statistics need every seed" in ParsedPage(refused).visible_text
    assert "optimality gap" not in ParsedPage(refused).visible_text
    assert "statistics need every seed" not in ParsedPage(left_out).visible_text
    assert "optimality gap" in ParsedPage(left_out).visible_text


def test_an_unfinished_line_has_no_statistics() -> None:
    study = make_study([dataset("one"), dataset("two"), dataset("three")], ["bc", "mine"], [0, 1])
    rows = make_rows(study)
    stopped = rows[(rows["dataset"] != "one") | (rows["variant"] == "mine") | (rows["samples"] < END)]
    for leave_out in (False, True):
        page = make_page(study, stopped, leave_out=leave_out)
        text = ParsedPage(page).visible_text
        assert "one, bc: ends at n = 2 500 of 3 000" in text
        assert "one bc — — — — 0 of 2 seeds" in text
        assert ("one", "bc") not in final_values(embedded(page)).index
        assert len(final_values(embedded(page))) == 5
        assert ("statistics need finished studies" in text) == (not leave_out)
    texts = [copy["csv"] for copy in embedded(page)["tables"].values()]
    over = pd.read_csv(io.StringIO(next(text for text in texts if text.startswith("algorithm,estimator"))))
    wanted = analysis.aggregate(analysis.final_values(rows[rows["dataset"] != "one"]))
    assert over["estimate"].tolist() == pytest.approx(wanted["estimate"].tolist())


def test_an_unfinished_online_phase_has_no_statistics_while_the_offline_phase_has() -> None:
    rows = make_rows(TWO)
    stopped = rows[(rows["dataset"] == "two") | (rows["variant"] == "mine") | (rows["samples"] < END + 400)]
    page = make_page(TWO, stopped)
    assert ("one", "bc") in final_values(embedded(page)).index
    text = ParsedPage(page).visible_text
    assert "one, bc: ends at n = 3 300 of 3 400" in text
    assert "one bc — — — 0 of 3 seeds" in text.partition("Online learning")[2]
    never = ParsedPage(make_page(TWO, rows[rows["samples"] <= END])).visible_text
    assert "Online learning No line has all of its seeds: 0 of 3 seeds are complete." in never


# --- Sentences ---


def test_seeds_without_rows_and_lines_that_end_early_have_warnings() -> None:
    study = make_study([dataset("one")], ["bc", "mine"], [0, 1, 2, 3, 4])
    rows = make_rows(study)
    rows = rows[(rows["variant"] == "bc") & (rows["seed"] < 3) & (rows["samples"] < END)]
    text = ParsedPage(make_page(study, rows)).visible_text
    assert "one, bc: 2 of 5 seeds missing (3 and 4)" in text
    assert "one, bc: ends at n = 2 500 of 3 000" in text
    assert "one, mine: 5 of 5 seeds missing (0, 1, 2, 3 and 4)" in text


def test_a_complete_study_has_no_warnings_and_a_leak_has_one() -> None:
    study = make_study([dataset("one")], ["bc"], [0])
    assert 'class="warnings"' not in make_page(study, make_rows(study))
    leaky = study | {"protocol": study["protocol"] | {"normalizer": "full"}}
    text = ParsedPage(make_page(leaky, make_rows(study))).visible_text
    assert (
        "observations are normalized with the mean and standard deviation of the full dataset, a leak" in text
    )


def test_the_page_describes_protocol_datasets_settings_and_versions() -> None:
    study = make_study([dataset("one", notes=["dropped 3 of them"])], ["bc"], [0], steps=400)
    study["protocol"] |= {"grow_by": 4, "updates_per_growth": 2, "window": 500}
    text = ParsedPage(make_page(study, make_rows(study))).visible_text
    assert "1 000 transitions before the first update, then 4 after every 2 gradient updates" in text
    assert "drawn uniformly from the newest 500 transitions" in text
    assert "act in the environment for 400 steps" in text
    assert "dropped 3 of them" in text
    assert "0123abcd" * 8 in text
    assert "50.0, score 37.5" in text  # (50 + 100) / 400
    assert "python 3.11.7, torch 2.13.0" in text
    assert "bc: hidden (8, 8), rate 0.1" in text


@pytest.mark.parametrize("regime", ["stream", "retrain", "warm", "full"])
def test_every_regime_and_order_has_its_own_description(regime: str) -> None:
    study = make_study([dataset("one")], ["bc"], [0])
    texts = set()
    for order in ("shuffled", "episodes", "logged", "segments", "segments-by-episode", "return"):
        study["protocol"] = vars(Protocol(regime=regime, order=order))  # type: ignore[arg-type]
        texts.add(_protocol.describe(study))
    assert len(texts) == (1 if regime == "full" else 6)


# --- Security ---


def test_names_given_by_users_are_escaped_everywhere() -> None:
    study = make_study([dataset(HOSTILE, notes=[HOSTILE], given=HOSTILE)], [HOSTILE], [0, 1])
    study["invocations"][0]["processor"] = HOSTILE
    rows = make_rows(study, name=HOSTILE)
    page = report.page(rows, {HOSTILE: study}, {HOSTILE: Rerun(HOSTILE, [HOSTILE])})
    read = ParsedPage(page)
    assert [tag for tag, _ in read.tags].count("script") == 3
    assert "b" not in {tag for tag, _ in read.tags}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert read.visible_text.count(HOSTILE) >= 8
    data = embedded(page)
    assert data["datasets"][0]["name"] == data["styles"][0]["label"] == HOSTILE


def test_the_page_loads_nothing(two: str) -> None:
    read = ParsedPage(two)
    for tag, attributes in read.tags:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    (policy,) = [tag["content"] for _, tag in read.tags if tag.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_sort_keys_of_table_entries_are_numbers(two: str) -> None:
    orders = [
        attributes["data-order"] for _, attributes in ParsedPage(two).tags if "data-order" in attributes
    ]
    assert len(orders) > 20
    assert all(order is not None and np.isfinite(float(order)) for order in orders)


def test_losses_and_training_times_are_embedded_with_the_curves() -> None:
    rows = with_metrics(make_rows(TWO))
    data = embedded(make_page(TWO, rows))
    assert data["metrics"] == ["train/loss", "train/q", "training time (s)"]
    bc, mine = (line["runs"][1] for line in data["lines"][:2])
    assert data["grids"][bc[1]][:3] == [1000, 1500, 2000]
    assert bc[4][0][:3] == [None, 2.5, 3.0]  # n / 1000 + the seed
    assert (bc[4][1], mine[4][1][:2]) == (None, [None, 1852.0])  # four digits
    assert bc[4][2][:3] == [0.0, 60.0, 120.0]


def test_the_wall_time_of_a_run_is_tabulated() -> None:
    page = make_page(TWO, with_metrics(make_rows(TWO)))
    # Nine points: 8 minutes of training, 9 seconds of evaluation, and 3000 (bc) or 3400 updates.
    text = ParsedPage(page).visible_text
    assert "Wall time" in text
    assert "one bc 8 min 9.0 s 6 one mine 8 min 9.0 s 7" in text
    table = read_csv(embedded(page), "dataset,algorithm,train_seconds")
    assert table.iloc[0].to_dict() == {
        "dataset": "one",
        "algorithm": "bc",
        "train_seconds": 480.0,
        "eval_seconds": 9.0,
        "updates": 3000.0,
        "updates_per_second": 6.25,
    }
    assert "Wall time" not in ParsedPage(make_page(TWO, make_rows(TWO))).visible_text


def test_durations_have_a_readable_unit() -> None:
    assert [_tables.duration(s) for s in (0.26, 41.4, 89, 720, 5399, 12_240)] == [
        *("0.3 s", "41 s", "89 s", "12 min", "90 min", "3.4 h"),
    ]


def test_iqm_and_ranks_along_the_data_are_embedded_in_the_order_of_the_legend() -> None:
    study = make_study([dataset("one"), dataset("two")], ["mine", "bc"], [0, 1, 2])
    rows = make_rows(study)
    data = embedded(make_page(study, rows))
    iqm, ranks = data["plots"].values()
    assert [line["label"] for line in iqm["lines"]] == ["mine", "bc"]
    assert (iqm["reversed"], ranks["reversed"]) == (False, True)
    sizes = {"one": END, "two": END}
    scored, _ = analysis.comparable_rows(rows)
    for plot, table in (
        (iqm, analysis.aggregate_curves(scored, sizes, ["iqm"])),
        (ranks, analysis.mean_ranks(scored, sizes)),
    ):
        for line in plot["lines"]:
            expected = table[table["variant"] == line["label"]]
            np.testing.assert_allclose(line["x"], expected["share"], rtol=1e-3)
            for name in ("estimate", "low", "high"):
                np.testing.assert_allclose(line[name], expected[name], rtol=1e-3)


def test_the_title_of_the_page_can_be_chosen() -> None:
    parsed = ParsedPage(make_page(TWO, make_rows(TWO), title="Two & more"))
    assert "Two & more" in parsed.visible_text.partition("Curves")[0]


def test_colours_can_be_seen_on_a_dark_page() -> None:
    for colour in {*style.COLOURS, *style.OTHER_COLOURS}:
        red, green, blue = (int(_curves._lightened(colour)[at : at + 2], 16) for at in (1, 3, 5))
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue > 85
