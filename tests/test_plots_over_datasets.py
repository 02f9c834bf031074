"""Figures over datasets: lines and texts are read back and compared with the tables of statistics."""

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
SIZES = dict.fromkeys(("one", "two", "three"), made_up.SIZE)


def lines(ax: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.lines}


def draw(name: str, rows: pd.DataFrame, *expected_notes: str) -> Figure:
    rows, notes = MODULES[name].FIGURE.prepare(analysis.with_studies(rows, made_up.studies(rows)))
    assert notes == list(expected_notes)
    return MODULES[name].figure(rows)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def assert_lines_match(ax: Axes, table: pd.DataFrame, x: str) -> None:
    """Every line of a table is drawn at its estimates, and its band from low to high."""
    called = analysis.line_labels(list(zip(table["variant"], table["study"], strict=True)))
    assert lines(ax).keys() == set(called.values())
    assert len(ax.collections) == len(called)
    for band, line in zip(ax.collections, ax.lines, strict=True):
        (key,) = [key for key, label in called.items() if label == line.get_label()]
        part = table[(table["variant"] == key[0]) & (table["study"] == key[1])]
        np.testing.assert_array_equal(line.get_xdata(), part[x])
        np.testing.assert_array_equal(line.get_ydata(), part["estimate"])
        corners = band.get_paths()[0].vertices
        assert {*part["low"], *part["high"]} <= set(corners[:, 1])
        assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color())


@pytest.mark.parametrize("estimator", ["mean", "median", "iqm", "optimality_gap"])
def test_any_estimator_is_drawn_from_its_table(estimator: str) -> None:
    rows = made_up.rows()
    table = analysis.aggregate_curves(rows, SIZES, [estimator], 100)
    ax = aggregate_figure.plot(table)
    assert_lines_match(ax, table, "share")
    assert ax.get_ylabel() == f"{aggregate_figure.NAMES[estimator]} of scores"
    assert ax.get_xlim() == pytest.approx((1 / 3, 1))


def test_the_iqm_matches_a_hand_computed_value() -> None:
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
    table = analysis.mean_ranks(rows, SIZES, 100)
    ax = ranks.plot(table)
    assert_lines_match(ax, table, "share")
    assert ax.yaxis_inverted()
    assert ax.get_yticks().tolist() == [1, 2, 3]


def test_mean_ranks_match_hand_computed_values() -> None:
    score = {"a": 1.0, "b": 3.0, "c": 3.0}
    figure = draw("ranks", made_up.rows(("a", "b", "c"), score=lambda v, d, s, n: score[v]))
    at_the_end = {name: line.get_ydata()[-1] for name, line in lines(figure.axes[0]).items()}
    assert at_the_end["a"] == 3
    assert (at_the_end["b"] + at_the_end["c"]) / 2 == pytest.approx(1.5)


def test_tied_ranks_are_drawn_side_by_side() -> None:
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
    assert_lines_match(ax, table, "level")
    assert {line.get_drawstyle() for line in ax.lines} == {"steps-post"}


def test_a_profile_steps_at_the_scores_of_runs() -> None:
    score = {"one": 10.0, "two": 20.0, "three": 40.0}
    rows = made_up.rows(("mine",), seeds=1, score=lambda v, dataset, s, n: score[dataset])
    (line,) = draw("profile", rows).axes[0].lines
    level, share = line.get_xdata(), line.get_ydata()
    # A step holds from its level to the next: at 10 itself two of three runs are above it.
    assert level[1:-1].tolist() == [10, 20, 40]
    assert share == pytest.approx([1, 2 / 3, 1 / 3, 0, 0])
    assert level[0] < 10 < 40 < level[-1]


def bars(ax: Axes) -> list[tuple[float, float, float, str]]:
    """Middle, left end, right end and colour of the outline of each bar."""
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
    end, area = (analysis.aggregate(analysis.STATISTICS[name].compute(rows)) for name in ("final", "area"))
    for ax, estimator in zip(figure.axes, ("mean", "median", "iqm", "optimality_gap"), strict=True):
        expected = []
        for place, variant in enumerate(("bc", "iql")):
            for table, side in ((end, -1), (area, 1)):
                (row,) = table[(table["variant"] == variant) & (table["estimator"] == estimator)].itertuples()
                expected.append(
                    (place + side * 0.19, row.low, row.high, row.estimate, style.ALGORITHM_COLOURS[variant])
                )
        ticks = [collection.get_segments()[0][:, 0].tolist() for collection in ax.collections]
        assert ticks == [[bar[3], bar[3]] for bar in expected]
        for drawn, bar in zip(bars(ax), expected, strict=True):
            assert drawn[:3] == pytest.approx(bar[:3])
            assert drawn[3] == bar[4].lower()
    assert legend(figure) == ["end of the data", "area under the curve"]


def test_the_improvement_matrix_shows_its_table() -> None:
    rows = made_up.rows(("a", "b", "c"))
    table = analysis.probability_of_improvement(analysis.final_values(rows), 200)
    ax = improvement.plot(table)
    (image,) = ax.images
    values, texts = image.get_array(), {text.get_position(): text.get_text() for text in ax.texts}
    assert len(texts) == 2 * 6
    assert values.mask.tolist() == np.eye(3, dtype=bool).tolist()
    for pair in table.itertuples():
        row, column = "abc".index(pair.first), "abc".index(pair.second)
        assert values[row, column] == pair.estimate
        assert texts[column, row - 0.12] == f"{pair.estimate:.2f}"
        assert texts[column, row + 0.22] == f"{pair.low:.2f}–{pair.high:.2f}"
    assert image.get_clim() == (0, 1)  # so that one half is in the middle of the colours


def test_the_improvement_matrix_matches_hand_computed_values() -> None:
    # b beats a on one and two, and is level with it on three: (1 + 1 + 1/2) / 3.
    rows = made_up.rows(("a", "b"), score=lambda v, d, s, n: float(v == "b" and d != "three"))
    texts = [text.get_text() for text in draw("improvement", rows).axes[0].texts]
    assert texts == ["0.17", "0.17–0.17", "0.83", "0.83–0.83"]


def of_two_studies(variants: tuple[str, ...]) -> pd.DataFrame:
    both = [made_up.rows(variants, study=study) for study in ("stream", "again")]
    return pd.concat(both, ignore_index=True)


@pytest.mark.parametrize("name", ["aggregate", "ranks", "profile"])
def test_an_algorithm_has_one_colour_and_each_study_its_own_dash(name: str) -> None:
    figure = draw(name, of_two_studies(("iql", "mine")))
    found = lines(figure.axes[0])
    assert list(found) == ["iql (stream)", "iql (again)", "mine (stream)", "mine (again)"]
    assert sorted(legend(figure)) == sorted(found)
    colours = {label: line.get_color() for label, line in found.items()}
    assert (
        colours["iql (stream)"]
        == colours["iql (again)"]
        == style.ALGORITHM_COLOURS["iql"]
        != colours["mine (again)"]
    )
    dashes = {label: line._unscaled_dash_pattern for label, line in found.items()}
    assert (
        dashes["iql (stream)"] == dashes["mine (stream)"] != dashes["iql (again)"] == dashes["mine (again)"]
    )


@pytest.mark.parametrize("name", ["intervals", "improvement"])
def test_lines_of_two_studies_are_labelled_with_their_study(name: str) -> None:
    ax = draw(name, of_two_studies(("iql", "mine"))).axes[0]
    names = ["iql (stream)", "iql (again)", "mine (stream)", "mine (again)"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == names


def test_a_custom_algorithm_has_the_same_colour_in_all_figures_of_the_same_rows() -> None:
    rows = made_up.rows(("zeta", "iql", "alpha"))  # in the order of the rows, which tables do not keep
    colours = [
        {label: line.get_color() for label, line in lines(draw(name, rows).axes[0]).items()}
        for name in ("aggregate", "ranks", "profile")
    ]
    assert colours[0] == colours[1] == colours[2]
    styles = style.line_styles(zip(rows["variant"], rows["study"], strict=True), {"s": ""})
    assert colours[0] == {variant: line.colour for (variant, _), line in styles.items()}


@pytest.mark.parametrize("name", MODULES)
def test_datasets_without_scores_are_left_out_with_a_note(name: str) -> None:
    rows = made_up.rows()
    rows.loc[rows["dataset"] == "two", "score"] = None
    draw(name, rows, "no scores, so not in statistics over datasets: two")


def test_improvement_refuses_a_single_line() -> None:
    with pytest.raises(UserError, match="improvement needs two lines to compare, and mine is the only line"):
        draw("improvement", made_up.rows(("mine",)))


@pytest.mark.parametrize("name", MODULES)
def test_runs_without_a_dataset_are_left_out_with_a_note(name: str) -> None:
    scratch = made_up.rows(("iql", "sac"), ("none",), study="t", points=(made_up.SIZE + 1,))
    with_it = pd.concat([made_up.rows(("bc", "iql")), scratch], ignore_index=True)
    note = "no offline phase, so not in statistics over datasets: none"
    ax = draw(name, with_it, note).axes[0]
    names = [tick.get_text() for tick in ax.get_yticklabels()] if not ax.lines else list(lines(ax))
    assert [name.partition(" ")[0] for name in names] == ["bc", "iql"]


@pytest.mark.parametrize("name", ["aggregate", "ranks"])
def test_a_single_point_is_a_marker_with_a_bar_for_its_interval(name: str) -> None:
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
        tuple(f"iql:expectile=0.{digit}" for digit in range(1, 9)),
    ],
    ids=len,
)
def test_all_text_lies_inside_the_figure(name: str, variants: tuple[str, ...]) -> None:
    figure = draw(name, made_up.rows(variants))
    figure.draw_without_rendering()
    inked = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert width <= style.TEXT_WIDTH
    assert min(inked.x0, inked.y0) > -0.02
    assert inked.x1 < width + 0.02
    assert inked.y1 < height + 0.02


def test_a_figure_is_reproducible_to_the_byte_and_its_text_stays_text(tmp_path: Path) -> None:
    for ending in ("svg", "pdf"):
        one, two = (
            style.save(draw("aggregate", made_up.rows()), tmp_path / f"{name}.{ending}")[-1].read_bytes()
            for name in ("one", "two")
        )
        assert one == two
        assert b"/Type3" not in one  # fonts that many conferences refuse
    assert "IQM of scores" in (tmp_path / "one.svg").read_text()


def test_the_example_in_the_readme_draws_the_published_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = [
        block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "published.runs" in block
    ]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with pytest.warns(UserWarning, match="left out of the statistics: .*cql.* ends at"):
        exec(example, names)
    assert (tmp_path / "intervals.pdf").read_bytes().startswith(b"%PDF")
