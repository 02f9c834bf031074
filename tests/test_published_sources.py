"""Published results of other projects: the data against the projects' own tables, and the commands."""

from __future__ import annotations

import math
import runpy
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Seqeval, refused
from test_analysis_published import ABOUT, NAME, rows_of, write

from seqeval import UserError
from seqeval.analysis import published
from seqeval.analysis.published import sources

ROOT = Path(__file__).parents[1]
ANTMAZE = [f"antmaze-{maze}-v2" for maze in ("umaze", "umaze-diverse")] + [
    f"antmaze-{size}-{kind}-v2" for size in ("medium", "large") for kind in ("play", "diverse")
]
HANDS = ("pen", "door", "hammer", "relocate")
ADROIT = [f"{hand}-cloned-v1" for hand in HANDS]


def mean_over(datasets: list[str], statistic: str, source: str = "corl-finetune") -> dict[str, float]:
    """The mean over datasets of a statistic, by algorithm."""
    table = published.reference_scores(datasets, [source])
    return table[table["statistic"] == statistic].groupby("algorithm")["mean"].mean().to_dict()


# --- the data against what the projects print ---


def test_fine_tuning_on_antmaze_has_the_averages_of_corls_table() -> None:
    before, after, regret = (mean_over(ANTMAZE, name) for name in ("before", "after", "regret"))
    printed = {
        "AWAC": (18.12, 16.46, 0.82),
        "CQL": (48.38, 95.58, 0.11),
        "IQL": (56.29, 78.50, 0.24),
        "SPOT": (52.88, 92.38, 0.15),
        "Cal-QL": (53.04, 97.33, 0.07),
    }
    for name, (start, end, lost) in printed.items():
        assert before[name] == pytest.approx(start, abs=0.0051)
        assert after[name] == pytest.approx(end, abs=0.0051)
        assert regret[name] == pytest.approx(lost, abs=0.0051)


def test_fine_tuning_on_adroit_has_the_averages_of_corls_table() -> None:
    before, after, regret = (mean_over(ADROIT, name) for name in ("before", "after", "regret"))
    printed = {"AWAC": (22.84, 21.76, 0.86), "IQL": (21.69, 44.99, 0.71), "Cal-QL": (-0.76, -0.79, 0.99)}
    for name, (start, end, lost) in printed.items():
        assert before[name] == pytest.approx(start, abs=0.0051)
        assert after[name] == pytest.approx(end, abs=0.0051)
        assert regret[name] == pytest.approx(lost, abs=0.0051)


def test_one_cell_of_corls_table_has_its_mean_and_spread() -> None:
    table = published.reference_scores(["antmaze-umaze-v2"], ["corl-finetune"])
    cells = table.set_index(["algorithm", "statistic"])
    assert tuple(cells.loc[("AWAC", "before"), ["mean", "std"]].round(2)) == (52.75, 8.67)
    assert tuple(cells.loc[("AWAC", "after"), ["mean", "std"]].round(2)) == (98.75, 1.09)
    assert tuple(cells.loc[("IQL", "regret"), ["mean", "std"]].round(2)) == (0.07, 0.0)
    assert set(table["seeds"]) == {4}


def test_every_fine_tuned_cell_agrees_with_corls_readme(shared: Path) -> None:
    printed = pd.read_csv(shared / "published" / "corl_tables.csv")
    names = {"finetune_start": "before", "finetune_end": "after", "regret": "regret"}
    printed = printed[printed["protocol"].isin(names) & (printed["source"] == "corl-team/CORL")]
    assert len(printed) >= 150
    ours = published.reference_scores(sources=["corl-finetune"]).set_index(
        ["dataset", "algorithm", "statistic"]
    )
    for row in printed.to_dict("records"):
        cell = ours.loc[(row["dataset"], row["algorithm"], names[row["protocol"]])]
        assert cell["mean"] == pytest.approx(row["mean"], abs=0.0051)
        assert cell["std"] == pytest.approx(row["std"], abs=0.0051)


def test_offline_averages_are_those_of_corls_readme() -> None:
    datasets = [f"{hand}-{level}-v1" for hand in HANDS for level in ("human", "cloned", "expert")]
    last, best = (mean_over(datasets, statistic, "corl-tables") for statistic in ("last", "best"))
    for name, ours in (("BC", (48.18, 58.92)), ("IQL", (53.43, 62.62)), ("ReBRAC", (59.39, 69.71))):
        assert (last[name], best[name]) == pytest.approx(ours, abs=0.008)


def test_the_final_scores_of_qc_are_those_of_its_summary_table() -> None:
    after = mean_over(["all"], "after", "qc")
    printed = {"RLPD": 67, "RLPD-AC": 61, "SUPE-GT": 52, "IQL": 12, "ReBRAC": 50, "IFQL": 47, "FQL": 58}
    printed |= {"BFN": 63, "IFQL-n": 44, "FQL-n": 57, "BFN-n": 50, "QC-IFQL": 59, "QC-FQL": 86, "QC": 86}
    assert {name: round(value) for name, value in after.items()} == printed
    assert round(mean_over(["cube-triple"], "after", "qc")["QC"]) == 64
    assert round(mean_over(["cube-quadruple"], "after", "qc")["QC-FQL"]) == 77


def test_the_tasks_of_qc_have_all_methods_and_their_x() -> None:
    table = published.curves("qc")
    tasks = [name for name in table["dataset"].unique() if "singletask" in name]
    assert len(tasks) == 25
    task = table[table["dataset"] == "cube-double-play-singletask-task1-v0"]
    assert task["algorithm"].nunique() == 14
    points = task.groupby(["algorithm", "phase"])["x"].agg(["min", "max", "size"])
    assert points.loc[("QC", "offline")].tolist() == [0, 1_000_000, 11]
    assert points.loc[("QC", "online")].tolist() == [100_000, 1_000_000, 10]
    assert points.loc[("RLPD", "online")].tolist() == [0, 1_000_000, 11]
    assert ("RLPD", "offline") not in points.index
    assert table["seed"].isna().all()
    assert ((table["low"] <= table["score"] + 0.15) & (table["score"] <= table["high"] + 0.15)).all()


def test_the_sweep_of_rebrac_gives_the_expected_and_the_best_setting() -> None:
    table = published.reference_scores(["hopper-medium-v2"], ["rebrac-eop"]).set_index(
        ["algorithm", "statistic"]
    )
    scores = published.settings("rebrac-eop")
    scores = scores[(scores["dataset"] == "hopper-medium-v2") & (scores["algorithm"] == "ReBRAC")]["score"]
    assert len(scores) == 20
    assert table.loc[("ReBRAC", "one setting"), "mean"] == pytest.approx(scores.sum() / 20)
    assert table.loc[("ReBRAC", "best setting"), "mean"] == scores.max()


def test_the_package_holds_what_the_script_makes(shared: Path, tmp_path: Path, monkeypatch) -> None:
    script = ROOT / "experiments" / "make_published.py"
    monkeypatch.setattr(sys, "argv", [script.name, str(shared / "published"), "--out", str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    made = sorted(path.name for path in tmp_path.iterdir())
    assert len(made) == 7
    for name in made:
        ours = (files("seqeval.analysis.published") / name).read_bytes()
        if name.endswith(".csv"):
            assert ours == (tmp_path / name).read_bytes()
        else:  # another zlib may compress otherwise
            pd.testing.assert_frame_equal(
                pd.read_csv(tmp_path / name), pd.read_csv(str(files("seqeval.analysis.published") / name))
            )


# --- the sources ---


@pytest.mark.parametrize("name", published.SOURCES)
def test_every_source_states_where_it_is_from_and_has_scores(name: str) -> None:
    source = published.find(name)
    for text in (source.citation, source.address, source.file, source.licence, source.unit, source.x):
        assert text
    scores = published.reference_scores(sources=[name])
    assert len(scores)
    assert scores["mean"].notna().all()
    assert set(scores["statistic"]) <= set(published.STATISTICS)
    assert not scores.duplicated(["dataset", "algorithm", "statistic"]).any()
    if source.unit == sources.SUCCESS_RATE:
        assert scores["mean"].between(0, 100).all()


def test_scores_keep_the_order_of_the_datasets_asked_for() -> None:
    names = ["walker2d-medium-v2", "hopper-medium-v2"]
    table = published.reference_scores(names)
    assert list(table["dataset"].unique()) == names
    assert list(table[table["dataset"] == names[0]]["source"].unique()) == [
        *("sujit", "corl-tables", "jax-corl", "rebrac", "rebrac-eop")
    ]


def test_the_papers_scores_are_the_ends_of_its_runs() -> None:
    rows = published.runs("finetune")
    rows = rows[(rows["dataset"] == "hopper-medium-v2") & (rows["algorithm"] == "iql")]
    last = rows[rows["samples"] == 1_450_000]["score"]
    table = published.reference_scores(["hopper-medium-v2"], ["sujit"]).set_index(["algorithm", "statistic"])
    assert table.loc[("IQL", "after"), "mean"] == pytest.approx(last.mean())
    assert table.loc[("IQL", "after"), "seeds"] == len(last)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'corl-finetun'; known: .*; did you mean 'corl-finetune'"):
        published.find("corl-finetun")
    with pytest.raises(UserError, match=r"'hoper-medium-v2'; did you mean 'hopper-medium-v2'"):
        published.reference_scores(["hoper-medium-v2"])


# --- curves behind those of a study, and comparison of the ends ---

MAZE = "antmaze-umaze-v2"
SIZE = 1_000_000
POINTS = (5_000, SIZE, SIZE + 250_000)


def of_study(scores: tuple[float, ...] = (1.0, 60.0, 90.0), name: str = MAZE, **more: Any) -> pd.DataFrame:
    """Rows of two seeds of iql, with an online phase of 250 000 steps."""
    curves = {(name, "iql", seed): dict(zip(POINTS, scores)) for seed in (0, 1)}  # noqa: B905
    return rows_of(curves, SIZE, **({"episode_successes": None} | more))


def about(name: str = MAZE, maximum: float = 1.0) -> dict[str, Any]:
    reference = {"minimum": 0.0, "maximum": maximum, "source": ""}
    return {name: ABOUT[NAME] | {"transitions": SIZE, "segments": [SIZE], "reference": reference}}


def test_offline_updates_are_spread_over_our_offline_axis_and_online_steps_are_ours() -> None:
    drawn, reasons = published.overlay(of_study(), about(), "corl-finetune")
    assert drawn is not None
    assert reasons == {}
    assert set(drawn["algorithm"]) == {"iql"}
    assert set(drawn["full_data_updates"]) == {1_000_000}
    run = drawn[drawn["seed"] == 0]
    offline = run[run["phase"] == "offline"]["samples"].tolist()
    # 50 000 of 1 000 000 updates: a twentieth of the way from n = 5000 to the end of the data.
    assert offline[:2] == pytest.approx([5_000 + 995_000 / 20, 5_000 + 995_000 / 10])
    assert offline[-1] == SIZE
    online = run[run["phase"] == "online"]["samples"].tolist()
    assert online == [SIZE + 50_000 * i for i in (1, 2, 3, 4, 5)]  # as far as our rows go
    without, _ = published.overlay(of_study((1.0, 60.0)), about(), "corl-finetune")
    assert without is not None
    assert set(without["phase"]) == {"offline"}


def test_datasets_without_published_curves_have_a_reason() -> None:
    assert published.overlay(of_study(), about(maximum=2.0), "corl-finetune") == (
        None,
        {MAZE: "not in scores between D4RL's reference returns"},
    )
    other = published.overlay(of_study(name="other"), about("other"), "corl-finetune")
    assert other == (None, {"other": "not a dataset of corl-finetune"})
    _, reasons = published.overlay(of_study(algorithm="td3_bc"), about(), "corl-finetune")
    assert reasons == {MAZE: "corl-finetune has none of its algorithms (td3_bc) there"}
    with pytest.raises(UserError, match="has no learning curves"):
        published.overlay(of_study(), about(), "corl-tables")


def test_success_rates_are_compared_with_success_rates_only() -> None:
    task = "ogbench:cube-double-play-singletask-task2-v0"
    rows = of_study(name=task)
    drawn, reasons = published.overlay(rows.assign(episode_successes=None), about(task), "qc")
    assert (drawn, reasons) == (None, {task: "its scores are not success rates"})
    rows["episode_successes"] = [[i < score for i in range(100)] for score in rows["score"]]
    drawn, reasons = published.overlay(rows, about(task), "qc")
    assert drawn is not None
    assert reasons == {}
    assert drawn["low"].notna().all()


def test_the_ends_of_both_phases_are_compared_with_what_each_side_had_seen() -> None:
    rows = of_study().assign(**{"train/regret": [math.nan, math.nan, 0.5] * 2})
    table, reasons = published.compare_ends(rows, about(), "corl-finetune")
    assert reasons == {}
    table = table.set_index("statistic")
    assert table["estimate"].to_dict() == {"before": 60.0, "after": 90.0, "regret": 0.5}
    assert table["published"].round(2).to_dict() == {"before": 77.0, "after": 96.5, "regret": 0.07}
    assert table.loc["before", ["end", "published_end"]].tolist() == ["n = 1000000", "1000000 updates"]
    assert table.loc["after", ["end", "published_end"]].tolist() == ["250000 steps", "1000000 steps"]
    assert set(published.compare_ends(rows, about(), "corl-tables")[0]["statistic"]) == {"last"}
    with pytest.raises(UserError, match="nothing to compare with corl-tables: other: not a dataset"):
        published.compare_ends(of_study(name="other"), about("other"), "corl-tables")


def test_plot_and_compare_take_a_source(seqeval: Seqeval, tmp_path: Path) -> None:
    curves = {(MAZE, "iql", seed): dict(zip(POINTS, (1.0, 60.0, 90.0), strict=True)) for seed in (0, 1)}
    out = write(tmp_path / "run", curves, about())
    ended = seqeval("plot", out, "--published", "corl-finetune", "--out", tmp_path / "figure.svg")
    assert ended.code == 0
    assert ended.err.startswith("note: corl-finetune: Offline, x counts gradient updates on the full dataset")
    text = (tmp_path / "figure.svg").read_text()
    for label in ("corl-finetune (dots: mean)", "grey: updates on all data", "500k", "1M"):
        assert label in text
    ended = seqeval("compare", out, "--published", "corl-finetune")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1].split()[:4] == [MAZE, "iql", "before", "60.0"]
    assert "not data seen" in ended.out
    line = refused(seqeval("compare", out, "--published", "corl-finetun"))
    assert "did you mean 'corl-finetune'?" in line
    line = refused(seqeval("plot", out, "--published", "qc", "rebrac", "--out", tmp_path / "figure.svg"))
    assert "--published takes one source" in line


# --- the commands ---


def test_published_list_names_every_source(seqeval: Seqeval) -> None:
    ended = seqeval("published", "list")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == list(published.SOURCES)


def test_published_show_prints_licence_unit_and_the_meaning_of_x(seqeval: Seqeval) -> None:
    ended = seqeval("published", "show", "corl-finetune")
    assert ended.code == 0
    assert "Apache-2.0" in ended.out
    assert "D4RL normalised score" in ended.out
    assert "gradient updates on the full dataset, which is not data seen" in ended.out
    assert "Cal-QL" in ended.out


def test_published_table_prints_scores_by_source_and_what_they_mean(seqeval: Seqeval, tmp_path: Path) -> None:
    ended = seqeval("published", "table", "antmaze-umaze-v2", "--source", "corl-finetune")
    assert (ended.code, ended.err) == (0, "")
    (line,) = [line for line in ended.out.splitlines() if " AWAC " in line]
    assert line.split()[1:] == [
        *("corl-finetune", "AWAC", "52.8", "±", "8.7", "98.8", "±", "1.1"),
        *("0.04", "±", "0.01", "4"),
    ]
    assert "not data seen" in ended.out
    path = tmp_path / "scores.csv"
    assert seqeval("published", "table", "--source", "qc", "--out", path).out == f"{path}\n"
    assert set(pd.read_csv(path)["source"]) == {"qc"}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("show", "corl-finetun"), "did you mean 'corl-finetune'?"),
        (("table", "hoper-medium-v2"), "did you mean 'hopper-medium-v2'"),
        (("table", "hopper-medium-v2", "--source", "rebrak"), "did you mean 'rebrac'"),
    ],
)
def test_unknown_names_on_the_command_line(seqeval: Seqeval, arguments: tuple[str, ...], hint: str) -> None:
    assert hint in refused(seqeval("published", *arguments))
