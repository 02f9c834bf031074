"""The figure shows what the rows say: its lines, bands and labels are read back from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from seqeval.plots import curves, style

ABOUT = {
    "one": {"behaviour_return": 50.0, "reference": {"minimum": 0.0, "maximum": 200.0, "source": ""}},
    "two": {"behaviour_return": 50.0, "reference": None},
}


def rows(
    variants=("bc", "mine"), seeds=(0, 1, 2), datasets=("one", "two"), study="s", regime="stream"
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
                "samples": samples,
                "score": float(rng.normal(50, 10)) if dataset == "one" else None,
                "return_mean": float(rng.normal(100, 10)),
                "status": "ok",
            }
            for dataset in datasets
            for variant in variants
            for seed in seeds
            for samples in (1000, 2000, 3000)
        ]
    )


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_panel_a_dataset_and_a_line_a_variant_at_the_mean_of_its_seeds() -> None:
    data = rows()
    figure = curves.figure(data, ABOUT)
    assert [ax.get_title() for ax in figure.axes] == ["one", "two"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["score", "return"]
    for ax, value in zip(figure.axes, ("score", "return_mean"), strict=True):
        for line in ax.lines[:2]:
            mine = data[(data["dataset"] == ax.get_title()) & (data["variant"] == line.get_label())]
            np.testing.assert_allclose(line.get_xdata(), [1000, 2000, 3000])
            np.testing.assert_allclose(line.get_ydata(), mine.groupby("samples")[value].mean())
    assert legend(figure) == ["bc", "mine", "mean of the data"]
    assert "3 seeds" in figure.get_supxlabel()


def test_the_band_runs_from_the_lowest_seed_to_the_highest() -> None:
    data = rows(variants=("bc",), datasets=("one",))
    ax = curves.plot(data)
    (band,) = ax.collections
    height = band.get_paths()[0].vertices[:, 1]
    assert height.min() == pytest.approx(data["score"].min())
    assert height.max() == pytest.approx(data["score"].max())


def test_the_datas_own_mean_is_dashed_in_the_panels_unit() -> None:
    figure = curves.figure(rows(), ABOUT)
    dashed = [line.get_ydata()[0] for ax in figure.axes for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == [25.0, 50.0]


def test_a_line_that_lost_a_seed_is_dotted_from_there_and_says_so() -> None:
    data = rows(variants=("bc",), datasets=("one",))
    data.loc[(data["seed"] == 2) & (data["samples"] == 3000), ["score", "return_mean", "status"]] = (
        None,
        None,
        "failed",
    )
    figure = curves.figure(data, ABOUT)
    dotted, solid = figure.axes[0].lines[:2]
    assert (dotted.get_linestyle(), solid.get_linestyle()) == (":", "-")
    assert np.isnan(solid.get_ydata()).tolist() == [False, False, True]
    assert not np.isnan(dotted.get_ydata()).any()
    assert legend(figure)[0] == "bc: 2 of 3 seeds left"


def test_lines_of_two_studies_are_kept_apart() -> None:
    figure = curves.figure(pd.concat([rows(study="s"), rows(study="t", seeds=(0, 1))]), ABOUT)
    assert legend(figure)[:-1] == ["bc (s)", "bc (t)", "mine (s)", "mine (t)"]
    assert "2 to 3 seeds" in figure.get_supxlabel()


def test_styles_differ_and_our_own_algorithms_keep_their_colours() -> None:
    names = ["iql", *(f"v{i}" for i in range(12)), "td3_bc"]
    styles = style.lines([(name, "s") for name in names], {"s": ""})
    assert len({(look.colour, str(look.dash)) for look in styles.values()}) == len(names)
    assert styles["iql", "s"] == style.Line("iql", style.OWN["iql"], "-")
    assert style.lines([("x", "s"), ("iql", "s")], {"s": ""})["iql", "s"] == styles["iql", "s"]


def test_an_algorithm_has_one_colour_in_all_studies_which_dashes_tell_apart() -> None:
    styles = style.lines([("mine", "s"), ("mine", "t"), ("bc", "t")], {"s": "s", "t": "t"})
    first, second = styles["mine", "s"], styles["mine", "t"]
    assert first.colour == second.colour != styles["bc", "t"].colour == style.OWN["bc"]
    assert first.dash != second.dash
    assert [look.label for look in styles.values()] == ["mine (s)", "mine (t)", "bc (t)"]


def test_regimes_are_named_where_they_tell_the_studies_apart() -> None:
    data = pd.concat([rows(study="s"), rows(study="t", regime="retrain")])
    assert legend(curves.figure(data, ABOUT))[0:2] == ["bc (stream)", "bc (retrain)"]


def test_studies_of_different_datasets_share_a_figure() -> None:
    data = pd.concat([rows(study="s", datasets=("one",)), rows(study="t", datasets=("two",))])
    figure = curves.figure(data, ABOUT)
    assert legend(figure)[:-1] == ["bc", "mine"]  # they meet nowhere, so there is nothing to tell apart
    assert all(len(ax.collections) == 2 for ax in figure.axes)


def test_a_point_alone_is_marked_and_its_range_drawn() -> None:
    data = rows(variants=("bc",), datasets=("one",))
    ax = curves.plot(data[data["samples"] == 1000])
    assert [line.get_marker() for line in ax.lines] == ["o"]
    (bar,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    first = data[data["samples"] == 1000]["score"]
    assert bar.get_segments()[0][:, 1].tolist() == [first.min(), first.max()]


def test_png_and_pdf_lie_side_by_side_and_are_the_same_bytes_again(tmp_path: Path) -> None:
    paths = style.save(curves.figure(rows(), ABOUT), tmp_path / "new" / "c.png")
    assert [path.name for path in paths] == ["c.png", "c.pdf"]
    assert paths[0].read_bytes()[:4] == b"\x89PNG"
    assert paths[1].read_bytes()[:5] == b"%PDF-"
    again = style.save(curves.figure(rows(), ABOUT), tmp_path / "d.pdf")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
