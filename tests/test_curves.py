"""Figures of curves: lines, bands and labels are read back and compared with the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from seqeval.plots import curves, style

from seqeval import analysis

DATASETS = {
    "one": {
        "env_id": "One-v0",
        "transitions": 3000,
        "behaviour_return": 50.0,
        "reference": {"minimum": 0.0, "maximum": 200.0, "source": ""},
    },
    "two": {"env_id": "Two-v0", "transitions": 3000, "behaviour_return": 50.0, "reference": None},
    "none": {"env_id": "One-v0", "transitions": 0, "behaviour_return": None, "reference": None},
}
for dataset in DATASETS.values():
    dataset |= {"segments": [dataset["transitions"]], "segments_in_turn": []}


def rows(
    variants=("bc", "mine"),
    seeds=(0, 1, 2),
    datasets=("one", "two"),
    study="s",
    regime="stream",
    phase="offline",
    points=(1000, 2000, 3000),
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "study": study,
                "regime": regime,
                "dataset": dataset,
                "variant": variant,
                "seed": seed,
                "phase": phase,
                "samples": samples,
                "updates": 3000 if variant == "bc" else samples,
                "score": float(rng.normal(50, 10)) if dataset == "one" else None,
                "return_mean": float(rng.normal(100, 10)),
                "status": "ok",
            }
            for dataset in datasets
            for variant in variants
            for seed in seeds
            for samples in points
        ]
    )


def draw(rows: pd.DataFrame, datasets: dict[str, Any] = DATASETS, published: Any = None) -> Figure:
    studies = {name: {"datasets": datasets} for name in rows["study"]}
    return curves.figure(analysis.with_studies(rows, studies), published=published)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_dataset_has_a_panel_with_a_line_per_variant_at_the_mean_over_seeds() -> None:
    data = rows()
    figure = draw(data)
    assert [ax.get_title() for ax in figure.axes] == ["one", "two"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["score", "return"]
    for ax, value in zip(figure.axes, ("score", "return_mean"), strict=True):
        for line in ax.lines[:2]:
            part = data[(data["dataset"] == ax.get_title()) & (data["variant"] == line.get_label())]
            np.testing.assert_allclose(line.get_xdata(), [1000, 2000, 3000])
            np.testing.assert_allclose(line.get_ydata(), part.groupby("samples")[value].mean())
    assert legend(figure) == ["bc", "mine", "mean of the data"]
    assert "3 seeds" in figure.get_supxlabel()


def test_the_band_spans_the_range_over_seeds() -> None:
    data = rows(variants=("bc",), datasets=("one",))
    ax = curves.plot(data)
    (band,) = ax.collections
    height = band.get_paths()[0].vertices[:, 1]
    assert height.min() == pytest.approx(data["score"].min())
    assert height.max() == pytest.approx(data["score"].max())


def test_the_mean_of_the_data_is_dashed_and_in_the_unit_of_the_panel() -> None:
    figure = draw(rows())
    dashed = [line.get_ydata()[0] for ax in figure.axes for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == [25.0, 50.0]


@pytest.mark.parametrize("below", [0.1, 1.0, 30.0])
def test_the_mean_of_the_data_keeps_a_margin_to_the_frame(below: float) -> None:
    data = rows(variants=("bc",), datasets=("one",))
    mean = data["score"].min() - below
    ax = curves.plot(data, data_mean=mean)
    low, high = ax.get_ylim()
    assert mean - low >= 0.04 * (high - low)


def test_a_line_is_dotted_after_a_seed_failed_and_the_legend_counts_the_seeds() -> None:
    data = rows(variants=("bc",), datasets=("one",))
    data.loc[(data["seed"] == 2) & (data["samples"] == 3000), ["score", "return_mean", "status"]] = (
        None,
        None,
        "failed",
    )
    figure = draw(data)
    dotted, solid = figure.axes[0].lines[:2]
    assert (dotted.get_linestyle(), solid.get_linestyle()) == (":", "-")
    assert np.isnan(solid.get_ydata()).tolist() == [False, False, True]
    assert not np.isnan(dotted.get_ydata()).any()
    assert legend(figure)[0] == "bc (dotted: 2 of 3 seeds)"


def test_the_legend_has_one_entry_for_a_variant_that_lost_seeds_in_some_panels() -> None:
    data = rows(seeds=(0, 1, 2, 3), datasets=("one", "two", "three"))
    gone = (data["dataset"] == "one") & (data["seed"] == 0) | (data["dataset"] == "two") & (data["seed"] < 3)
    data = data[~(gone & (data["variant"] == "bc") & (data["samples"] == 3000))]
    figure = draw(data, DATASETS | {"three": DATASETS["one"]})
    assert legend(figure) == ["bc (dotted: 1 to 3 of 4 seeds)", "mine", "mean of the data"]
    assert [any(line.get_linestyle() == ":" for line in ax.lines) for ax in figure.axes] == [
        True,
        True,
        False,
    ]


def test_twelve_panels_and_a_long_legend_fit_on_a_page() -> None:
    names = [f"halfcheetah-medium-expert-v{number}" for number in range(12)]
    variants = [f"an-algorithm-with-a-long-name-{number}" for number in range(5)]
    data = rows(variants, datasets=names)
    figure = draw(data, dict.fromkeys(names, DATASETS["two"]))
    figure.draw_without_rendering()
    assert figure.get_figheight() < 9  # inches of a NeurIPS page
    assert [ax.get_ylabel() for ax in figure.axes] == ["return", "", ""] * 4
    for artist in (*figure.legends, *(ax.title for ax in figure.axes)):
        extent = artist.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.width


@pytest.mark.parametrize("datasets", [1, 3, 12])
def test_a_long_legend_makes_the_figure_higher_and_keeps_the_panels_height(datasets: int) -> None:
    names = [f"dataset-{number}" for number in range(datasets)]
    heights = []
    for count in (2, 12):
        variants = [f"an-algorithm-with-a-long-name-{number}" for number in range(count)]
        figure = draw(rows(variants, datasets=names), dict.fromkeys(names, DATASETS["two"]))
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] == pytest.approx(heights[0], rel=0.07)


def test_lines_of_two_studies_are_labelled_with_their_study() -> None:
    figure = draw(pd.concat([rows(study="s"), rows(study="t", seeds=(0, 1))]))
    assert legend(figure)[:-1] == ["bc (s)", "bc (t)", "mine (s)", "mine (t)"]
    assert "2 to 3 seeds" in figure.get_supxlabel()


def test_styles_are_distinct_and_known_algorithms_keep_their_colours() -> None:
    names = ["iql", *(f"v{i}" for i in range(12)), "td3_bc"]
    styles = style.line_styles([(name, "s") for name in names], {"s": ""})
    assert len({(line.colour, str(line.dash)) for line in styles.values()}) == len(names)
    assert styles["iql", "s"] == style.LineStyle("iql", style.ALGORITHM_COLOURS["iql"], "-")
    assert style.line_styles([("x", "s"), ("iql", "s")], {"s": ""})["iql", "s"] == styles["iql", "s"]


def test_an_algorithm_has_one_colour_and_a_dash_per_study() -> None:
    styles = style.line_styles([("mine", "s"), ("mine", "t"), ("bc", "t")], {"s": "s", "t": "t"})
    first, second = styles["mine", "s"], styles["mine", "t"]
    assert first.colour == second.colour != styles["bc", "t"].colour == style.ALGORITHM_COLOURS["bc"]
    assert first.dash != second.dash
    assert [line.label for line in styles.values()] == ["mine (s)", "mine (t)", "bc (t)"]


def test_studies_are_labelled_by_regime_where_regimes_differ() -> None:
    data = pd.concat([rows(study="s"), rows(study="t", regime="retrain")])
    assert legend(draw(data))[0:2] == ["bc (stream)", "bc (retrain)"]


def test_studies_of_different_datasets_need_no_study_labels() -> None:
    data = pd.concat([rows(study="s", datasets=("one",)), rows(study="t", datasets=("two",))])
    figure = draw(data)
    assert legend(figure)[:-1] == ["bc", "mine"]  # they meet nowhere, so there is nothing to tell apart
    assert all(len(ax.collections) == 2 for ax in figure.axes)


def test_a_single_point_is_a_marker_with_a_bar_for_its_range() -> None:
    data = rows(variants=("bc",), datasets=("one",))
    ax = curves.plot(data[data["samples"] == 1000])
    assert [line.get_marker() for line in ax.lines] == ["o"]
    (bar,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    first = data[data["samples"] == 1000]["score"]
    assert bar.get_segments()[0][:, 1].tolist() == [first.min(), first.max()]


def test_png_and_pdf_are_both_saved_and_reproducible_to_the_byte(tmp_path: Path) -> None:
    paths = style.save(draw(rows()), tmp_path / "new" / "c.png")
    assert [path.name for path in paths] == ["c.png", "c.pdf"]
    assert paths[0].read_bytes()[:4] == b"\x89PNG"
    assert paths[1].read_bytes()[:5] == b"%PDF-"
    again = style.save(draw(rows()), tmp_path / "d.pdf")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_png_and_pdf_have_the_same_layout(tmp_path: Path) -> None:
    figure = draw(rows())
    places = []
    for ending in (".png", ".pdf"):
        style.save(figure, tmp_path / f"c{ending}")  # saves both files
        places.append([ax.get_position().bounds for ax in figure.axes])
    assert places[0] == places[1]
    assert places[0] != [ax.get_position().bounds for ax in draw(rows()).axes]


def both_phases() -> pd.DataFrame:
    return pd.concat([rows(datasets=("one",)), rows(datasets=("one",), phase="online", points=(3500, 4000))])


def test_lines_continue_online_and_the_end_of_the_data_is_marked() -> None:
    data = both_phases()
    figure = draw(data)
    (ax,) = figure.axes
    for line in ax.lines[:2]:
        assert line.get_xdata().tolist() == [1000, 2000, 3000, 3500, 4000]
        assert not np.isnan(line.get_ydata()).any()
    upright = [line for line in ax.lines if list(line.get_xdata()) == [3000, 3000]]
    assert len(upright) == 1
    assert upright[0].get_linestyle() == "--"
    sides = {text.get_text().strip(): text.get_ha() for text in ax.texts}
    assert sides == {"offline": "right", "online": "left"}
    assert ax.get_xlim() == (1000, 4000)
    # bc makes no update after the end of the data.
    assert legend(figure)[:2] == ["bc (frozen online)", "mine"]


def test_the_end_of_the_data_is_not_marked_without_an_online_phase() -> None:
    (ax,) = draw(rows(datasets=("one",))).axes
    assert not ax.texts
    assert not [line for line in ax.lines if len(set(line.get_xdata())) == 1]


def test_runs_from_scratch_are_drawn_with_the_dataset_of_their_environment_in_its_scores() -> None:
    scratch = rows(("mine", "new"), datasets=("none",), study="u", phase="online", points=(0, 4000))
    figure = draw(pd.concat([both_phases(), scratch]))
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.lines}
    assert legend(figure)[:4] == ["bc (frozen online)", "mine", "mine (from scratch)", "new (from scratch)"]
    line = lines["mine (from scratch)"]
    returns = scratch[scratch["variant"] == "mine"].groupby("samples")["return_mean"].mean()
    assert line.get_xdata().tolist() == [0, 4000]
    np.testing.assert_allclose(line.get_ydata(), returns / 2)  # returns of 0 and 200 are scores 0 and 100
    assert line.get_color() == lines["mine"].get_color()
    assert line.get_linestyle() != lines["mine"].get_linestyle()


def test_runs_from_scratch_without_a_matching_dataset_have_a_panel_in_returns() -> None:
    figure = draw(rows(("new",), datasets=("none",), phase="online", points=(0, 4000)))
    (ax,) = figure.axes
    assert (ax.get_title(), ax.get_ylabel(), ax.get_xlim()) == ("none", "return", (0, 4000))
    assert legend(figure) == ["new"]


def test_runs_from_scratch_of_two_studies_are_not_pooled() -> None:
    one, two = (
        rows(("new",), datasets=("none",), study=study, phase="online", points=(0, 4000))
        for study in ("u", "v")
    )
    labels = legend(draw(pd.concat([both_phases(), one, two])))
    assert labels[2:4] == ["new (u, from scratch)", "new (v, from scratch)"]


def test_the_segments_of_a_joined_dataset_are_marked_and_named() -> None:
    names = ["hopper-random-v2", "hopper-medium-v2", "hopper-medium-expert-v2"]
    joined = DATASETS["one"] | {"segments": [500, 1500, 1000], "segments_in_turn": names}
    (ax,) = draw(rows(datasets=("one",)), {"one": joined}).axes
    upright = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert upright == [500, 2000]
    middles = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert middles == {"random": 250, "medium": 1250, "medium-expert": 2500}
    assert ax.get_title() == "one"


def test_each_segment_has_its_own_mean_line_if_its_mean_is_known() -> None:
    joined = DATASETS["one"] | {"segments": [1500, 1500], "segments_in_turn": ["low", "high"]}
    joined |= {"segment_returns": [20.0, 120.0], "behaviour_return": None}
    (ax,) = draw(rows(datasets=("one",)), {"one": joined}).axes
    (levels,) = [item for item in ax.collections if isinstance(item, LineCollection)]
    assert np.array(levels.get_segments()).tolist() == [
        [[0.0, 10.0], [1500.0, 10.0]],
        [[1500.0, 60.0], [3000.0, 60.0]],
    ]
    assert legend(draw(rows(datasets=("one",)), {"one": joined}))[-1] == "mean of the data"


def test_published_runs_are_thin_and_grey_behind_ours_and_do_not_widen_the_x_axis() -> None:
    data = rows(datasets=("one", "two")).assign(algorithm=lambda rows: rows["variant"])
    others = rows(variants=("bc",), datasets=("one",), points=(500, 2000, 4000), study="published")
    others = others.assign(algorithm="bc")
    ended = (others["seed"] == 0) & (others["samples"] == 4000)
    figure = draw(data, DATASETS, others[~ended])
    one, two = figure.axes
    grey = [line for line in one.lines if line.get_color() in (style.GREY, style.LIGHT_GREY)]
    assert len(grey) == 4  # three seeds and their mean
    *seeds, mean = grey
    assert [len(line.get_xdata()) for line in seeds] == [2, 3, 3]
    expected = others[others["samples"] < 4000].groupby("samples")["score"].mean()
    assert mean.get_xdata().tolist() == [500, 2000]  # as far as all seeds go
    np.testing.assert_allclose(mean.get_ydata(), expected)
    assert mean.get_markerfacecolor() == style.ALGORITHM_COLOURS["bc"]
    ours = [line for line in one.lines if line.get_label() in ("bc", "mine")]
    assert max(line.get_zorder() for line in grey) < min(line.get_zorder() for line in ours)
    assert max(line.get_linewidth() for line in grey) < min(line.get_linewidth() for line in ours)
    assert one.get_xlim() == (1000, 3000)
    assert not [line for line in two.lines if line.get_color() in (style.GREY, style.LIGHT_GREY)]
    assert legend(figure) == ["bc", "mine", "mean of the data", "published runs (dots: mean)"]
    assert "published runs (dots: mean)" not in legend(draw(data))


def test_text_in_an_svg_stays_text(tmp_path: Path) -> None:
    (path,) = style.save(draw(rows()), tmp_path / "c.svg")
    assert ">mine</text>" in path.read_text()
