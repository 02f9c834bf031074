"""Figures over datasets: what is drawn is read back from them and held against the statistics' tables."""

from __future__ import annotations

import re
from pathlib import Path

import made_up
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from seqeval.plots import aggregate as aggregate_figure
from seqeval.plots import improvement, intervals, profile, ranks, style

from seqeval import analysis
from seqeval.errors import UserError

MODULES = {"aggregate": aggregate_figure, "ranks": ranks, "profile": profile, "intervals": intervals}
MODULES["improvement"] = improvement


def lines(ax: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.lines}


def draw(name: str, rows: pd.DataFrame, *told: str) -> Figure:
    figure, notes = MODULES[name].figure(rows, made_up.studies(rows))
    assert notes == list(told)
    return figure


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def check_lines(ax: Axes, table: pd.DataFrame, x: str) -> None:
    """Every line of a table is drawn at its estimates, and its band from low to high."""
    called = analysis.line_labels(list(zip(table["variant"], table["study"], strict=True)))
    assert lines(ax).keys() == set(called.values())
    assert len(ax.collections) == len(called)
    for band, line in zip(ax.collections, ax.lines, strict=True):
        (key,) = [key for key, label in called.items() if label == line.get_label()]
        mine = table[(table["variant"] == key[0]) & (table["study"] == key[1])]
        np.testing.assert_array_equal(line.get_xdata(), mine[x])
        np.testing.assert_array_equal(line.get_ydata(), mine["estimate"])
        corners = band.get_paths()[0].vertices
        assert {*mine["low"], *mine["high"]} <= set(corners[:, 1])
        assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color())


@pytest.mark.parametrize("statistic", ["mean", "median", "iqm", "optimality_gap"])
def test_any_statistic_along_the_data_is_drawn_from_its_table(statistic: str) -> None:
    rows = made_up.rows()
    table = analysis.aggregate_curves(rows, style.transitions(made_up.studies(rows)), [statistic], 100)
    ax = aggregate_figure.plot(table)
    check_lines(ax, table, "share")
    assert ax.get_ylabel() == f"{aggregate_figure.NAMES[statistic]} of scores"
    assert ax.get_xlim() == pytest.approx((1 / 3, 1))


def test_the_figure_of_the_iqm_by_hand() -> None:
    # Of twelve runs with the scores 0, 1, .. 11 the middle six are 3 to 8.
    rows = made_up.rows(
        ("mine",), seeds=4, score=lambda v, d, seed, n: ["one", "two", "three"].index(d) * 4 + seed
    )
    figure = draw("aggregate", rows)
    (line,) = figure.axes[0].lines
    assert line.get_ydata() == pytest.approx([5.5] * 3)
    assert legend(figure) == ["mine"]
    assert figure.get_supxlabel() == "3 datasets, 4 seeds each, 95 % intervals"


def test_ranks_are_drawn_from_their_table_with_the_best_on_top() -> None:
    rows = made_up.rows(("a", "b", "c"), score=lambda v, d, seed, n: 10 * ord(v) + (7 * seed + n) % 13)
    table = analysis.mean_ranks(rows, style.transitions(made_up.studies(rows)), 100)
    ax = ranks.plot(table)
    check_lines(ax, table, "share")
    assert ax.yaxis_inverted()
    assert ax.get_yticks().tolist() == [1, 2, 3]


def test_the_figure_of_ranks_by_hand() -> None:
    score = {"a": 1.0, "b": 3.0, "c": 3.0}
    figure = draw("ranks", made_up.rows(("a", "b", "c"), score=lambda v, d, s, n: score[v]))
    at_the_end = {name: line.get_ydata()[-1] for name, line in lines(figure.axes[0]).items()}
    assert at_the_end["a"] == 3
    assert (at_the_end["b"] + at_the_end["c"]) / 2 == pytest.approx(1.5)


def test_ranks_that_tie_lie_side_by_side() -> None:
    figure = draw("ranks", made_up.rows(("a", "b", "c"), score=lambda v, d, s, n: float(n)))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    ends = [ax.transData.transform((1, line.get_ydata()[-1]))[1] for line in lines(ax).values()]
    apart = np.diff(ends) * 72 / figure.dpi
    assert apart == pytest.approx([-style.RC["lines.linewidth"]] * 2, rel=0.2)
    assert lines(ax)["b"].get_ydata() == pytest.approx([2] * 3)


def test_profiles_are_drawn_from_their_table_as_steps() -> None:
    finals = analysis.final_values(made_up.rows())
    table = analysis.performance_profile(finals, [20, 40, 50, 60, 80], 100)
    ax = profile.plot(table)
    check_lines(ax, table, "level")
    assert {line.get_drawstyle() for line in ax.lines} == {"steps-post"}


def test_the_steps_of_a_profile_are_where_runs_are() -> None:
    score = {"one": 10.0, "two": 20.0, "three": 40.0}
    rows = made_up.rows(("mine",), seeds=1, score=lambda v, dataset, s, n: score[dataset])
    (line,) = draw("profile", rows).axes[0].lines
    level, share = line.get_xdata(), line.get_ydata()
    # A step holds from its level to the next: at 10 itself two of three runs are above it.
    assert level[1:-1].tolist() == [10, 20, 40]
    assert share == pytest.approx([1, 2 / 3, 1 / 3, 0, 0])
    assert level[0] < 10 < 40 < level[-1]


def bars(ax: Axes) -> list[tuple[float, float, float, str]]:
    """Middle, left end, right end and colour of each bar's outline, and its ticks."""
    outlines = [patch for patch in ax.patches if not patch.get_fill()]
    return [
        (
            bar.get_y() + bar.get_height() / 2,
            bar.get_x(),
            bar.get_x() + bar.get_width(),
            to_hex(bar.get_edgecolor()),
        )
        for bar in outlines
    ]


def test_intervals_are_bars_from_low_to_high_with_a_tick_at_the_estimate() -> None:
    rows = made_up.rows(("bc", "iql"))
    figure = draw("intervals", rows)
    assert [ax.get_title()[:-2] for ax in figure.axes] == ["mean", "median", "IQM", "optimality gap"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["bc", "iql"]
    end, area = (analysis.aggregate(measure(rows)) for measure in (analysis.final_values, analysis.areas))
    for ax, statistic in zip(figure.axes, ("mean", "median", "iqm", "optimality_gap"), strict=True):
        expected = []
        for place, variant in enumerate(("bc", "iql")):
            for table, side in ((end, -1), (area, 1)):
                (row,) = table[(table["variant"] == variant) & (table["estimator"] == statistic)].itertuples()
                expected.append((place + side * 0.19, row.low, row.high, row.estimate, style.OWN[variant]))
        ticks = [collection.get_segments()[0][:, 0].tolist() for collection in ax.collections]
        assert ticks == [[each[3], each[3]] for each in expected]
        for drawn, each in zip(bars(ax), expected, strict=True):
            assert drawn[:3] == pytest.approx(each[:3])
            assert drawn[3] == each[4].lower()
    assert legend(figure) == ["end of the data", "area under the curve"]


def test_the_matrix_of_improvement_says_in_each_cell_what_its_table_does() -> None:
    rows = made_up.rows(("a", "b", "c"))
    table = analysis.probability_of_improvement(analysis.final_values(rows), 200)
    ax = improvement.plot(table)
    (image,) = ax.images
    values, texts = image.get_array(), {text.get_position(): text.get_text() for text in ax.texts}
    assert len(texts) == 2 * 6
    assert values.mask.tolist() == np.eye(3, dtype=bool).tolist()
    for each in table.itertuples():
        row, column = "abc".index(each.first), "abc".index(each.second)
        assert values[row, column] == each.estimate
        assert texts[column, row - 0.12] == f"{each.estimate:.2f}"
        assert texts[column, row + 0.22] == f"{each.low:.2f}–{each.high:.2f}"
    assert image.get_clim() == (0, 1)  # so that one half is in the middle of the colours


def test_the_matrix_of_improvement_by_hand() -> None:
    # b beats a on one and two, and is level with it on three: (1 + 1 + 1/2) / 3.
    rows = made_up.rows(("a", "b"), score=lambda v, d, s, n: float(v == "b" and d != "three"))
    texts = [text.get_text() for text in draw("improvement", rows).axes[0].texts]
    assert texts == ["0.17", "0.17–0.17", "0.83", "0.83–0.83"]


def of_two_studies(variants: tuple[str, ...]) -> pd.DataFrame:
    both = [made_up.rows(variants, study=study) for study in ("stream", "again")]
    return pd.concat(both, ignore_index=True)


@pytest.mark.parametrize("name", ["aggregate", "ranks", "profile"])
def test_two_studies_share_an_algorithms_colour_and_have_dashes_of_their_own(name: str) -> None:
    figure = draw(name, of_two_studies(("iql", "mine")))
    found = lines(figure.axes[0])
    assert list(found) == ["iql (stream)", "mine (stream)", "iql (again)", "mine (again)"]
    assert sorted(legend(figure)) == sorted(found)
    colours = {label: line.get_color() for label, line in found.items()}
    assert colours["iql (stream)"] == colours["iql (again)"] == style.OWN["iql"] != colours["mine (again)"]
    dashes = {label: line._unscaled_dash_pattern for label, line in found.items()}
    assert (
        dashes["iql (stream)"] == dashes["mine (stream)"] != dashes["iql (again)"] == dashes["mine (again)"]
    )


@pytest.mark.parametrize("name", ["intervals", "improvement"])
def test_two_studies_have_names_of_their_own(name: str) -> None:
    ax = draw(name, of_two_studies(("iql", "mine"))).axes[0]
    names = ["iql (stream)", "mine (stream)", "iql (again)", "mine (again)"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == names


def test_an_algorithm_of_ones_own_has_one_colour_in_all_figures_of_the_same_rows() -> None:
    rows = made_up.rows(("zeta", "iql", "alpha"))  # in the order of the rows, which tables do not keep
    colours = [
        {label: line.get_color() for label, line in lines(draw(name, rows).axes[0]).items()}
        for name in ("aggregate", "ranks", "profile")
    ]
    assert colours[0] == colours[1] == colours[2]
    looks = style.lines(zip(rows["variant"], rows["study"], strict=True), {"s": ""})
    assert colours[0] == {variant: look.colour for (variant, _), look in looks.items()}


@pytest.mark.parametrize("name", MODULES)
def test_what_is_left_out_is_handed_back_as_notes(name: str) -> None:
    rows = made_up.rows()
    rows.loc[rows["dataset"] == "two", "score"] = None
    _, notes = MODULES[name].figure(rows, made_up.studies(rows))
    assert notes == ["no scores, so not in statistics over datasets: two"]


def test_one_line_has_no_matrix_of_improvement() -> None:
    rows = made_up.rows(("mine",))
    with pytest.raises(UserError, match="improvement: mine is the only line"):
        improvement.figure(rows, made_up.studies(rows))


@pytest.mark.parametrize("name", MODULES)
def test_what_is_learnt_without_data_is_in_no_figure_over_datasets(name: str) -> None:
    scratch = made_up.rows(("iql", "sac"), ("none",), study="t", points=(made_up.SIZE + 1,))
    with_it = pd.concat([made_up.rows(("bc", "iql")), scratch], ignore_index=True)
    told = "no offline phase, so not in statistics over datasets: none"
    ax = draw(name, with_it, told).axes[0]
    names = [tick.get_text() for tick in ax.get_yticklabels()] if not ax.lines else list(lines(ax))
    assert [each.partition(" ")[0] for each in names] == ["bc", "iql"]


@pytest.mark.parametrize("name", ["aggregate", "ranks"])
def test_a_point_alone_is_marked_and_its_interval_drawn(name: str) -> None:
    ax = draw(name, made_up.rows(points=(made_up.SIZE,))).axes[0]
    assert {line.get_marker() for line in ax.lines} == {"o"}
    for bar, line in zip(ax.collections, ax.lines, strict=True):
        low, high = bar.get_segments()[0][:, 1]
        assert low <= line.get_ydata()[0] <= high


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    "variants",
    [
        ("td3_bc", "iql"),
        ("awac", "bc", "cql", "iql", "td3_bc"),
        tuple(f"iql:expectile=0.{each}" for each in range(1, 9)),
    ],
    ids=len,
)
def test_nothing_stands_outside_of_the_figure(name: str, variants: tuple[str, ...]) -> None:
    figure = draw(name, made_up.rows(variants))
    figure.draw_without_rendering()
    inked = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert width <= style.TEXT_WIDTH
    assert min(inked.x0, inked.y0) > -0.02
    assert inked.x1 < width + 0.02
    assert inked.y1 < height + 0.02


def test_a_figure_is_the_same_bytes_again_and_its_text_stays_text(tmp_path: Path) -> None:
    for ending in ("svg", "pdf"):
        one, two = (
            style.save(draw("aggregate", made_up.rows()), tmp_path / f"{name}.{ending}")[-1].read_bytes()
            for name in ("one", "two")
        )
        assert one == two
        assert b"/Type3" not in one  # fonts that many conferences refuse
    assert "IQM of scores" in (tmp_path / "one.svg").read_text()


def test_the_readmes_example_draws_the_papers_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        if "intervals.figure" in block
    ]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example, names)
    assert (tmp_path / "intervals.pdf").read_bytes().startswith(b"%PDF")
    assert any("CQL" in note.upper() and "ends at" in note for note in names["left_out"])
