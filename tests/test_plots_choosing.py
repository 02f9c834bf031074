"""Figures and tables of sweeps and metrics, and the value that a figure shows, on made-up studies."""

from __future__ import annotations

import io
import json
from pathlib import Path

import made_up
import numpy as np
import pandas as pd
import pytest
from conftest import Seqeval, refused
from seqeval.plots import _folding, _selection, curves
from seqeval.plots import agreement as agreement_figure
from seqeval.plots.report._statistics import statistics

from seqeval import analysis, load, plots
from seqeval.analysis import size_tables, tuning
from seqeval.errors import UserError
from seqeval.figure_options import FigureOptions

ALPHAS = (1, 2, 4)
METRICS = {
    "eval/error": {"unit": "squared distance per transition, actions in [-1, 1]", "better": "lower"},
    "eval/count": {"unit": "transitions", "better": None},
}


def sweep(alphas: tuple[int, ...] = ALPHAS, temperatures: tuple[int, ...] = (1, 2)) -> pd.DataFrame:
    """A sweep whose score is 10 alpha + temperature + seed / 10, growing with n, and an algorithm without
    one. The metric is missing at the last size, and is lower where the score is higher."""

    def score(variant: str, dataset: str, seed: int, samples: int) -> float:
        if variant == "bc":
            return 15.0
        alpha, temperature = (int(part.partition("=")[2]) for part in variant.partition(":")[2].split())
        return (10 * alpha + temperature + seed / 10) * samples / made_up.SIZE

    variants = ["bc", *(f"x:alpha={a} temperature={t}" for a in alphas for t in temperatures)]
    rows = made_up.rows(variants, ("one",), seeds=2, study="swept", score=score)
    rows["algorithm"] = rows["variant"].str.partition(":")[0]
    rows["episode_returns"] = [[value - 1, value + 1] for value in rows["return_mean"]]
    rows["eval/error"] = np.where(rows["samples"] < made_up.SIZE, 100 - rows["score"], np.nan)
    rows["eval/count"] = 1.0
    return rows


def loaded(rows: pd.DataFrame) -> pd.DataFrame:
    study = made_up.study(rows) | {"metrics": METRICS}
    for variant, settings in study["algorithms"].items():
        if ":" in variant:
            values = dict(part.split("=") for part in variant.partition(":")[2].split())
            name = variant.partition(":")[0]
            settings |= {
                "algorithm": name,
                "sweep": f"{name}:…",
                "config": {k: int(v) for k, v in values.items()},
            }
    return analysis.with_studies(rows, {"swept": study})


def drawn_lines(figure: object, panel: int = 0) -> dict[str, list[float]]:
    lines = figure.axes[panel].get_lines()  # type: ignore[attr-defined]
    return {line.get_label(): [float(y) for y in line.get_ydata()] for line in lines}


# --- The value of a figure ---


def test_curves_of_a_metric_end_where_it_does_and_name_unit_and_direction() -> None:
    figure = plots.draw(loaded(sweep()), "curves", FigureOptions(value="eval/error", algorithms=("bc",)))
    (ax,) = figure.axes
    assert ax.get_ylabel().replace("\n", " ") == "error (squared distance per transition, lower is better)"
    assert drawn_lines(figure)["bc"] == [85.0, 85.0]
    assert "actions in [-1, 1]" in figure.get_supxlabel().replace("\n", " ")


def test_where_lower_is_better_the_lowest_is_first_and_bold() -> None:
    options = FigureOptions(value="eval/error", band="none")
    rows, notes = plots.find("ranks").prepare(loaded(sweep()), options)
    assert notes == []
    ranks = analysis.mean_ranks(rows, {"one": made_up.SIZE}).set_index(["variant", "share"])["estimate"]
    assert ranks["x:alpha=4 temperature=2", 2 / 3] == 1.0
    table, _ = analysis.tables.collect(rows)
    final = table[table["statistic"] == "final"].set_index("variant")
    assert final["best"].sum() == 1
    assert final.loc["x:alpha=4 temperature=2", "best"]
    assert set(final["better"]) == {"lower"}
    footer = plots.draw(loaded(sweep()), "ranks", options).get_supxlabel().replace("\n", " ")
    assert footer.startswith("by eval/error, lower is better; 1 dataset")
    assert "the lowest value of a row" in analysis.tables.markdown(table)


def test_intervals_and_aggregate_of_a_metric_name_it_and_its_direction() -> None:
    options = FigureOptions(value="eval/error", algorithms=("bc", "x:alpha=4 temperature=2"))
    rows = loaded(sweep())
    drawn = plots.draw(rows, "intervals", options)
    assert [ax.get_title() for ax in drawn.axes] == ["mean ↓", "median ↓", "IQM ↓"]
    about = "error (squared distance per transition, lower is better)"
    assert drawn.get_supxlabel().replace("\n", " ").startswith(f"{about}; 1 dataset, 2 seeds each")
    narrow = plots.draw(rows, "intervals", FigureOptions(value="eval/error", width="column"))
    assert len(narrow.axes) == 3
    (ax,) = plots.draw(rows, "aggregate", options).axes
    assert ax.get_ylabel().replace("\n", " ") == f"IQM of {about}"
    assert "by eval/error" not in plots.draw(rows, "aggregate", options).get_supxlabel()
    assert [ax.get_title() for ax in plots.draw(rows, "intervals", FigureOptions(value="score")).axes] == [
        "mean ↑",
        "median ↑",
        "IQM ↑",
        "optimality gap ↓",
    ]


def test_the_profile_of_a_metric_is_the_share_of_runs_on_its_better_side() -> None:
    rows = sweep()
    last = (rows["variant"] == "bc") & (rows["samples"] == 2000)
    rows.loc[last, "eval/error"] = rows.loc[last, "seed"].map({0: 1.0, 1: 2.0})
    options = FigureOptions(value="eval/error", algorithms=("bc", "x:alpha=4 temperature=2"))
    drawn = plots.draw(loaded(rows), "profile", options)
    (ax,) = drawn.axes
    assert ax.get_ylabel() == "share of runs up to τ"
    line = next(line for line in ax.get_lines() if line.get_label() == "bc")
    shares = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert [shares[1.0], shares[2.0]] == [0.5, 1.0]
    assert line.get_drawstyle() == "steps-post"
    (ax,) = plots.draw(loaded(rows), "profile", FigureOptions(value="return")).axes
    assert ax.get_ylabel() == "share of runs above τ"
    assert ax.get_xlabel() == "return τ at the end of the data"


def test_a_metric_is_not_averaged_over_datasets() -> None:
    two = pd.concat([sweep(), sweep().assign(dataset="two")])
    rows = loaded(two)
    for figure in ("intervals", "aggregate", "profile"):
        with pytest.raises(
            UserError, match=r"eval/error has no common scale over datasets.* one, two; choose"
        ):
            plots.draw(rows, figure, FigureOptions(value="eval/error"))
        chosen = FigureOptions(value="eval/error", datasets=("one",))
        assert plots.draw(rows, figure, chosen).axes
    assert plots.draw(rows, "improvement", FigureOptions(value="eval/error")).axes


def test_a_value_without_a_direction_is_drawn_and_not_ranked() -> None:
    rows = loaded(sweep())
    assert plots.draw(rows, "curves", FigureOptions(value="eval/count")).axes
    with pytest.raises(UserError, match="eval/count: whether higher or lower is better is not declared"):
        plots.draw(rows, "ranks", FigureOptions(value="eval/count"))


def test_a_failed_seed_is_not_hidden_by_a_metric() -> None:
    rows = sweep()
    lost = (rows["variant"] == "bc") & (rows["seed"] == 0)
    rows.loc[lost, ["score", "return_mean", "eval/error"]] = np.nan
    rows.loc[lost, "status"] = "failed"
    with pytest.raises(UserError, match="one, bc, seed 0: failed from n = 1000 on"):
        plots.draw(loaded(rows), "ranks", FigureOptions(value="eval/error"))


def test_lines_without_the_metric_are_named_and_its_last_size_is_their_end() -> None:
    rows = sweep()
    rows.loc[rows["variant"] == "bc", "eval/error"] = np.nan
    shown, notes = plots.find("ranks").prepare(loaded(rows), FigureOptions(value="eval/error"))
    assert notes == ["without eval/error, so not shown: bc on one"]
    assert set(shown["samples"]) == {1000, 2000}
    unfinished = rows[rows["samples"] <= 2000]
    with pytest.raises(UserError, match="ends at n = 2000 of 3000"):
        plots.draw(loaded(unfinished), "ranks", FigureOptions(value="eval/error"))


def test_a_line_begins_where_all_of_its_seeds_have_the_metric_and_later_gaps_are_refused() -> None:
    rows = sweep()
    of_seed = (rows["variant"] == "bc") & (rows["seed"] == 1)
    rows.loc[of_seed & (rows["samples"] == 1000), "eval/error"] = np.nan
    rows.loc[:, "eval/error"] = rows["eval/error"].where(rows["samples"] < made_up.SIZE, 1.0)
    shown, notes = plots.find("improvement").prepare(loaded(rows), FigureOptions(value="eval/error"))
    assert notes == ["one, bc: starts at n = 2000; seed 1 has no eval/error before"]
    assert sorted(shown.loc[shown["variant"] == "bc", "samples"].unique()) == [2000, 3000]
    rows.loc[of_seed & (rows["samples"] == 3000), "eval/error"] = np.nan
    with pytest.raises(UserError, match="bc, seed 1: no value at n = 3000"):
        plots.draw(loaded(rows), "improvement", FigureOptions(value="eval/error"))


def test_without_an_environment_the_likelihood_or_the_squared_error_is_shown() -> None:
    rows = sweep().rename(columns={"eval/error": "eval/prequential_squared_error"})
    rows[["score", "return_mean"]] = np.nan
    shown, notes = curves.FIGURE.prepare(loaded(rows))
    assert notes == ["no environment, so no returns; shown instead: eval/prequential_squared_error"]
    assert set(shown["metric"]) == {"eval/prequential_squared_error"}
    rows["eval/prequential_nll"] = rows["eval/prequential_squared_error"]
    assert analysis.default_metric(rows, {}) == "eval/prequential_nll"
    rows.loc[rows["variant"] == "bc", "eval/prequential_nll"] = np.nan
    assert analysis.default_metric(rows, {}) == "eval/prequential_squared_error"


def test_without_an_environment_and_predictions_the_first_declared_metric_is_shown() -> None:
    rows = sweep()
    rows[["score", "return_mean"]] = np.nan
    shown, notes = curves.FIGURE.prepare(loaded(rows))
    (metric,) = set(shown["metric"])
    assert notes == [f"no environment, so no returns; shown instead: {metric}"]
    declared = {
        "eval/absent": {"unit": "", "better": "higher"},
        "eval/count": {"unit": "", "better": None},
        "eval/error": {"unit": "", "better": "lower"},
    }
    assert analysis.default_metric(rows, declared) == "eval/error"
    declared.pop("eval/error")
    assert analysis.default_metric(rows, declared) == "eval/count"
    assert analysis.default_metric(rows.drop(columns="eval/count"), declared) is None


# --- Large sweeps ---


def test_a_large_sweep_has_one_entry_in_the_legend_unless_its_settings_are_named() -> None:
    rows = loaded(sweep(alphas=(1, 2, 3, 4)))
    figure = plots.draw(rows)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["bc", "x: best of 8 settings at the end", "mean of the data"]
    lines = drawn_lines(figure)
    assert lines["x: best of 8 settings at the end"][-1] == pytest.approx(42.05)
    assert "thin: the other settings" in figure.get_supxlabel().replace("\n", " ")
    variants = tuple(variant for variant in rows["variant"].unique() if variant != "bc")
    named = plots.draw(rows, options=FigureOptions(algorithms=variants))
    assert len(named.legends[0].get_texts()) == 8 + 1  # every line is there again
    assert _folding.large_sweeps(rows, analysis.studies_of(rows), FigureOptions()).keys() == {("x", "swept")}


# --- Sweeps ---


def test_best_of_k_lines_are_those_of_the_statistic() -> None:
    figure = plots.draw(loaded(sweep()), "best-of-k", FigureOptions(k=(1, 6)))
    lines = drawn_lines(figure)
    assert list(lines) == ["k = 1", "k = 6"]
    settings = np.sort([10 * a + t + 0.05 for a in ALPHAS for t in (1, 2)])
    assert lines["k = 1"][-1] == pytest.approx(settings.mean())
    assert lines["k = 6"][-1] == pytest.approx(tuning.expected_best(settings, [6])[0])


def test_the_best_of_k_of_an_error_is_the_least() -> None:
    rows, _ = plots.find("best-of-k").prepare(loaded(sweep()), FigureOptions(value="eval/error"))
    table = tuning.best_of_k(rows, [1, 6]).set_index(["k", "samples"])["estimate"]
    assert table[6, 2000] < table[1, 2000]
    assert table[1, 2000] == pytest.approx(100 - 2 / 3 * (70 / 3 + 1.5 + 0.05))


def test_setting_effects_are_means_over_the_other_settings() -> None:
    rows, _ = plots.find("setting").prepare(loaded(sweep()))
    table = tuning.setting_effects(rows, analysis.studies_of(rows))
    assert set(table["setting"]) == {"alpha", "temperature"}
    end = table[table["samples"] == made_up.SIZE].set_index(["setting", "value"])
    assert end.loc[("alpha", "4"), "estimate"] == pytest.approx(41.55)
    assert end.loc[("temperature", "1"), "estimate"] == pytest.approx(70 / 3 + 1.05)
    assert end.loc["alpha", "settings"].tolist() == [2, 2, 2]


def test_many_values_of_a_setting_are_taken_together() -> None:
    rows, _ = plots.find("setting").prepare(loaded(sweep(tuple(range(1, 9)), (1,))))
    table = tuning.setting_effects(rows, analysis.studies_of(rows))
    assert list(dict.fromkeys(table["value"])) == ["1 to 2", "3 to 4", "5 to 6", "7 to 8"]
    assert set(table["settings"]) == {2}


def test_choice_has_every_rule_and_a_metric_that_ranks_as_returns_do_is_the_oracle() -> None:
    figure = plots.draw(loaded(sweep()), "choice", FigureOptions(budgets=(3, 50)))
    lines = drawn_lines(figure)
    assert list(lines) == ["oracle", "bandit, 3 episodes", "bandit, 50 episodes", "error", "random"]
    assert lines["error"] == pytest.approx(lines["oracle"][:2])
    assert lines["oracle"][-1] == pytest.approx(42.05)
    assert lines["random"][-1] == pytest.approx(70 / 3 + 1.55)


@pytest.mark.parametrize("figure", ["best-of-k", "choice", "setting"])
def test_panels_of_a_dataset_share_limits_and_the_order_of_the_study(figure: str) -> None:
    weak = sweep()
    weak["variant"] = weak["variant"].replace("^x:", "a:", regex=True)
    weak["algorithm"] = weak["algorithm"].replace("x", "a")
    weak[["score", "return_mean"]] /= 10
    drawn = plots.draw(loaded(pd.concat([sweep(), weak[weak["algorithm"] == "a"]])), figure)
    panels = [ax for ax in drawn.axes if ax.get_visible()]
    assert len({ax.get_ylim() for ax in panels}) == 1
    assert panels[0].get_title().startswith("x")
    assert panels[-1].get_title().startswith("a")


@pytest.mark.parametrize(
    ("figure", "options", "panels"),
    [("tuning-map", {}, 2), ("setting", {}, 2), ("setting", {"setting": "alpha"}, 1), ("agreement", {}, 3)],
)
def test_figures_of_a_sweep_have_their_panels(figure: str, options: dict[str, str], panels: int) -> None:
    drawn = plots.draw(loaded(sweep()), figure, FigureOptions(**options))  # type: ignore[arg-type]
    assert len([ax for ax in drawn.axes if ax.get_visible()]) == panels


def test_agreement_shows_a_metric_that_ranks_perfectly() -> None:
    rows = loaded(sweep())
    (correlation, *regrets) = agreement_figure.tables(rows[rows["variant"] != "bc"])
    assert correlation.numbers["estimate"].tolist() == pytest.approx([1.0, 1.0])
    for panel in regrets:
        of = panel.numbers.groupby("metric")["estimate"].agg(["min", "max"])
        assert of.loc["eval/error"].tolist() == [0.0, 0.0]
        assert of.loc["random choice", "min"] > 0
    assert "random choice" not in set(correlation.numbers["metric"])


def test_agreement_says_how_many_runs_a_metric_ranks_where_they_differ() -> None:
    rows = sweep()
    names = [line.get_label() for line in plots.draw(loaded(rows), "agreement").axes[1].get_lines()]
    assert names == ["random choice", "error"]
    rows["eval/other"] = rows["eval/error"].where(rows["variant"] != "bc")
    studies = analysis.studies_of(loaded(rows))
    studies["swept"]["metrics"] = METRICS | {"eval/other": METRICS["eval/error"]}
    drawn = plots.draw(analysis.with_studies(rows, studies), "agreement")
    names = [line.get_label() for line in drawn.axes[1].get_lines()]
    assert names == ["random choice", "error (14 runs)", "other (12 runs)"]


# --- Tables and the report ---


def test_tables_have_a_row_per_name_and_a_column_per_size() -> None:
    numbers = pd.DataFrame(
        {"rule": ["a"] * 6 + ["b_c"], "samples": [*range(1, 7), 6], "estimate": [1.0] * 6 + [-2.5]}
    ).assign(low=[0.5] * 6 + [np.nan], high=[1.5] * 6 + [np.nan])
    table = size_tables.SizeTable("About 5 %.", "rule", numbers)
    assert size_tables.to_markdown([table]).splitlines() == [
        r"About 5 %.",
        "",
        "| rule | n = 1 | n = 2 | n = 3 | n = 5 | n = 6 |",
        "|:--|--:|--:|--:|--:|--:|",
        "| a |" + " 1.00 [0.50, 1.50] |" * 5,
        r"| b\_c | – | – | – | – | -2.50 |",
    ]
    latex = size_tables.to_latex([table])
    assert r"\caption{About 5 \%.}" in latex
    assert r"b\_c & -- & -- & -- & -- & $-2.50$ \\" in latex
    assert len(pd.read_csv(io.StringIO(size_tables.to_csv([table])))) == 7


@pytest.fixture
def study(tmp_path: Path) -> Path:
    rows = sweep()
    folder = made_up.write(tmp_path, rows)
    made = loaded(rows).attrs["studies"]["swept"]
    (folder / "study.json").write_text(json.dumps(made))
    return folder


def test_commands_draw_and_print_the_same_numbers(seqeval: Seqeval, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    assert seqeval("plot", study, "--figure", "best-of-k", "--out", out).code == 0
    printed = seqeval("table", study, "--figure", "best-of-k", "--format", "csv", "--k", 2)
    table = pd.read_csv(io.StringIO(printed.out))
    assert set(table["best of"]) == {"k = 2"}
    rows, _ = plots.find("best-of-k").prepare(load(study))
    expected = tuning.best_of_k(rows, [2])["estimate"]
    np.testing.assert_allclose(table["estimate"], expected)


def test_the_report_has_sections_on_tuning_and_metrics() -> None:
    rows = loaded(sweep())
    datasets = analysis.datasets_of(analysis.studies_of(rows))
    rows = analysis.with_planned_end(rows, analysis.studies_of(rows))
    groups = dict(statistics(rows, datasets, leave_out=False))
    titles = [section.title.partition(":")[0] for section in groups["Tuning"]]
    assert titles == ["Best of k settings"] * 2 + ["Effect of settings"] * 4 + ["Choice of a policy"] * 2
    plot, table = groups["Tuning"][:2]
    assert [line["label"] for line in plot.lines] == ["k = 1", "k = 2", "k = 4", "k = 6"]
    assert [row[0].text for row in table.body] == ["k = 1", "k = 2", "k = 4", "k = 6"]
    assert len(groups["Metrics as a choice"]) == 6
    shown, _ = _selection.with_value(rows, "eval/error")
    of_metric = dict(statistics(shown, datasets, leave_out=False))
    assert "Metrics as a choice" not in of_metric
    assert len(of_metric["Tuning"]) == 6  # without rules of choice, which need returns
    offline = of_metric["Offline phase"][0]
    assert offline.header == ("dataset", "algorithm", "at the end", "area", "seeds")
    simple = dict(statistics(rows[rows["variant"] == "bc"], datasets, leave_out=False))
    assert not {"Tuning", "Metrics as a choice"} & set(simple)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--figure", "best-of-k", "--k", "7"), "k: 7 settings cannot be chosen from the 6 of x on one"),
        (("--figure", "best-of-k", "--k", "0"), "k: must be at least 1, not 0"),
        (
            ("--figure", "setting", "--setting", "alfa"),
            "'alfa' takes several values in no sweep; did you mean",
        ),
        (
            ("--figure", "choice", "--metrics", "eval/eror"),
            "no run has eval/eror; did you mean 'eval/error'?",
        ),
        (("--figure", "choice", "--budgets", "0"), "budgets: must be at least 1, not 0"),
        (
            ("--figure", "choice", "--value", "return"),
            "--value: this figure can only be about scores or returns",
        ),
        (("--value", "eval/fqe"), "eval/fqe: no run of 7 variants has this metric"),
        (("--figure", "best-of-k", "--algorithms", "bc"), "no algorithm has several settings here"),
    ],
)
def test_bad_input_is_one_line(
    seqeval: Seqeval, study: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    assert says in refused(seqeval("plot", study, *arguments, "--out", tmp_path / "no.svg"))
