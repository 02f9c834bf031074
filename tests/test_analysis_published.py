"""The paper's own runs: the published file, our x axis, and comparisons with hand-computed numbers."""

from __future__ import annotations

import gzip
import re
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Seqeval, refused
from hypothesis import given
from hypothesis import strategies as st

from seqeval import analysis, atomic_io
from seqeval.analysis import published
from seqeval.analysis.published import comparison
from seqeval.analysis.published.runs import START, samples_at, updates_at
from seqeval.config import PRESETS, Evaluation, Online, Protocol
from seqeval.errors import UserError
from seqeval.execution.storage import Run
from seqeval.types import Reference, Row

ROOT = Path(__file__).parents[1]
Curves = dict[tuple[str, str, int], dict[int, float | None]]  # by dataset, algorithm and seed: n, score


# --- the published file ---


def test_the_package_holds_the_authors_files(shared: Path) -> None:
    ours = files("seqeval.analysis.published")
    curves = gzip.decompress((ours / "curves.csv.gz").read_bytes())
    assert curves == (shared / "published" / "curves.csv").read_bytes()
    scores = (ours / "dataset_scores.csv").read_bytes()
    assert scores == (shared / "published" / "dataset_scores.csv").read_bytes()


def test_the_files_are_package_data() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["seqeval.analysis.published"]
    packaged = {
        path.name for each in patterns for path in (ROOT / "seqeval" / "analysis" / "published").glob(each)
    }
    assert {"curves.csv.gz", "dataset_scores.csv"} < packaged
    data = [
        path for path in (ROOT / "seqeval" / "analysis" / "published").iterdir() if ".csv" in path.suffixes
    ]
    assert packaged == {path.name for path in data}
    assert sum(path.stat().st_size for path in data) < 6e6


@pytest.mark.parametrize(
    ("figure", "panels", "points"), [("fig1", 12, 6760), ("finetune", 12, 6661), ("mixed", 3, 1425)]
)
def test_every_point_is_loaded_and_has_an_n(figure: str, panels: int, points: int) -> None:
    rows, about = published.runs(figure), published.datasets(figure)
    assert len(rows) == points
    assert list(rows["dataset"].unique()) == list(about)
    assert len(about) == panels
    assert list(rows["variant"].unique()) == ["awac", "bc", "cql", "iql", "td3_bc"]
    assert (rows.groupby(["dataset", "algorithm", "seed"])["samples"].diff().dropna() > 0).all()
    size = rows["dataset"].map({name: each["transitions"] for name, each in about.items()})
    offline = rows["phase"] == "offline"
    assert (rows.loc[offline, "samples"] <= size[offline]).all()
    assert (rows.loc[~offline, "samples"] > size[~offline]).all()
    assert (rows.loc[offline, "updates"] >= rows.loc[offline, "samples"] - START).all()
    assert offline.all() == (figure != "finetune")


def test_points_of_a_line_match_hand_computed_values() -> None:
    rows = published.runs("fig1").set_index(["dataset", "algorithm", "seed"])
    replay = rows.loc[("hopper-medium-replay-v2", "iql", 1)]
    # 401 598 transitions: the last of 400 000 updates uses all of them.
    assert replay["samples"].tolist() == [*range(55_000, 400_000, 50_000), 401_598]
    assert replay["updates"].tolist() == [*range(50_000, 400_001, 50_000)]
    first = rows.loc[("walker2d-random-v2", "cql", 5)].iloc[0]
    assert (first["samples"], first["score"]) == (55_000, 1.866)
    assert first["return_mean"] == pytest.approx(1.629008 + 0.01866 * (4592.3 - 1.629008))


def test_online_points_end_with_the_500_000_steps() -> None:
    """They would end later if n were the number of updates + 5000 online, too."""
    rows, about = published.runs("finetune"), published.datasets("finetune")
    ends = rows.groupby("dataset")["samples"].max()
    assert ends.to_dict() == {
        name: (each["transitions"] + 500_000) // 50_000 * 50_000 for name, each in about.items()
    }
    online = rows[rows["phase"] == "online"]
    assert (online["samples"] == online["updates"]).all()


def test_published_seeds_that_end_early_are_reported() -> None:
    messages = analysis.describe_incomplete(published.runs("fig1"))
    assert len(messages) == 13
    assert "walker2d-medium-v2, cql, seed 3: ends at n = 805000, others at 955000" in messages
    assert len(analysis.describe_incomplete(published.runs("finetune"))) == 1
    assert analysis.describe_incomplete(published.runs("mixed")) == []


def test_descriptions_of_the_published_datasets() -> None:
    about = published.datasets("fig1")
    assert list(about)[:4] == [
        *("halfcheetah-random-v2", "hopper-random-v2", "walker2d-random-v2"),
        "halfcheetah-medium-v2",
    ]
    hopper = about["hopper-medium-v2"]
    assert (hopper["env_id"], hopper["transitions"]) == ("Hopper-v4", 999_998)
    assert Reference(**hopper["reference"]).score(hopper["behaviour_return"]) == pytest.approx(44.2796)
    mixed = published.datasets("mixed")["hopper-mixed-v2"]
    assert mixed["transitions"] == sum(mixed["segments"]) == 999_000
    assert mixed["segments_in_turn"] == ["hopper-random-v2", "hopper-medium-v2", "hopper-expert-v2"]
    levels = [Reference(**mixed["reference"]).score(each) for each in mixed["segment_returns"]]
    assert levels == pytest.approx([1.1882, 44.2796, 108.2446])


@given(st.integers(1, 3_000_000), st.integers(START, 2_000_000))
def test_updates_at_is_the_inverse_of_samples_at(updates: int, size: int) -> None:
    n = samples_at(np.array([updates, updates + 1]), size)
    assert n[0] <= n[1]
    assert (samples_at(updates_at(n, size), size) == n).all()


# --- averages ---


def rows_of(curves: Curves, size: int = 10**9, **more: Any) -> pd.DataFrame:
    """Rows of a study on data of `size` transitions."""
    found = [
        {
            "study": "ours",
            "dataset": dataset,
            "algorithm": algorithm,
            "variant": algorithm,
            "seed": seed,
            "phase": "online" if n > size else "offline",
            "regime": "stream",
            "samples": n,
            "updates": n,
            "score": score,
            "return_mean": score,
            "status": "ok" if score is not None else "failed",
        }
        | more
        for (dataset, algorithm, seed), points in curves.items()
        for n, score in points.items()
    ]
    return pd.DataFrame(found).astype({"score": float, "return_mean": float})


def averages(points: dict[int, float | None], size: int) -> dict[int, tuple[float, int]]:
    """The mean and the number of evaluations, by x."""
    rows = analysis.with_values(rows_of({("d", "iql", 0): points}, size))
    table = published.average_as_published(rows, size)
    return {x: (s, e) for x, s, e in table[["samples", "score", "evaluations"]].to_numpy().tolist()}


def test_a_value_averages_the_evaluations_in_the_50_000_updates_up_to_it() -> None:
    points = {5_000: 9.0, 5_001: 1.0, 30_000: 2.0, 55_000: 6.0, 55_001: 10.0, 105_000: 20.0, 160_000: 7.0}
    # The first point is the agent at n = T0; there is none between 105 000 and 155 000; and the run ends
    # before the end of the 50 000 updates that include 160 000.
    assert averages(points, 10**6) == {55_000: (3.0, 3), 105_000: (15.0, 2)}


def test_the_last_offline_x_is_the_end_of_the_data() -> None:
    points = {100_000: 0.0, 110_000: 4.0, 152_000: 8.0}
    assert averages(points, 152_000) == {105_000: (0.0, 1), 152_000: (6.0, 2)}


def test_online_n_equals_the_number_of_updates() -> None:
    points = {110_000: 4.0, 120_000: 6.0, 130_000: 8.0, 150_000: 10.0, 200_000: 1.0}
    assert averages(points, 120_000) == {150_000: (7.0, 4), 200_000: (1.0, 1)}


def test_a_value_with_a_missing_evaluation_is_left_out() -> None:
    points: dict[int, float | None] = {40_000: 1.0, 55_000: 1.0, 80_000: 1.0, 105_000: None}
    assert averages(points, 10**6) == {55_000: (1.0, 2)}


# --- comparison ---

X = (55_000, 105_000, 155_000)
NAME = "hopper-medium-v2"
ABOUT = {name: each | {"digest": ""} for name, each in published.datasets("fig1").items()}


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the published runs by runs of these seeds."""

    def replace(*seeds: tuple[float, ...]) -> None:
        curves = {(NAME, "iql", seed): dict(zip(X, values)) for seed, values in enumerate(seeds)}  # noqa: B905
        rows = rows_of(curves, study="published")
        monkeypatch.setattr(comparison, "runs", lambda figure: rows)

    return replace


def compared(*seeds: tuple[float | None, ...], **more: Any) -> dict[str, Any]:
    """The one line of the comparison."""
    curves = {(NAME, "iql", seed): dict(zip(X, values)) for seed, values in enumerate(seeds)}  # noqa: B905
    table, _ = published.compare(rows_of(curves, **more), ABOUT)
    (line,) = table.to_dict("records")
    return line


def test_inside_and_area_match_hand_computed_values(publish: Callable[..., None]) -> None:
    publish((10.0, 20.0, 30.0), (20.0, 30.0, 50.0))
    line = compared((15.0, 40.0, 30.0))
    assert (line["compared"], line["points"], line["inside"]) == (3, 3, 2)  # 15, and 30 at the edge
    # Ours (15/2 + 40 + 30/2) / 2 = 31.25; theirs 20 and 32.5. Each of the two seeds is drawn twice in a
    # quarter of the repetitions.
    assert line["estimate"] == pytest.approx(5.0)
    assert (line["low"], line["high"]) == pytest.approx((-1.25, 11.25))
    assert (line["seeds"], line["published_seeds"], line["evaluations"]) == (1, 2, 1.0)


def test_inside_compares_the_mean_of_our_seeds(publish: Callable[..., None]) -> None:
    publish((10.0, 10.0, 10.0), (12.0, 12.0, 12.0))
    line = compared((0.0, 11.0, 0.0), (22.0, 11.0, 30.0))
    assert (line["inside"], line["compared"], line["seeds"]) == (2, 3, 2)


def test_only_x_at_which_every_seed_has_a_value_are_compared(publish: Callable[..., None]) -> None:
    publish((10.0, 20.0, 99.0), (20.0, 30.0))
    line = compared((15.0, 25.0, 0.0))
    assert (line["compared"], line["points"], line["inside"]) == (2, 3, 2)
    assert line["estimate"] == pytest.approx(20.0 - 20.0)
    publish((10.0, 20.0, 30.0), (20.0, 30.0, 50.0))
    assert compared((15.0, 25.0, 40.0), (15.0, 25.0))["compared"] == 2
    assert compared((15.0, 25.0, 40.0), (15.0, None, None))["compared"] == 1


def test_a_single_x_has_no_area(publish: Callable[..., None]) -> None:
    publish((10.0, 20.0), (20.0, 30.0))
    line = compared((15.0,))
    assert (line["compared"], line["inside"]) == (1, 1)
    assert np.isnan([line["estimate"], line["low"], line["high"]]).all()


def test_the_published_runs_lie_within_their_own_spread() -> None:
    rows = published.runs("fig1")
    rows = rows[rows["dataset"] == "walker2d-medium-v2"].assign(study="ours")
    table, without = published.compare(rows, ABOUT)
    assert without == {}
    assert table["algorithm"].tolist() == ["awac", "bc", "cql", "iql", "td3_bc"]
    assert (table["inside"] == table["compared"]).all()
    assert table["compared"].tolist() == [19, 19, 16, 19, 16]  # a seed of CQL and one of TD3+BC end early
    assert table["points"].tolist() == [19] * 5
    assert table["estimate"].abs().max() < 1e-9
    assert (table["low"] < 0).all()
    assert (table["high"] > 0).all()


# --- matching ---


def about_mixed(**other: Any) -> dict[str, Any]:
    return {"hopper-mixed": published.datasets("mixed")["hopper-mixed-v2"] | other}


def test_datasets_with_an_online_phase_match_the_finetune_figure() -> None:
    offline = rows_of({(NAME, "iql", 0): {10: 1.0}, ("hopper-random-v2", "bc", 0): {10: 1.0}})
    online = rows_of({(NAME, "iql", 0): {1_000_001: 1.0}}, 10**6)
    found, without = published.matching_runs(pd.concat([offline, online]), ABOUT)
    assert without == {}
    assert {name: each.figure for name, each in found.items()} == {
        NAME: "finetune",
        "hopper-random-v2": "fig1",
    }
    assert set(found[NAME].rows["algorithm"]) == {"iql"}
    assert set(found[NAME].rows["dataset"]) == {NAME}
    assert found[NAME].rows["samples"].max() == 1_450_000


def test_mixed_datasets_match_by_their_parts() -> None:
    rows = rows_of({("hopper-mixed", "bc", 0): {10: 1.0}})
    found, _ = published.matching_runs(rows, about_mixed())
    assert (found["hopper-mixed"].figure, found["hopper-mixed"].size) == ("mixed", 999_000)
    assert set(found["hopper-mixed"].rows["dataset"]) == {"hopper-mixed"}
    for other in ({"segments_in_turn": []}, {"segments": [1000, 1000, 1000]}):
        found, without = published.matching_runs(rows, about_mixed(**other))
        assert (found, without) == ({}, {"hopper-mixed": comparison.UNKNOWN})


def test_reasons_why_a_dataset_has_no_published_runs() -> None:
    returns = rows_of({(NAME, "iql", 0): {10: 1.0}}).assign(score=np.nan)
    reason = {NAME: "not in scores between D4RL's reference returns"}
    assert published.matching_runs(returns, ABOUT) == ({}, reason)
    scale = {"minimum": 0.0, "maximum": 1.0, "source": "other"}
    rows = rows_of({(NAME, "iql", 0): {10: 1.0}})
    assert published.matching_runs(rows, {NAME: ABOUT[NAME] | {"reference": scale}}) == ({}, reason)
    assert published.matching_runs(rows.assign(algorithm="sac"), ABOUT) == (
        {},
        {NAME: "the paper has none of its algorithms (sac)"},
    )
    # Runs without data are skipped.
    nothing = {NAME: ABOUT[NAME] | {"transitions": 0}}
    assert published.matching_runs(rows, nothing) == ({}, {})


def test_reasons_are_formatted_as_one_line() -> None:
    assert published.format_reasons({"a": "too short", "b": "unknown", "c": "too short"}) == (
        "a, c: too short; b: unknown"
    )


# --- differences of the protocol ---


def resolved(**settings: Any) -> dict[str, Any]:
    return {
        "protocol": asdict(Protocol(**settings)),
        "evaluation": asdict(Evaluation()),
        "online": asdict(Online()),
    }


def test_differences_of_a_strict_study_are_listed() -> None:
    settings, bugs = published.protocol_differences(resolved(grow_by=4), "fig1", {"td3_bc", "bc"})
    for part in ("grow_by 4 (1)", "normalizer visible (full)", "reward_scale reference (full)"):
        assert part in settings
    assert "learning_rate_decay False (True)" in settings
    assert "evaluations at 20 points, of 10 episodes (every 5000, CQL's 10000" in settings
    assert "target noise" in bugs
    assert "CQL" not in bugs


def test_a_study_with_the_paper_preset_differs_in_its_evaluations_only() -> None:
    protocol, evaluation = PRESETS["paper"]
    study = {"protocol": asdict(protocol), "evaluation": asdict(evaluation)}
    (settings,) = published.protocol_differences(study, "fig1", {"bc"})
    assert settings.startswith("fig1: settings, the paper's in brackets: evaluations every 5000, of 10 epi")


def test_differences_depend_on_the_figure() -> None:
    (settings,) = published.protocol_differences(resolved(order="segments"), "mixed", {"iql"})
    assert "window None (200000)" in settings
    assert "order" not in settings
    settings, bugs = published.protocol_differences(resolved(), "finetune", {"iql"})
    assert "learning_rate_decay" not in settings  # none if an online phase follows
    assert "timeouts" in bugs


# --- the commands ---


def write(out: Path, curves: Curves, about: dict[str, dict[str, Any]] = ABOUT) -> Path:
    """Writes a study directory with these curves."""
    algorithms = dict.fromkeys(algorithm for _, algorithm, _ in curves)
    out.mkdir()
    atomic_io.save_json(
        out / "study.json",
        resolved()
        | {
            "datasets": {name: about[name] | {"digest": ""} for name, _, _ in curves},
            "algorithms": {name: {"algorithm": name, "config": {}} for name in algorithms},
            "invocations": [],
        },
    )
    for (dataset, algorithm, seed), points in curves.items():
        run = Run(out, dataset, algorithm, seed)
        run.open(None)
        for n, score in points.items():
            run.append(
                Row(
                    study=out.name,
                    dataset=dataset,
                    algorithm=algorithm,
                    variant=algorithm,
                    seed=seed,
                    phase="online" if n > about[dataset]["transitions"] else "offline",
                    regime="stream",
                    samples=n,
                    env_steps=0,
                    updates=n,
                    episode_returns=[],
                    episode_lengths=[],
                    episode_successes=None,
                    return_mean=score,
                    score=score,
                    status="failed" if score is None else "ok",
                    train_seconds=0.0,
                    eval_seconds=0.0,
                    metrics={},
                )
            )
        run.close()
    return out


SIMILAR: Curves = {(NAME, "iql", seed): {5_000: 30.0, 55_000: 34.0, 105_000: 34.0} for seed in (0, 1)}


@pytest.mark.parametrize("figure", published.FIGURES)
def test_published_draws_a_figure_of_the_paper(seqeval: Seqeval, tmp_path: Path, figure: str) -> None:
    ended = seqeval("published", "plot", "--figure", figure, "--out", tmp_path / "new" / "figure.svg")
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'new' / 'figure.svg'}\n")
    assert "note: a point is the mean of a seed's evaluations in the 50 000 updates up to it" in ended.err
    text = (tmp_path / "new" / "figure.svg").read_text()
    labels = [label.strip() for label in re.findall(r">([^<>]+)</text>", text)]
    assert set(published.datasets(figure)) <= set(labels)
    for name in ("awac", "bc", "cql", "iql", "td3_bc"):
        assert sum(label.split()[0] == name for label in labels) == 1  # once, in the legend
    assert labels.count("online") == (12 if figure == "finetune" else 0)
    assert labels.count("medium") == (3 if figure == "mixed" else 0)


def test_plot_draws_published_runs_behind_ours_and_names_datasets_without_them(
    seqeval: Seqeval, tmp_path: Path
) -> None:
    curves = SIMILAR | {("pendulum-replay", "iql", 0): {5_000: 1.0, 20_000: 2.0}}
    about = ABOUT | {"pendulum-replay": ABOUT[NAME] | {"env_id": "Pendulum-v1", "transitions": 20_000}}
    out = write(tmp_path / "run", curves, about)
    ended = seqeval("plot", out, "--published", "--out", tmp_path / "figure.svg")
    assert ended.code == 0
    assert ended.err == f"note: no published runs: pendulum-replay: {comparison.UNKNOWN}\n"
    assert "published runs" in (tmp_path / "figure.svg").read_text()
    assert seqeval("plot", out, "--out", tmp_path / "figure.svg").err == ""
    assert "published runs" not in (tmp_path / "figure.svg").read_text()


def test_plot_without_a_published_dataset_draws_our_curves(seqeval: Seqeval, tmp_path: Path) -> None:
    curves: Curves = {("other", "iql", 0): {5_000: 1.0, 20_000: 2.0}}
    out = write(tmp_path / "run", curves, {"other": ABOUT[NAME]})
    ended = seqeval("plot", out, "--published", "--out", tmp_path / "figure.svg")
    assert (ended.code, ended.err) == (0, f"note: no published runs: other: {comparison.UNKNOWN}\n")
    assert "published runs" not in (tmp_path / "figure.svg").read_text()


def test_compare_prints_a_row_per_line_and_the_differences(seqeval: Seqeval, tmp_path: Path) -> None:
    more: Curves = {(NAME, "sac", 0): {5_000: 1.0, 105_000: 1.0}, ("other", "bc", 0): {5_000: 1.0}}
    out = write(tmp_path / "run", SIMILAR | more, ABOUT | {"other": ABOUT[NAME]})
    ended = seqeval("compare", out, "--published")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].split()[:4] == ["dataset", "algorithm", "figure", "seeds"]
    theirs = published.runs("fig1")
    theirs = theirs[(theirs["dataset"] == NAME) & (theirs["algorithm"] == "iql")]
    two = theirs[theirs["samples"] <= 105_000].groupby("seed")["score"].mean()
    difference = f"{34.0 - two.mean():+.1f}"
    assert lines[1].split()[:12] == [
        *(NAME, "iql", "fig1", "2", str(len(two)), "2", "of", "19", "1.0", "100%", "(2)", difference)
    ]
    assert "learning_rate_decay False (True)" in ended.out
    reasons = {f"other: {comparison.UNKNOWN}", f"{NAME} with sac: not an algorithm of the paper"}
    assert set(lines[-1].removeprefix("not compared: ").split("; ")) == reasons


def test_compare_reports_incomplete_seeds(seqeval: Seqeval, tmp_path: Path) -> None:
    curves = SIMILAR | {(NAME, "iql", 2): {5_000: 30.0, 55_000: 34.0, 105_000: None}}
    ended = seqeval("compare", write(tmp_path / "run", curves), "--published")
    assert ended.code == 0
    assert ended.out.splitlines()[1].split()[5:8] == ["1", "of", "19"]
    assert ended.err == f"note: {NAME}, iql, seed 2: failed from n = 105000 on\n"


@pytest.mark.parametrize(
    ("curves", "reason"),
    [
        ({("other", "iql", 0): {5_000: 1.0, 105_000: 1.0}}, f"other: {comparison.UNKNOWN}"),
        (
            {(NAME, "iql", 0): {5_000: 1.0, 54_999: 1.0}},
            f"{NAME}: ends at n = 54999, before the first published point, 55000",
        ),
        ({(NAME, "sac", 0): {5_000: 1.0}}, f"{NAME}: the paper has none of its algorithms (sac)"),
        (
            {(NAME, "iql", 0): {5_000: 1.0, 55_000: None}},
            f"{NAME} with iql: no published point where every seed has a value",
        ),
    ],
)
def test_compare_refuses_studies_without_a_comparable_line(
    seqeval: Seqeval, tmp_path: Path, curves: Curves, reason: str
) -> None:
    out = write(tmp_path / "run", curves, ABOUT | {"other": ABOUT[NAME]})
    line = refused(seqeval("compare", out, "--published"))
    assert line == f"seqeval: nothing to compare with the published runs: {reason}\n"


def test_compare_refuses_returns(seqeval: Seqeval, tmp_path: Path) -> None:
    about = {NAME: ABOUT[NAME] | {"reference": {"minimum": 0.0, "maximum": 9.0, "source": "other"}}}
    line = refused(seqeval("compare", write(tmp_path / "run", SIMILAR, about), "--published"))
    assert f"{NAME}: not in scores between D4RL's reference returns" in line


def test_compare_requires_the_published_flag(seqeval: Seqeval, tmp_path: Path) -> None:
    assert "--published" in refused(seqeval("compare", write(tmp_path / "run", SIMILAR)))
    assert "no study here" in refused(seqeval("compare", tmp_path / "nowhere", "--published"))


def test_published_refuses_unknown_file_endings(seqeval: Seqeval, tmp_path: Path) -> None:
    line = refused(seqeval("published", "plot", "--figure", "mixed", "--out", tmp_path / "figure.jpeg"))
    assert ".png, .pdf or .svg" in line


def test_compare_raises_a_user_error() -> None:
    with pytest.raises(UserError, match="nothing to compare"):
        published.compare(rows_of({("other", "iql", 0): {5_000: 1.0}}), {"other": ABOUT[NAME]})
