"""Options of figures: what they change, and how those that would change nothing are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest
from conftest import Seqeval, refused
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from seqeval.plots import FigureOptions, _text, curves, style

from seqeval import analysis, plots
from seqeval.errors import UserError

LINES = ("aggregate", "ranks", "profile")
FIGURES = ("curves", *LINES, "intervals", "improvement")


def draw(rows: pd.DataFrame, figure: str = "curves", **options: Any) -> Figure:
    return plots.draw(analysis.with_studies(rows, made_up.studies(rows)), figure, FigureOptions(**options))


def names(figure: Figure) -> list[str]:
    """The lines that a figure names, in its order: in its legend, or beside its first axes."""
    ax = figure.axes[0]
    beside = [tick.get_text().replace("\n", "") for tick in ax.get_yticklabels()]
    if beside and not any(name.lstrip("−").replace(".", "").rstrip("%").isdigit() for name in beside):
        return beside
    found = [text.get_text().replace("\n", "") for text in figure.legends[0].get_texts()]
    return [name for name in found if name != "mean of the data"]


def colours(figure: Figure) -> dict[str, str]:
    return {str(line.get_label()): to_hex(line.get_color()) for line in figure.axes[0].lines}


# --- order, filters and labels ---


@pytest.mark.parametrize("figure", FIGURES)
def test_lines_have_the_order_of_the_study_or_of_the_option(figure: str) -> None:
    rows = made_up.rows(("zeta", "iql", "alpha"))
    shuffled = rows.sort_values("variant")
    studies = made_up.studies(rows)
    drawn = plots.draw(analysis.with_studies(shuffled, studies), figure)
    assert names(drawn) == ["zeta", "iql", "alpha"]
    chosen = plots.draw(
        analysis.with_studies(shuffled, studies), figure, FigureOptions(algorithms=("alpha", "zeta"))
    )
    assert names(chosen) == ["alpha", "zeta"]


def test_datasets_have_the_order_of_the_study_or_of_the_option() -> None:
    rows = made_up.rows(datasets=("two", "one", "three"))
    data = analysis.with_studies(rows.sort_values("dataset"), made_up.studies(rows))
    assert [ax.get_title() for ax in plots.draw(data).axes] == ["two", "one", "three"]
    chosen = plots.draw(data, options=FigureOptions(datasets=("three", "two")))
    assert [ax.get_title() for ax in chosen.axes] == ["three", "two"]


@pytest.mark.parametrize("figure", FIGURES)
def test_labels_replace_names_and_keep_colours(figure: str) -> None:
    rows = made_up.rows(("mine", "iql:expectile=0.9"))
    labels = {"mine": "TD3+BC (ours)", "iql:expectile=0.9": "IQL"}
    assert names(draw(rows, figure, labels=labels)) == ["TD3+BC (ours)", "IQL"]
    if figure in ("curves", *LINES):
        plain, labelled = colours(draw(rows, figure)), colours(draw(rows, figure, labels=labels))
        assert labelled["TD3+BC (ours)"] == plain["mine"]
        assert labelled["IQL"] == plain["iql:expectile=0.9"]


def test_labels_name_datasets_and_studies_too() -> None:
    both = pd.concat([made_up.rows(("mine",), study=study) for study in ("s", "t")])
    figure = draw(both, labels=("one=First", "s=old", "t=new"))
    assert [ax.get_title() for ax in figure.axes] == ["First", "two", "three"]
    assert names(figure) == ["mine (old)", "mine (new)"]
    assert names(draw(both, "aggregate", labels=("s=old", "t=new"))) == ["mine (old)", "mine (new)"]


# --- colours ---


@given(st.lists(st.text(min_size=1), min_size=1, max_size=30, unique=True))
def test_variants_of_a_figure_have_different_colours_as_long_as_there_are_any(variants: list[str]) -> None:
    styles = style.line_styles([(name, "s") for name in variants], {"s": ""})
    colours = [found.colour for found in styles.values()]
    most = len(style.OTHER_COLOURS) + len(style.ALGORITHM_COLOURS)
    assert len(set(colours)) == min(len(variants), most)
    assert colours[0] == style.colour_of(variants[0]) or set(variants) & set(style.ALGORITHM_COLOURS)
    looks = [(found.colour, str(found.dash)) for found in styles.values()]
    assert len(set(looks)) == len(variants)
    assert style.colours(variants) == style.colours(variants)


def test_built_in_names_keep_their_colour_and_variants_start_from_it() -> None:
    names = ["iql:expectile=0.5", "BC", "TD3+BC", "iql"]
    found = style.colours(names)
    assert found["iql"] == style.ALGORITHM_COLOURS["iql"]
    assert len(set(found.values())) == len(names)
    assert style.colours(names[:3])["iql:expectile=0.5"] == style.ALGORITHM_COLOURS["iql"]


def test_colours_of_names_do_not_change_between_versions() -> None:
    expected = {"iql": "#D55E00", "mine": "#E69F00", "iql:expectile=0.9": "#D55E00"}
    assert {name: style.colour_of(name) for name in expected} == expected
    assert not set(style.OTHER_COLOURS) & set(style.ALGORITHM_COLOURS.values())


# --- bands, axes, smoothing ---


@pytest.mark.parametrize("band", ["range", "std", "ci", "none"])
def test_the_band_of_curves_is_that_of_the_option(band: str) -> None:
    rows = made_up.rows(("mine",), ("one",), seeds=4)
    figure = draw(rows, band=band)
    (ax,) = figure.axes
    at = rows.groupby("samples")["score"]
    if band == "none":
        assert not ax.collections
        assert figure.get_supxlabel() == "transitions seen (mean over 4 seeds)"
        return
    y = np.concatenate([path.vertices[:, 1] for path in ax.collections[0].get_paths()])
    low, high = at.min().min(), at.max().max()
    if band == "std":
        low, high = (at.mean() - at.std()).min(), (at.mean() + at.std()).max()
    if band == "ci":
        assert low < y.min() < at.mean().min()
        assert at.mean().max() < y.max() < high
        assert "95 % bootstrap interval" in figure.get_supxlabel().replace("\n", " ")
    else:
        assert (y.min(), y.max()) == pytest.approx((low, high))


def test_one_seed_has_a_band_without_width() -> None:
    rows = made_up.rows(("mine",), ("one",), seeds=1)
    for band in ("range", "std", "ci"):
        table = analysis.mean_curves(rows, band)
        np.testing.assert_allclose(table[["low", "high"]], np.stack([table["mean"]] * 2, 1))


@pytest.mark.parametrize("figure", LINES)
def test_figures_over_datasets_can_be_drawn_without_bands(figure: str) -> None:
    assert draw(made_up.rows(), figure).axes[0].collections
    bare = draw(made_up.rows(), figure, band="none")
    assert not bare.axes[0].collections
    assert "interval" not in bare.get_supxlabel()


def test_smoothing_takes_the_mean_of_the_last_points_of_a_phase() -> None:
    value = {1000: 1.0, 2000: 5.0, 3000: 3.0, 3100: 10.0, 3200: 20.0}
    rows = made_up.rows(("m",), ("one",), 1, points=tuple(value), score=lambda v, d, s, n: value[n])
    found = analysis.smoothed(rows.sample(frac=1, random_state=0), 2).sort_values("samples")
    assert found["score"].tolist() == [1, 3, 4, 10, 15]
    assert found["return_mean"].tolist() == [2, 6, 8, 20, 30]
    (line, *_) = draw(rows, smooth=2).axes[0].lines
    assert line.get_ydata().tolist() == [1, 3, 4, 10, 15]
    assert "mean of the last 2 points" in draw(rows, smooth=2).get_supxlabel().replace("\n", " ")


def test_smoothing_does_not_hide_a_missing_value() -> None:
    value = {1000: 1.0, 2000: None, 3000: 3.0, 3100: 4.0, 3200: 5.0}
    rows = made_up.rows(("m",), ("one",), 1, points=tuple(value), score=lambda v, d, s, n: value[n])
    assert np.isnan(analysis.smoothed(rows, 2)["score"]).tolist() == [False, True, True, False, False]


def test_a_smoothed_point_does_not_depend_on_later_points() -> None:
    rows = made_up.rows(points=(1000, 1500, 2000, 2500, 3000))
    cut = analysis.smoothed(rows[rows["samples"] <= 2000], 3)
    whole = analysis.smoothed(rows, 3)
    pd.testing.assert_frame_equal(cut, whole[whole["samples"] <= 2000].reset_index(drop=True))


def test_shares_of_the_dataset_and_limits_of_the_y_axis() -> None:
    figure = draw(made_up.rows(("bc",)), x="share", ylim=(0, 80))
    for ax in figure.axes:
        assert ax.lines[0].get_xdata() == pytest.approx([1 / 3, 2 / 3, 1])
        assert ax.get_xlim() == pytest.approx((1 / 3, 1))
        assert ax.get_ylim() == (0, 80)
    assert figure.get_supxlabel().startswith("share of the dataset seen")
    assert draw(made_up.rows(), "ranks", ylim=(1, 2)).axes[0].get_ylim() == (2, 1)  # 1 stays on top


# --- the broken axis ---


def places(ax: Axes, *values: float) -> list[float]:
    """Where values of the x axis are, as shares of its length."""
    ends = ax.transData.transform([(x, 0) for x in (*ax.get_xlim(), *values)])[:, 0]
    return ((ends[2:] - ends[0]) / (ends[1] - ends[0])).tolist()


def test_a_short_online_phase_has_a_marked_scale_of_its_own() -> None:
    figure = draw(made_up.rows(points=(1000, 2000, 3000, 3010, 3020)))
    for ax in figure.axes:
        assert ax.get_xlim() == (1000, 3020)
        assert places(ax, 2000, 3000, 3010) == pytest.approx([0.32, 0.64, 0.82])
        (shade,) = ax.patches
        assert (shade.get_x(), shade.get_x() + shade.get_width()) == (3000, 3020)
        assert (
            len([line for line in ax.lines if line.get_xdata()[0] == 3000 and line.get_marker() != "None"])
            == 2
        )
        texts = [text.get_text() for text in ax.get_xticklabels()]
        assert texts[-1] == "+20"
    assert "shaded: online steps, on their own scale" in figure.get_supxlabel().replace("\n", " ")


def test_a_long_online_phase_stays_on_one_scale() -> None:
    figure = draw(made_up.rows(points=(1000, 3000, 5000)))
    for ax in figure.axes:
        assert places(ax, 3000) == pytest.approx([0.5])
        assert not ax.patches
    assert "shaded" not in figure.get_supxlabel()


def test_short_data_before_a_long_online_phase_has_a_scale_of_its_own_too() -> None:
    (ax, *_) = draw(made_up.rows(points=(1000, 3000, 100_000))).axes
    assert places(ax, 3000) == pytest.approx([0.36])


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(1, 1e6))
def test_places_on_a_broken_axis_can_be_inverted(start: float, data: float, online: float) -> None:
    axis = curves.DataAxis(start, start + data, start + data + online)
    forward, inverse = axis._scale(0.36)
    x = np.linspace(start - data / 2, start + data + 1.5 * online, 50)
    np.testing.assert_allclose(inverse(forward(x)), x, rtol=1e-6, atol=1e-6 * (data + online))


# --- title, width, style ---


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("width", [None, "column", 7.0])
def test_titles_and_widths_keep_all_text_inside(figure: str, width: Any) -> None:
    rows = made_up.rows(("td3_bc", "an-algorithm-with-a-very-long-name:tau=0.005"))
    drawn = draw(rows, figure, title="A title of several words", width=width)
    expected = {None: drawn.get_figwidth(), "column": 3.25, 7.0: 7.0}[width]
    assert drawn.get_figwidth() == expected
    drawn.draw_without_rendering()
    inked = drawn.get_tightbbox()
    assert min(inked.x0, inked.y0) > -0.02
    assert inked.x1 < expected + 0.02
    assert inked.y1 < drawn.get_figheight() + 0.02
    above = drawn.legends[0].get_title() if drawn.legends else drawn._suptitle
    assert above.get_text().replace("\n", " ") == "A title of several words"


def test_a_style_file_changes_sizes_but_not_colours(tmp_path: Path) -> None:
    file = tmp_path / "mine.mplstyle"
    file.write_text("font.size: 12\nlines.linewidth: 3\naxes.prop_cycle: cycler('color', ['FF0000'])\n")
    figure = draw(made_up.rows(("bc", "mine")), style=str(file))
    plain = draw(made_up.rows(("bc", "mine")))
    assert colours(figure) == colours(plain)
    assert figure.axes[0].lines[0].get_linewidth() == 3
    assert figure.legends[0].get_texts()[0].get_fontsize() == 12
    assert plain.legends[0].get_texts()[0].get_fontsize() == 8
    draw(made_up.rows(), "aggregate", style="ggplot")


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 20, "short"),
        ("halfcheetah-medium-replay-v2", 20, "halfcheetah-\nmedium-replay-v2"),
        ("a b", 1, "a\nb"),
        ("abcdef", 4, "abc\ndef"),
    ],
)
def test_long_names_are_broken_into_even_lines(text: str, width: int, expected: str) -> None:
    assert _text.wrapped(text, width) == expected


@given(
    st.text(st.characters(codec="ascii", categories=("L", "N")) | st.sampled_from("-_/: ")),
    st.integers(1, 30),
)
def test_breaking_a_name_loses_only_spaces(text: str, width: int) -> None:
    lines = _text.wrapped(text, width).split("\n")
    assert max(map(len, lines)) <= width
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


# --- refusals ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"band": "rang"}, "band: must be range, std, ci, none, not 'rang'; did you mean 'range'?"),
        ({"x": "samples"}, "x: must be transitions, share, not 'samples'"),
        ({"width": 0.5}, "width: must be from 1 to 50 inches, column or text, not 0.5"),
        ({"width": "colum"}, "width: must be column, text, not 'colum'; did you mean 'column'?"),
        ({"ylim": (3, 1)}, "ylim: must be two numbers, the lower one first"),
        ({"ylim": (0, np.nan)}, "ylim: must be two numbers"),
        ({"smooth": 0}, "smooth: must be at least 1 point, not 0"),
        ({"labels": ("mine",)}, "labels: 'mine' is not name=text"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        FigureOptions(**options)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("figure", "options", "message"),
    [
        ("improvement", ("--band", "ci", "--smooth", 3), "--band and --smooth would change nothing"),
        ("aggregate", ("--band", "std"), "--band std: this figure draws only ci or none"),
        ("ranks", ("--x", "share"), "--x would change nothing in this figure; leave --x out"),
        (
            "curves",
            ("--datasets", "tow"),
            "datasets: no rows of 'tow'; did you mean 'two'?",
        ),
        ("curves", ("--algorithms", "cql"), "algorithms: no rows of 'cql'; there are bc, mine"),
        ("curves", ("--labels", "min=x"), "labels: 'min' is no variant, dataset or study of the figure; did"),
        ("curves", ("--style", "no.mplstyle"), "style: 'no.mplstyle' is neither a file nor a style"),
        ("curves", ("--style", "bad.mplstyle"), "style: bad.mplstyle cannot be read"),
    ],
)
def test_options_without_effect_and_unknown_names_are_refused_in_one_line(
    seqeval: Seqeval,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figure: str,
    options: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.mplstyle").write_text("lines.linewidth: thick\n")
    study = made_up.write(tmp_path, made_up.rows())
    ended = seqeval("plot", study, "--figure", figure, "--out", "a.png", *options)
    assert message in refused(ended)
    assert not (tmp_path / "a.png").exists()


def test_the_command_line_has_every_option(seqeval: Seqeval, tmp_path: Path) -> None:
    study = made_up.write(tmp_path, made_up.rows())
    ended = seqeval(
        *("plot", study, "--out", tmp_path / "a.svg", "--datasets", "two", "one", "--algorithms", "mine"),
        *("--labels", "mine=Mine (ours)", "two=Second", "--band", "std", "--title", "Two datasets"),
        *("--width", "column", "--ylim", 0, 100, "--x", "share", "--smooth", 2, "--style", "ggplot"),
    )
    assert (ended.code, ended.err) == (0, "")
    text = (tmp_path / "a.svg").read_text()
    for word in ("Mine (ours)", "Second", "Two datasets", "standard"):
        assert word in text
    assert ">bc<" not in text
