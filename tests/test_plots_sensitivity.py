"""The heat map over K and γ: its values, and which studies it accepts."""

from __future__ import annotations

from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from seqeval.plots import sensitivity, style

from seqeval import analysis
from seqeval.errors import UserError

PAIRS = [(k, gamma) for k in (1, 4) for gamma in (8, 2, 16)]


def grid(pairs: list[tuple[int, int]] = PAIRS, **of: Any) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Rows and studies, one for each pair; the score of every run is 10 K + γ + seed."""
    rows, studies = [], {}
    for k, gamma in pairs:
        name = f"K{k}-gamma{gamma}"

        def score(v: str, d: str, seed: int, n: int, k: int = k, gamma: int = gamma) -> float:
            return 10.0 * k + gamma + seed

        part = made_up.rows(study=name, **{"score": score} | of)
        studies[name] = made_up.study(part, updates_per_growth=k, grow_by=gamma)
        rows.append(part)
    return pd.concat(rows, ignore_index=True), studies


def draw(rows: pd.DataFrame, studies: dict[str, dict[str, Any]]) -> Figure:
    rows, notes = sensitivity.FIGURE.prepare(analysis.with_studies(rows, studies))
    assert notes == []
    return sensitivity.figure(rows)


def texts(ax: Any) -> dict[tuple[int, int], str]:
    """Text by the K and the γ that the axes name at its place."""
    k, gamma = (
        axis.get_major_formatter().format_ticks(axis.get_majorticklocs()) for axis in (ax.yaxis, ax.xaxis)
    )
    places = ((text.get_text(), *text.get_position()) for text in ax.texts)
    return {(int(k[y]), int(gamma[x])): text for text, x, y in places}


def test_each_square_shows_the_mean_over_seeds_at_the_end_of_the_data() -> None:
    rows, studies = grid(points=(1000, made_up.SIZE, made_up.SIZE + 9), datasets=("one",), seeds=3)
    figure = draw(rows, studies)
    assert [ax.get_title() for ax in figure.axes] == ["bc", "mine"]
    for ax in figure.axes:
        assert texts(ax) == {(k, gamma): f"{10 * k + gamma + 1:.1f}" for k, gamma in PAIRS}
        assert ax.images[0].get_array().tolist() == [[13, 19, 27], [43, 49, 57]]  # 10 K + γ + 1, as it lies
    assert "mean of 3 seeds at the end of the data" in figure.get_supxlabel()


def test_each_dataset_has_its_own_colour_scale() -> None:
    scale = {("bc", "one"): 1.0, ("mine", "one"): 9.0, ("bc", "two"): 20.0, ("mine", "two"): 70.0}
    rows, studies = grid(datasets=("one", "two"), score=lambda v, d, s, n: scale[v, d])
    figure = draw(rows, studies)
    assert [ax.images[0].get_clim() for ax in figure.axes] == [(1, 9), (1, 9), (20, 70), (20, 70)]
    assert [part.get_suptitle() for part in figure.subfigs] == ["one (score)", "two (score)"]


def test_returns_have_four_digits_and_are_labelled_as_returns() -> None:
    rows, studies = grid(datasets=("one",), score=lambda v, d, s, n: -678.91)
    figure = draw(rows.assign(score=np.nan), studies)
    assert set(texts(figure.axes[0]).values()) == {"-1358"}
    assert figure.subfigs[0].get_suptitle() == "one (return)"


def test_a_pair_that_was_not_run_is_left_empty() -> None:
    rows, studies = grid(PAIRS[:-1])
    ax = draw(rows, studies).axes[0]
    assert texts(ax).keys() == set(PAIRS[:-1])
    assert np.isnan(np.ma.filled(ax.images[0].get_array(), np.nan)).sum() == 1


def test_a_table_drawn_alone_has_its_own_colour_scale() -> None:
    table = analysis.last_points(made_up.rows(("bc",), ("one",)))
    ax = sensitivity.plot(
        pd.concat([table.assign(K=1, gamma=2, mean=3.0), table.assign(K=1, gamma=4, mean=5.0)])
    )
    assert ax.images[0].get_clim() == (3, 5)
    assert texts(ax) == {(1, 2): "3.0", (1, 4): "5.0"}


def change(studies: dict[str, dict[str, Any]], name: str, group: str, key: str, value: Any) -> None:
    studies[name][group] = studies[name][group] | {key: value}


@pytest.mark.parametrize(
    ("group", "key", "value", "says"),
    [
        ("protocol", "start", 500, "protocol.start is 1000 in K1-gamma8 and 500 in K4-gamma2"),
        ("protocol", "window", 99, "protocol.window is missing in K1-gamma8 and 99 in K4-gamma2"),
        ("online", "steps", 7, "online.steps is 0 in K1-gamma8 and 7 in K4-gamma2"),
        ("evaluation", "points", 3, "evaluation.points is 2 in K1-gamma8 and 3 in K4-gamma2"),
        (
            "algorithms",
            "bc",
            {"algorithm": "bc", "config": {"batch_size": 32}},
            "bc.batch_size is 256 in K1-gamma8 and 32 in K4-gamma2",
        ),
        (
            "datasets",
            "two",
            {"digest": "another", "reference": None, "transitions": 3000},
            "two.digest is 'digest of two' in K1-gamma8 and 'another' in K4-gamma2",
        ),
    ],
)
def test_studies_that_differ_in_more_than_k_and_gamma_are_refused(
    group: str, key: str, value: Any, says: str
) -> None:
    rows, studies = grid()
    change(studies, "K4-gamma2", group, key, value)
    with pytest.raises(UserError) as refused:
        draw(rows, studies)
    assert str(refused.value) == f"plot: {says}; studies may differ only in K and γ"


def test_an_algorithm_in_a_file_is_compared_by_content_not_by_path() -> None:
    rows, studies = grid()
    for place, name in enumerate(studies):
        algorithm = {
            "algorithm": f"/home/{place}/crr.py:CRR",
            "code": "sha256",
            "config": {"batch_size": 256},
        }
        change(studies, name, "algorithms", "mine", algorithm)
    assert draw(rows, studies).axes
    change(studies, "K4-gamma2", "algorithms", "mine", algorithm | {"code": "another"})
    with pytest.raises(UserError, match=r"mine\.code is 'sha256' in K1-gamma8 and 'another' in K4-gamma2"):
        draw(rows, studies)


def test_a_single_study_a_repeated_pair_and_another_regime_are_refused() -> None:
    rows, studies = grid()
    one = {"K1-gamma8": studies["K1-gamma8"]}
    with pytest.raises(
        UserError, match="give several study directories, one for each combination of K and γ"
    ):
        draw(rows[rows["study"] == "K1-gamma8"], one)
    again = rows[rows["study"] == "K1-gamma8"].assign(study="again")
    with pytest.raises(UserError, match="K1-gamma8 and again both have K = 1, γ = 8"):
        draw(pd.concat([rows, again]), studies | {"again": studies["K1-gamma8"]})
    for name in studies:
        change(studies, name, "protocol", "regime", "retrain")
    with pytest.raises(UserError, match="K1-gamma8 is of the regime retrain, which has no K and γ"):
        draw(rows, studies)


@pytest.mark.parametrize(
    "variants", [("bc",), ("td3_bc", "iql"), ("awac", "bc", "cql", "iql", "td3_bc")], ids=len
)
def test_all_text_lies_inside_the_figure(variants: tuple[str, ...]) -> None:
    figure = draw(*grid(variants=variants, datasets=("hopper-medium-replay-v2", "two")))
    figure.draw_without_rendering()
    inked, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width <= style.TEXT_WIDTH
    assert min(inked.x0, inked.y0) > -0.02
    assert inked.x1 < width + 0.02
    assert inked.y1 < height + 0.02
