"""`seqeval plot --figure` and `seqeval table`, on run directories that nobody trained."""

from __future__ import annotations

import io
from pathlib import Path

import made_up
import numpy as np
import pandas as pd
import pytest
from conftest import Seqeval, refused

from seqeval import analysis, plots
from seqeval.analysis import tables
from seqeval.cli import results

OVER_DATASETS = ["aggregate", "improvement", "intervals", "profile", "ranks"]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return made_up.write(tmp_path, made_up.rows(study="run"))


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    """A seed of mine on two ends early, and all of bc's on three."""
    rows = made_up.rows(study="torn")
    mine = (rows["dataset"] == "two") & (rows["variant"] == "mine") & (rows["seed"] == 1)
    theirs = (rows["dataset"] == "three") & (rows["variant"] == "bc")
    return made_up.write(tmp_path, rows[~((mine | theirs) & (rows["samples"] == made_up.SIZE))])


# --- plot --figure ---


@pytest.mark.parametrize("figure", [*OVER_DATASETS, "curves"])
def test_each_figure_is_drawn_as_png_and_pdf(
    seqeval: Seqeval, finished: Path, tmp_path: Path, figure: str
) -> None:
    out = tmp_path / "figures" / f"{figure}.png"
    ended = seqeval("plot", finished, "--figure", figure, "--out", out)
    assert ended == (0, f"{out}\n{out.with_suffix('.pdf')}\n", "")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_a_figure_is_drawn_as_svg_with_its_notes_on_stderr(seqeval: Seqeval, tmp_path: Path) -> None:
    rows = made_up.rows(study="run")
    rows.loc[rows["dataset"] == "two", "score"] = np.nan
    out = tmp_path / "a.svg"
    ended = seqeval("plot", made_up.write(tmp_path, rows), "--figure", "aggregate", "--out", out)
    assert ended == (0, f"{out}\n", "note: no scores, so not in statistics over datasets: two\n")
    text = out.read_text()
    assert "IQM of scores" in text
    assert "2 datasets, 3 seeds each" in text


def test_sensitivity_is_drawn_of_several_directories(seqeval: Seqeval, tmp_path: Path) -> None:
    folders = [
        made_up.write(tmp_path, made_up.rows(study=f"K{k}"), updates_per_growth=k, grow_by=16) for k in (1, 4)
    ]
    out = tmp_path / "s.svg"
    assert seqeval("plot", *folders, "--figure", "sensitivity", "--out", out).code == 0
    assert "K: updates between arrivals" in out.read_text()
    line = refused(seqeval("plot", folders[0], "--figure", "sensitivity", "--out", tmp_path / "no.svg"))
    assert "name several run directories" in line
    assert not (tmp_path / "no.svg").exists()


@pytest.mark.parametrize("name", ["aggregat", "card", "style", "report", ""])
def test_a_figure_that_is_not_there_is_refused_with_those_that_are(
    seqeval: Seqeval, finished: Path, tmp_path: Path, name: str
) -> None:
    line = refused(seqeval("plot", finished, f"--figure={name}", "--out", tmp_path / "a.png"))
    assert f"no figure is called {name!r}" in line
    known = "aggregate, curves, improvement, intervals, profile, ranks, sensitivity"
    assert line.endswith(f"; there are {known}\n")
    assert ("did you mean 'aggregate'?" in line) == (name == "aggregat")


def test_a_new_figure_is_a_new_file(
    seqeval: Seqeval, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "wins.py").write_text(
        "from matplotlib.figure import Figure\n"
        "def figure(rows, studies):\n"
        "    drawn = Figure()\n"
        "    drawn.suptitle(f'{len(rows)} rows of {list(studies)}')\n"
        "    return drawn, ['it is new']\n"
    )
    monkeypatch.setattr(plots, "__path__", [*plots.__path__, str(tmp_path / "more")])
    out = tmp_path / "w.svg"
    ended = seqeval("plot", finished, "--figure", "wins", "--out", out)
    assert ended == (0, f"{out}\n", "note: it is new\n")
    assert "54 rows of" in out.read_text()


def test_published_runs_go_behind_curves_alone(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    ended = seqeval("plot", finished, "--figure", "ranks", "--published", "--out", tmp_path / "a.png")
    assert "--published needs --figure curves" in refused(ended)


# --- what is not complete ---


@pytest.mark.parametrize("command", [("plot", "--figure", "aggregate", "--out", "a.svg"), ("table",)])
def test_seeds_and_lines_that_are_not_complete_are_refused(
    seqeval: Seqeval, torn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(seqeval(*command, torn))
    assert "two, mine, seed 1: ends at n = 2000, others at 3000" in line
    assert "--leave-out-incomplete" in line
    ended = seqeval(*command, torn, "--leave-out-incomplete")
    assert ended.code == 0
    assert ended.err.splitlines()[:2] == [
        "note: left out of the statistics: two, mine, seed 1: ends at n = 2000, others at 3000",
        "note: left out of the statistics: three, bc: ends at n = 2000 of 3000",
    ]


def test_a_line_of_which_every_seed_stopped_is_refused(seqeval: Seqeval, tmp_path: Path) -> None:
    rows = made_up.rows(("mine",), ("one",), study="run", points=(1000, 2000))
    path = made_up.write(tmp_path, rows)
    assert "one, mine: ends at n = 2000 of 3000: statistics need finished" in refused(seqeval("table", path))
    assert "no line is left" in refused(seqeval("table", path, "--leave-out-incomplete"))


def test_an_online_phase_that_stopped_is_refused() -> None:
    rows = made_up.rows(points=(1000, made_up.SIZE, made_up.SIZE + 100))
    rows = analysis.with_planned_end(rows, made_up.studies(rows))
    same, notes = analysis.complete_rows(rows)
    assert (len(same), notes) == (len(rows), [])
    stopped = rows[(rows["samples"] <= made_up.SIZE) | (rows["dataset"] != "one") | (rows["variant"] != "bc")]
    kept, notes = analysis.complete_rows(stopped, leave_out=True)
    assert notes == ["left out of the statistics: one, bc: ends at n = 3000 of 3100"]
    assert len(kept) == len(stopped) - 3 * 2


def test_curves_show_incomplete_seeds_unless_these_are_left_out(
    seqeval: Seqeval, torn: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c.svg"
    shown = seqeval("plot", torn, "--out", out)
    assert shown.err == "note: two, mine, seed 1: ends at n = 2000, others at 3000\n"
    assert "2 of 3 seeds" in out.read_text()
    left_out = seqeval("plot", torn, "--out", out, "--leave-out-incomplete")
    assert "note: left out of the statistics: two, mine, seed 1" in left_out.err
    assert "2 of 3 seeds" not in out.read_text()


# --- table ---


def test_the_table_is_printed_as_markdown_unless_it_is_asked_for_otherwise(
    seqeval: Seqeval, finished: Path
) -> None:
    rows = made_up.rows(study="run")
    expected, _ = tables.collect(results.read("table", [finished])[0])
    ended = seqeval("table", finished)
    assert ended == (0, tables.markdown(expected), "")
    assert seqeval("table", finished, "--format", "latex").out == tables.latex(expected)
    csv = pd.read_csv(io.StringIO(seqeval("table", finished, "--format", "csv").out))
    ends = csv[(csv["statistic"] == "final") & csv["dataset"].notna()].set_index(["dataset", "variant"])
    assert ends["estimate"].to_dict() == pytest.approx(
        analysis.final_values(rows).groupby(["dataset", "variant"])["value"].mean().to_dict()
    )


def test_the_table_is_written_into_a_file(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "table.tex"
    ended = seqeval("table", finished, "--format", "latex", "--out", out)
    assert ended == (0, f"{out}\n", "")
    assert out.read_text() == seqeval("table", finished, "--format", "latex").out
    assert [file.name for file in out.parent.iterdir()] == ["table.tex"]


def test_two_studies_are_in_one_table(seqeval: Seqeval, finished: Path, tmp_path: Path) -> None:
    other = made_up.write(tmp_path / "b", made_up.rows(("mine",), study="other"))
    out = seqeval("table", finished, other).out
    assert "| | bc | mine (run) | mine (other) |" in out


def test_a_table_of_nothing_or_of_two_data_sets_of_one_name_is_refused(
    seqeval: Seqeval, finished: Path, tmp_path: Path
) -> None:
    assert "table: give at least one study directory" in refused(seqeval("table"))
    assert "no study here" in refused(seqeval("table", tmp_path / "nowhere"))
    other = made_up.write(tmp_path / "b", made_up.rows(study="other"))
    file = other / "study.json"
    file.write_text(file.read_text().replace("digest of two", "another"))
    assert "its data called 'two' are not those of" in refused(seqeval("table", finished, other))
