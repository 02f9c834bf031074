"""`seqeval plot --figure` and `seqeval table` on made-up study directories."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest
from conftest import Seqeval, refused

from seqeval import analysis, loading, plots
from seqeval.analysis import tables
from seqeval.cli import results
from seqeval.errors import UserError

OVER_DATASETS = ["aggregate", "improvement", "intervals", "profile", "ranks"]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return made_up.write(tmp_path, made_up.rows(study="run"))


@pytest.fixture
def incomplete(tmp_path: Path) -> Path:
    """A study in which seed 1 of `mine` on `two` and all seeds of `bc` on `three` end early."""
    rows = made_up.rows(study="incomplete")
    seed = (rows["dataset"] == "two") & (rows["variant"] == "mine") & (rows["seed"] == 1)
    line = (rows["dataset"] == "three") & (rows["variant"] == "bc")
    return made_up.write(tmp_path, rows[~((seed | line) & (rows["samples"] == made_up.SIZE))])


# --- plot --figure ---


@pytest.mark.parametrize("figure", [*OVER_DATASETS, "curves"])
def test_every_figure_is_written_as_png_and_pdf(
    seqeval: Seqeval, finished: Path, tmp_path: Path, figure: str
) -> None:
    out = tmp_path / "figures" / f"{figure}.png"
    ended = seqeval("plot", finished, "--figure", figure, "--out", out)
    assert ended == (0, f"{out}\n{out.with_suffix('.pdf')}\n", "")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_a_figure_is_written_as_svg_with_notes_on_stderr(seqeval: Seqeval, tmp_path: Path) -> None:
    rows = made_up.rows(study="run")
    rows.loc[rows["dataset"] == "two", "score"] = np.nan
    out = tmp_path / "a.svg"
    ended = seqeval("plot", made_up.write(tmp_path, rows), "--figure", "aggregate", "--out", out)
    assert ended == (0, f"{out}\n", "note: no scores, so not in statistics over datasets: two\n")
    text = out.read_text()
    assert "IQM of scores" in text
    assert "2 datasets, 3 seeds each" in text


def test_sensitivity_needs_several_directories(seqeval: Seqeval, tmp_path: Path) -> None:
    folders = [
        made_up.write(tmp_path, made_up.rows(study=f"K{k}"), updates_per_growth=k, grow_by=16) for k in (1, 4)
    ]
    out = tmp_path / "s.svg"
    assert seqeval("plot", *folders, "--figure", "sensitivity", "--out", out).code == 0
    assert "K: updates between arrivals" in out.read_text()
    line = refused(seqeval("plot", folders[0], "--figure", "sensitivity", "--out", tmp_path / "no.svg"))
    assert "give several study directories" in line
    assert not (tmp_path / "no.svg").exists()


@pytest.mark.parametrize("name", ["aggregat", "card", "style", "report", ""])
def test_an_unknown_figure_is_refused_with_the_known_names(
    seqeval: Seqeval, finished: Path, tmp_path: Path, name: str
) -> None:
    line = refused(seqeval("plot", finished, f"--figure={name}", "--out", tmp_path / "a.png"))
    assert f"figure {name!r} is not known" in line
    known = "aggregate, agreement, best-of-k, choice, curves, improvement, intervals, profile, ranks, "
    assert line.endswith(f"; known figures: {known}sensitivity, setting, tuning-map\n")
    assert ("did you mean 'aggregate'?" in line) == (name == "aggregat")


def test_a_new_figure_is_a_new_file(
    seqeval: Seqeval, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "wins.py").write_text(
        "from matplotlib.figure import Figure\n"
        "from seqeval.plots import FigureKind\n"
        "def figure(rows, options):\n"
        "    drawn = Figure()\n"
        "    drawn.suptitle(f'{len(rows)} rows of {list(rows.study.unique())}')\n"
        "    return drawn\n"
        "FIGURE = FigureKind(figure)\n"
    )
    monkeypatch.setattr(plots, "__path__", [*plots.__path__, str(tmp_path / "more")])
    monkeypatch.setattr(loading, "_files", loading._files.__wrapped__)  # which a process lists once
    out = tmp_path / "w.svg"
    ended = seqeval("plot", finished, "--figure", "wins", "--out", out)
    assert ended == (0, f"{out}\n", "")
    assert "54 rows of" in out.read_text()


def test_published_is_refused_for_other_figures_than_curves(
    seqeval: Seqeval, finished: Path, tmp_path: Path
) -> None:
    ended = seqeval("plot", finished, "--figure", "ranks", "--published", "--out", tmp_path / "a.png")
    assert "--published works only with --figure curves" in refused(ended)


# --- incomplete studies ---


@pytest.mark.parametrize("command", [("plot", "--figure", "aggregate", "--out", "a.svg"), ("table",)])
def test_incomplete_seeds_and_lines_are_refused_unless_left_out(
    seqeval: Seqeval,
    incomplete: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(seqeval(*command, incomplete))
    assert "two, mine, seed 1: ends at n = 2000, others at 3000" in line
    assert "--leave-out-incomplete" in line
    ended = seqeval(*command, incomplete, "--leave-out-incomplete")
    assert ended.code == 0
    assert ended.err.splitlines()[:2] == [
        "note: left out of the statistics: two, mine, seed 1: ends at n = 2000, others at 3000",
        "note: left out of the statistics: three, bc: ends at n = 2000 of 3000",
    ]


def test_a_line_whose_seeds_all_ended_early_is_refused(seqeval: Seqeval, tmp_path: Path) -> None:
    rows = made_up.rows(("mine",), ("one",), study="run", points=(1000, 2000))
    path = made_up.write(tmp_path, rows)
    assert "one, mine: ends at n = 2000 of 3000: statistics need finished" in refused(seqeval("table", path))
    assert "no line is left" in refused(seqeval("table", path, "--leave-out-incomplete"))


def test_an_unfinished_online_phase_is_left_out() -> None:
    rows = made_up.rows(points=(1000, made_up.SIZE, made_up.SIZE + 100))
    rows = analysis.with_planned_end(rows, made_up.studies(rows))
    same, notes = analysis.complete_rows(rows)
    assert (len(same), notes) == (len(rows), [])
    stopped = rows[(rows["samples"] <= made_up.SIZE) | (rows["dataset"] != "one") | (rows["variant"] != "bc")]
    kept, notes = analysis.complete_rows(stopped, leave_out=True)
    assert notes == ["left out of the statistics: one, bc: ends at n = 3000 of 3100"]
    assert len(kept) == len(stopped) - 3 * 2


def test_curves_show_incomplete_seeds_unless_these_are_left_out(
    seqeval: Seqeval, incomplete: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c.svg"
    shown = seqeval("plot", incomplete, "--out", out)
    assert shown.err == "note: two, mine, seed 1: ends at n = 2000, others at 3000\n"
    assert "2 of 3 seeds" in out.read_text()
    left_out = seqeval("plot", incomplete, "--out", out, "--leave-out-incomplete")
    assert "note: left out of the statistics: two, mine, seed 1" in left_out.err
    assert "2 of 3 seeds" not in out.read_text()


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    """A study that planned seeds 0, 1 and 2, without any row of seed 2 of `mine` on `two`."""
    rows = made_up.rows(study="dropped")
    gone = (rows["dataset"] == "two") & (rows["variant"] == "mine") & (rows["seed"] == 2)
    return _planned(made_up.write(tmp_path, rows[~gone]), [0, 1, 2])


def _planned(path: Path, seeds: list[int]) -> Path:
    study = json.loads((path / "study.json").read_text())
    updates = {dataset: dict.fromkeys(study["algorithms"], 1.0) for dataset in study["datasets"]}
    study["invocations"] = [{"seeds": seeds, "updates": updates}]
    (path / "study.json").write_text(json.dumps(study))
    return path


@pytest.mark.parametrize("command", [("plot", "--figure", "ranks", "--out", "a.svg"), ("table",)])
def test_a_planned_seed_without_rows_is_refused_unless_left_out(
    seqeval: Seqeval, dropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "two, mine, seed 2: no rows, although the study planned it"
    line = refused(seqeval(*command, dropped))
    assert text in line
    assert "--leave-out-incomplete" in line
    ended = seqeval(*command, dropped, "--leave-out-incomplete")
    assert ended.code == 0
    assert f"note: left out of the statistics: {text}" in ended.err


def test_curves_note_planned_seeds_without_rows(seqeval: Seqeval, dropped: Path, tmp_path: Path) -> None:
    shown = seqeval("plot", dropped, "--out", tmp_path / "c.svg")
    assert shown.code == 0
    assert shown.err == "note: two, mine, seed 2: no rows, although the study planned it\n"


def test_the_table_names_variants_without_any_rows(seqeval: Seqeval, tmp_path: Path) -> None:
    rows = made_up.rows(study="run")
    path = _planned(made_up.write(tmp_path, rows), [0, 1, 2])
    study = json.loads((path / "study.json").read_text())
    study["algorithms"]["iql"] = study["algorithms"]["bc"]
    (path / "study.json").write_text(json.dumps(study))
    ended = seqeval("table", path)
    assert ended.code == 0
    assert "note: iql: no rows, although run planned it" in ended.err


def test_python_figures_refuse_planned_seeds_without_rows(dropped: Path) -> None:
    rows = results.read("plot", [dropped])
    with pytest.raises(UserError, match=r"two, mine, seed 2: no rows"):
        plots.draw(rows, "ranks")
    with pytest.warns(UserWarning, match=r"left out .* two, mine, seed 2"):
        plots.draw(rows, "ranks", leave_out_incomplete=True)


def test_rows_and_tables_have_the_order_of_the_study(seqeval: Seqeval, tmp_path: Path) -> None:
    path = made_up.write(tmp_path, made_up.rows(("mine", "bc"), ("two", "one"), study="run"))
    rows = results.read("table", [path])
    pairs = list(rows[["dataset", "variant"]].drop_duplicates().itertuples(index=False, name=None))
    assert pairs == [("two", "mine"), ("two", "bc"), ("one", "mine"), ("one", "bc")]
    ends = analysis.last_points(rows)
    assert list(zip(ends["dataset"], ends["variant"], strict=True)) == pairs
    assert "| | mine | bc |" in seqeval("table", path).out


@pytest.mark.parametrize("rows", ["runs/one", pd.DataFrame({"x": [1]})])
def test_figures_need_rows_of_load(rows: Any) -> None:
    with pytest.raises(UserError, match=r"frame of seqeval\.load"):
        plots.draw(rows)


# --- table ---


def test_the_table_is_printed_as_markdown_by_default(seqeval: Seqeval, finished: Path) -> None:
    rows = made_up.rows(study="run")
    expected, _ = tables.collect(results.read("table", [finished]))
    ended = seqeval("table", finished)
    assert ended == (0, tables.markdown(expected), "")
    assert seqeval("table", finished, "--format", "latex").out == tables.latex(expected)
    csv = pd.read_csv(io.StringIO(seqeval("table", finished, "--format", "csv").out))
    ends = csv[(csv["statistic"] == "final") & csv["dataset"].notna()].set_index(["dataset", "variant"])
    assert ends["estimate"].to_dict() == pytest.approx(
        analysis.final_values(rows).groupby(["dataset", "variant"])["value"].mean().to_dict()
    )


def test_the_table_is_written_to_a_file(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "table.tex"
    ended = seqeval("table", finished, "--format", "latex", "--out", out)
    assert ended == (0, f"{out}\n", "")
    assert out.read_text() == seqeval("table", finished, "--format", "latex").out
    assert [file.name for file in out.parent.iterdir()] == ["table.tex"]


def test_one_table_shows_two_studies(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    other = made_up.write(tmp_path / "b", made_up.rows(("mine",), study="other"))
    out = seqeval("table", finished, other).out
    assert "| | bc | mine (run) | mine (other) |" in out


def test_a_table_without_a_study_or_with_two_datasets_of_one_name_is_refused(
    seqeval: Seqeval, finished: Path, tmp_path: Path
) -> None:
    assert "table: give at least one study directory" in refused(seqeval("table"))
    assert "no study here" in refused(seqeval("table", tmp_path / "nowhere"))
    other = made_up.write(tmp_path / "b", made_up.rows(study="other"))
    file = other / "study.json"
    file.write_text(file.read_text().replace("digest of two", "another"))
    assert "its data called 'two' are not those of" in refused(seqeval("table", finished, other))
